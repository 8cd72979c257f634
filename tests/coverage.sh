#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds with gcov, runs the tests that exercise a folder, and prints how many of its lines and branches they reach.
# Ends with 1 when that is less than asked for.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build-coverage
folder=daemon/core
lines=0
branches=0

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

# What drives the core: by itself, under random work, and from outside.
tests=(arena core core-audit core-blocks core-curve core-events core-hazard core-intake core-mrc core-no-memory
	core-loads core-random core-recover core-refusals core-resize core-tier deadline index policy-lru fuzz-core)

# Branches that only a bug of our own takes.
contracts='.*kvp_(assert|implies|unreachable)\(.*'

usage() {
	cat <<END
Usage: tests/coverage.sh [OPTION...] [TEST...]

Runs these tests, or: ${tests[*]}, and the simulation.

  --folder DIR       whose files are counted [$folder]
  --lines N          percent of lines that must be reached [$lines]
  --branches N       percent of branches that must be reached [$branches]
  --build-dir DIR    [build-coverage]
  -h, --help         print this help

Branches of lines with kvp_assert, kvp_implies or kvp_unreachable are not counted.
END
}

while [ $# -gt 0 ]; do
	case $1 in
	--folder | --lines | --branches | --build-dir)
		[ $# -ge 2 ] || die "$1 wants a value; see --help"
		case $1 in
		--folder) folder=$2 ;;
		--lines) lines=$2 ;;
		--branches) branches=$2 ;;
		--build-dir) build=$(realpath -m -- "$2") ;;
		esac
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	-*) die "unknown option '$1'; see --help" ;;
	*) wanted+=("$1") ;;
	esac
	shift
done
[ -z "${wanted+x}" ] || tests=("${wanted[@]}")

# program TEST: what ninja calls it.
program() {
	case $1 in
	fuzz-*) echo "tests/fuzz/$1" ;;
	*) echo "tests/test-$1" ;;
	esac
}

install_packages "${build_packages[@]}" "${coverage_packages[@]}"
find_meson
configure "$build" "$root" --buildtype=debug -Db_coverage=true
programs=()
for test in "${tests[@]}"; do
	programs+=("$(program "$test")")
done
[ -n "${wanted+x}" ] || programs+=(tests/sim/sim)
quietly ninja -C "$build" "${programs[@]}"
find "$build" -name '*.gcda' -delete
"${meson[@]}" test -C "$build" --no-rebuild --print-errorlogs "${tests[@]}" </dev/null
if [ -z "${wanted+x}" ]; then
	"$build/tests/sim/sim" --seed 1 --seeds 4 --steps 20000 --jobs 2 </dev/null
fi

count() {
	gcovr --root "$root" --filter "$root/$folder/" --exclude-unreachable-branches --exclude-throw-branches \
		--exclude-branches-by-pattern "$contracts" "$@" "$build"
}
(cd "$build" && count --fail-under-line "$lines" && count --branches --fail-under-branch "$branches")
