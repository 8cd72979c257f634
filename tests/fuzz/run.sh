#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets with clang, the address and the undefined-behaviour sanitizer, and runs each for a time.
# Prints TAP; an input that fails is left in the build directory and named.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build-fuzz
seconds=60

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

targets=(codec-tile http tier-segment)

usage() {
	cat <<END
Usage: tests/fuzz/run.sh [OPTION...]

  --seconds N        for each target [$seconds]
  --build-dir DIR    [build-fuzz]
  -h, --help         print this help
END
}

while [ $# -gt 0 ]; do
	case $1 in
	--seconds | --build-dir)
		[ $# -ge 2 ] || die "$1 wants a value; see --help"
		if [ "$1" = --seconds ]; then seconds=$2; else build=$(realpath -m -- "$2"); fi
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

install_packages "${build_packages[@]}" clang
find_meson
export CC=clang
configure "$build" "$root" --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true \
	-Dparts=codec -Dc_args=-fsanitize=fuzzer-no-link
printf '1..%d\n' ${#targets[@]}
failed=0
for i in "${!targets[@]}"; do
	target=${targets[$i]}
	ninja -C "$build" "tests/fuzz/fuzz-$target" >"$build/$target.build" 2>&1 </dev/null || {
		cat "$build/$target.build" >&2
		die "fuzz-$target does not build"
	}
	corpus=$build/corpus-$target
	mkdir -p "$corpus"
	result=ok
	(cd "$build" && "tests/fuzz/fuzz-$target" -max_total_time="$seconds" -max_len=70000 -timeout=30 \
		-print_final_stats=1 "$corpus") >"$build/$target.log" 2>&1 </dev/null || result='not ok'
	if [ "$result" != ok ]; then
		failed=1
		tail -60 "$build/$target.log" | sed 's/^/# /'
	fi
	printf '%s %d - fuzz-%s: %s executions\n' "$result" $((i + 1)) "$target" \
		"$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log")"
done
exit $failed
