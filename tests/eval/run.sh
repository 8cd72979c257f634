#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates kvpaged on a model of transformers: makes a venv with what that needs, fetches the model, builds the
# daemon where there is none, and lets evaluate.py do the rest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kvpaged
models=${KVPAGED_MODELS:-$cache}
build=$root/build
venv=${KVPAGED_EVAL_VENV:-$cache/eval-venv}
torch_index=${KVPAGED_TORCH_INDEX-https://download.pytorch.org/whl/cpu}
work=
out=
quick=no
install=yes
more=()

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: tests/eval/run.sh [OPTION...]

What kvpaged does to the answers, the memory and the time of SmolLM2-135M-Instruct in transformers. Writes
docs/evaluation.md, docs/evaluation/results.json and pictures. It takes one to two hours on two cores, and goes on where
it was broken off when it is run again.

  --quick            a little of everything with a small model of random weights, in a minute; writes into --work
  --build DIR        where kvpaged is, or will be built [build]
  --venv DIR         a venv with what tests/eval/requirements.txt names, made when it is missing
                     [\$KVPAGED_EVAL_VENV, or ~/.cache/kvpaged/eval-venv]
  --no-install       install and download nothing: fail when something is missing
  --work DIR         results so far, and what can be made again [build-eval, build-eval/quick]
  --out DIR          where evaluation.md goes [docs, or with --quick the same as --work]
  --stages LIST      only these: errors, adversarial, pages, forced, greedy, follow, first_token, overhead, memory
  --fresh LIST       forget these stages' results first
  --caches LIST      codecs of K/V for the stages forced, greedy and follow: q8/q8,q6/f32
  --threads N        of torch [1]
  --report           only write the report of the results that are there
  -h, --help         print this help

pip takes packages from where it is configured to, usually PyPI. A CPU build of torch is enough: 0.2 GB to download,
1.3 GB for the whole venv. PyPI's for x86-64 brings 2.5 GB of downloads for NVIDIA's processors, so torch alone is also
looked for in $torch_index, PyTorch's own index of CPU builds; \$KVPAGED_TORCH_INDEX names
another one, or none when it is empty. Where that index cannot be reached, the one of PyPI does as well.
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--quick) quick=yes ;;
		--no-install) install=no ;;
		--report) more+=(--report) ;;
		--build | --venv | --work | --out | --stages | --fresh | --caches | --threads)
			[ $# -ge 2 ] || die "$1 wants a value; see --help"
			case $1 in
			--build) build=$(realpath -m -- "$2") ;;
			--venv) venv=$(realpath -m -- "$2") ;;
			--work) work=$(realpath -m -- "$2") ;;
			--out) out=$(realpath -m -- "$2") ;;
			*) more+=("$1" "$2") ;;
			esac
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
}

# Without its dependencies: those come with everything else, from the usual place. Of two builds of the same version pip
# takes the one with a local name, such as +cpu.
install_torch() {
	local index=()
	[ -z "$torch_index" ] || index=(--extra-index-url "$torch_index")
	"$venv/bin/pip" install --quiet --no-deps "${index[@]}" "$(grep '^torch==' "$here/requirements.txt")"
}

# The file that marks a complete venv is a copy of what was installed.
prepare_venv() {
	local marker=$venv/installed-requirements.txt
	if cmp -s "$here/requirements.txt" "$marker"; then
		return
	fi
	[ $install = yes ] || die "no venv in $venv; without --no-install it is made"
	say "installing torch, transformers and others into $venv" >&2
	python3 -m venv "$venv" || die "python3 cannot make a venv (Debian: apt install python3-venv)"
	export PIP_DISABLE_PIP_VERSION_CHECK=1
	if ! install_torch || ! "$venv/bin/pip" install --quiet -r "$here/requirements.txt"; then
		die "pip could not install what $here/requirements.txt names"
	fi
	cp "$here/requirements.txt" "$marker"
}

prepare_build() {
	if [ -x "$build/daemon/kvpaged" ] && [ -e "$build/client/libkvclient.so.0" ]; then
		return
	fi
	[ $install = yes ] || die "no kvpaged in $build; name a build directory with --build"
	install_packages "${build_packages[@]}" >&2
	find_meson
	say "building in $build" >&2
	configure "$build" "$root" --buildtype=release
	quietly "${meson[@]}" compile -C "$build"
}

main() {
	parse "$@"
	prepare_venv
	prepare_build
	if [ $quick = yes ]; then
		work=${work:-$root/build-eval/quick}
		out=${out:-$work}
		more+=(--quick)
	else
		work=${work:-$root/build-eval}
		out=${out:-$root/docs}
		[ $install = no ] || "$root/client/worker/get-smollm2.sh" "$models" >/dev/null
		more+=(--model "$models/SmolLM2-135M-Instruct.Q4_1.gguf")
	fi
	mkdir -p "$work"
	# The model is a file here; nothing is to be looked up elsewhere.
	HF_HUB_OFFLINE=1 KVCLIENT_LIBRARY=$build/client/libkvclient.so.0 PYTHONPATH=$root/client/python \
		exec "$venv/bin/python" "$here/evaluate.py" --root "$root" --kvpaged "$build/daemon/kvpaged" \
		--work "$work" --out "$out" "${more[@]}"
}

main "$@"
