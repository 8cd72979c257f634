#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes tiny.gguf and reference.json again, from Debian packages to the checked file.
#
# usage: train.sh [BUILD_FOLDER]      (default: build/ beside this script)
#
# Nothing is installed on the system: packages are downloaded and unpacked below
# the build folder, and Python packages go into a venv there. Each part is left
# out when its result is there already; remove the folder to start afresh.
# TRAIN_OPTIONS is passed on, for example "--minutes 30" or "--dtype f32" (for a
# CPU without AVX512-BF16 or AMX, where bf16 is slow).
#
# PyPI's torch for x86-64 brings CUDA libraries of some GB. Where a CPU-only
# wheel is at hand, point pip at it with PIP_INDEX_URL or PIP_FIND_LINKS.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${1:-$here/build}

for tool in python3 apt-get dpkg dpkg-deb; do
	command -v "$tool" >/dev/null || { echo "train.sh: $tool is missing" >&2; exit 1; }
done
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
export PYTHONDONTWRITEBYTECODE=1

if [ ! -e "$build/venv/complete" ]; then
	echo "train.sh: making the Python environment"
	python3 -m venv "$build/venv" ||
		{ echo "train.sh: cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
	"$python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 gguf==0.19.0
	: >"$build/venv/complete"
fi
if [ ! -e "$build/manifest.json" ]; then
	"$python" "$here/corpus.py" --build "$build"
fi
if [ ! -e "$build/merges.json" ]; then
	"$python" "$here/bpe.py" --text "$build/train.txt" --vocabulary 2048 \
		--out "$build/merges.json.part"
	mv "$build/merges.json.part" "$build/merges.json"
fi
if [ ! -e "$build/training.json" ]; then
	# shellcheck disable=SC2086 # several options in one variable
	"$python" "$here/train.py" --build "$build" ${TRAIN_OPTIONS:-}
fi
"$python" "$here/export.py" --build "$build" --out "$here/tiny.gguf" \
	--reference "$here/reference.json"
