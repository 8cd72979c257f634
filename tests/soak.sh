#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The real daemon with random clients, kills, restarts and a damaged tier, for hours: descriptors, memory and pages are
# looked at each minute. Prints TAP and a plot; writes a CSV. Builds nothing: give it a build directory.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build-test
seconds=75
seed=1
csv=soak.csv

usage() {
	cat <<END
Usage: tests/soak.sh [OPTION...]

  --hours H        so long
  --seconds S      or so long ($seconds)
  --seed N         what the clients and the mischief do; not how they meet ($seed)
  --build-dir DIR  where kvpaged, kvctl and tests/soak/soak-worker are (build-test)
  --csv FILE       where the figures go, and the plot to FILE.txt ($csv)
  -h, --help       print this help
END
}

bad() {
	echo "soak.sh: $1; see --help" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	-h | --help)
		usage
		exit 0
		;;
	--hours | --seconds | --seed | --build-dir | --csv) [ $# -ge 2 ] || bad "$1 needs a value" ;;
	*) bad "unknown option '$1'" ;;
	esac
	case $1 in
	--build-dir) build=$2 ;;
	--csv) csv=$2 ;;
	*) [[ $2 =~ ^[0-9]+$ ]] || bad "$1 needs a number" ;;&
	--hours) seconds=$(($2 * 3600)) ;;
	--seconds) seconds=$2 ;;
	--seed) seed=$2 ;;
	esac
	shift 2
done

for program in daemon/kvpaged client/kvctl/kvctl tests/soak/soak-worker; do
	[ -x "$build/$program" ] || bad "there is no $build/$program"
done
exec python3 "$root/tests/soak/soak.py" --kvpaged "$build/daemon/kvpaged" --kvctl "$build/client/kvctl/kvctl" \
	--worker "$build/tests/soak/soak-worker" --seconds "$seconds" --seed "$seed" --csv "$csv"
