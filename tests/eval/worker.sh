#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the codecs do to a model's output: greedy tokens equal to the uncompressed cache, and
# perplexity. worker.py says how each number is defined.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
kvworker=${KVWORKER_BIN:-$root/build/client/worker/kvworker}
quick=no
model=
codecs=f16,q8,q6,q5,q4,t8g32,t6g32,t4g32
free=f16,q8,q6,t6g32
more=()

usage() {
	cat <<END
Usage: tests/eval/worker.sh [OPTION...]

All 20 prompts of tests/data/prompts.txt and the text of tests/data/perplexity.txt with SmolLM2-135M-Instruct
(client/worker/get-smollm2.sh downloads it), with attention on decoded and on packed blocks: a quarter of an hour.
Fails when fewer than 99 % of the tokens are equal at q8, in either form.

  --quick           only tokens at q8, with the built-in model: seconds
  --codecs LIST     of K and V, or K/V [$codecs]
  --free LIST       those that also generate freely [$free]
  --model MODEL     another model, as kvworker takes it
  --kvworker PATH   the program [\$KVWORKER_BIN, or build/client/worker/kvworker]
  --threads N       threads of kvworker
  --json            one JSON object a line
  -h, --help        print this help
END
}

die() {
	printf 'tests/eval/worker.sh: %s\n' "$*" >&2
	exit 1
}

while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=yes ;;
	--json) more+=(--json) ;;
	--codecs | --free | --model | --kvworker | --threads)
		[ $# -ge 2 ] || die "$1 wants a value; see --help"
		case $1 in
		--codecs) codecs=$2 ;;
		--free) free=$2 ;;
		--model) model=$2 ;;
		--kvworker) kvworker=$2 ;;
		--threads) more+=(--threads "$2") ;;
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

[ -x "$kvworker" ] || die "no program $kvworker: build it, or name it with --kvworker"

if [ $quick = yes ]; then
	more+=(--codecs q8)
	model=${model:-tiny}
else
	more+=(--codecs "$codecs" --free "$free" --text "$root/tests/data/perplexity.txt")
	model=${model:-smollm2}
fi
exec python3 "$here/worker.py" --kvworker "$kvworker" --model "$model" --prompts "$root/tests/data/prompts.txt" \
	--q8-least 0.99 "${more[@]}"
