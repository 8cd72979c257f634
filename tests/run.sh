#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, builds with sanitizers, runs everything that finishes in minutes, and says how many
# tests passed. The last line is "N passed, N failed" or "N passed, N failed, N skipped"; the exit status is 0 when none
# failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build-test
tsan_build=$root/build-tsan
release_build=$root/build
cross_build=$root/build-aarch64
fuzz_build=$root/build-fuzz
threads=yes
cross=yes
fuzz_seconds=60
sim=yes
soak_seconds=75
model=yes
packages=yes
quickstart=yes

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: tests/run.sh [OPTION...]

Installs what is missing (as root or with sudo), builds kvpaged with the address and undefined-behaviour sanitizers
into build-test/ and runs all tests; then builds with the thread sanitizer into build-tsan/ and runs those tests that
use threads; then builds the codecs for aarch64 into build-aarch64/ and runs their tests in an emulator; then builds the
fuzz targets with clang into build-fuzz/ and runs each for $fuzz_seconds seconds; then checks the model of reading
without a system call with spin; then builds the Debian packages and what the Dockerfile makes, and tries both in a
Debian of their own; then runs deploy/quickstart.sh, which builds without sanitizers into build/; then simulates a
million steps there, and lets the real daemon soak for $soak_seconds seconds.

  --build-dir DIR    build in DIR, DIR-tsan, DIR-aarch64, DIR-fuzz and DIR-release instead
  --no-threads       leave the thread sanitizer out
  --no-cross         leave aarch64 out
  --fuzz-seconds N   run each fuzz target for so long; 0 leaves them out
  --no-sim           leave the simulation without sanitizers and the soak out
  --soak-seconds N   the soak takes so long; 0 leaves it out
  --no-model         leave the model out
  --no-packages      leave the Debian packages and the Dockerfile out
  --no-quickstart    leave deploy/quickstart.sh out
  -h, --help         print this help
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--build-dir)
			[ $# -ge 2 ] || die "--build-dir needs a directory"
			build=$(realpath -m -- "$2")
			tsan_build=$build-tsan
			release_build=$build-release
			cross_build=$build-aarch64
			fuzz_build=$build-fuzz
			shift
			;;
		--no-threads) threads=no ;;
		--no-cross) cross=no ;;
		--fuzz-seconds)
			[[ ${2:-} =~ ^[0-9]+$ ]] || die "--fuzz-seconds needs a number"
			fuzz_seconds=$2
			shift
			;;
		--no-sim) sim=no ;;
		--soak-seconds)
			[[ ${2:-} =~ ^[0-9]+$ ]] || die "--soak-seconds needs a number"
			soak_seconds=$2
			shift
			;;
		--no-model) model=no ;;
		--no-packages) packages=no ;;
		--no-quickstart) quickstart=no ;;
		-h | --help)
			usage
			exit 0
			;;
		*) die "unknown option '$1'; see --help" ;;
		esac
		shift
	done
}

# prepare DIRECTORY SANITIZERS OPTION...: a configured and built directory.
prepare() {
	configure "$1" "$root" --buildtype=debugoptimized --werror -Db_sanitize="$2" -Db_lundef=false "${@:3}"
	quietly "${meson[@]}" compile -C "$1"
}

# run_tests DIR ARGUMENT...: the counts are taken from meson's log afterwards, so a failure does not end the script.
run_tests() {
	local directory=$1
	shift
	"${meson[@]}" test -C "$directory" --no-rebuild --print-errorlogs "$@" </dev/null || true
}

# prepare_cross DIRECTORY: likewise, the codecs for aarch64. Without sanitizers: the emulator is slow enough as it is.
prepare_cross() {
	configure "$1" "$root" --cross-file "$root/tests/cross/aarch64.ini" -Dparts=codec --buildtype=debugoptimized \
		--werror
	quietly "${meson[@]}" compile -C "$1"
}

# run_tap NAME LOG COMMAND...: a script that prints TAP; leaves a record as meson's log has them.
run_tap() {
	local tap result=OK
	tap=$("${@:3}" </dev/null) || result=FAIL
	printf '%s\n' "$tap"
	python3 -c 'import json, sys
print(json.dumps({"name": sys.argv[1], "result": sys.argv[2], "stdout": sys.argv[3]}))' "$1" "$result" "$tap" >"$2"
}

# run_quickstart LOG: leaves a record as meson's log has them.
run_quickstart() {
	local result=OK
	"$root/deploy/quickstart.sh" --build-dir "$release_build" </dev/null || result=FAIL
	printf '{"name": "quickstart", "result": "%s", "stdout": ""}\n' "$result" >"$1"
}

main() {
	parse "$@"
	if [ "$cross" = yes ] && [ "$(uname -m)" = aarch64 ]; then
		say "this machine is an aarch64 one: what runs here tests its codecs, and nothing is cross-built"
		cross=no
	fi
	[ "$cross" = yes ] || cross_packages=()
	install_packages "${build_packages[@]}" make "${bench_packages[@]}" "${shell_packages[@]}" \
		"${docs_packages[@]}" "${metrics_packages[@]}" "${service_packages[@]}" "${deploy_test_packages[@]}" \
		"${python_packages[@]}" "${cross_packages[@]}"
	find_meson
	local logs=("$build/meson-logs/testlog.json")
	say "building with address and undefined-behaviour sanitizers in $build"
	prepare "$build" address,undefined
	run_tests "$build"
	if [ "$threads" = yes ]; then
		say "building with the thread sanitizer in $tsan_build"
		# This sanitizer cannot see fences; tests/unit/test-reader-threads.c says what it can see without.
		prepare "$tsan_build" thread -Dc_args=-Wno-tsan
		run_tests "$tsan_build" --suite threads
		logs+=("$tsan_build/meson-logs/testlog.json")
	fi
	if [ "$cross" = yes ]; then
		say "building the codecs for aarch64 in $cross_build"
		prepare_cross "$cross_build"
		run_tests "$cross_build"
		logs+=("$cross_build/meson-logs/testlog.json")
	fi
	if [ "$fuzz_seconds" -gt 0 ]; then
		say "fuzzing in $fuzz_build"
		run_tap fuzz "$build/meson-logs/fuzz.json" \
			"$root/tests/fuzz/run.sh" --build-dir "$fuzz_build" --seconds "$fuzz_seconds"
		logs+=("$build/meson-logs/fuzz.json")
	fi
	if [ "$model" = yes ]; then
		say "checking the model of reading without a system call"
		run_tap model "$build/meson-logs/model.json" "$root/tests/model/run.sh"
		logs+=("$build/meson-logs/model.json")
	fi
	if [ "$packages" = yes ]; then
		say "building and trying the Debian packages"
		run_tap packages "$build/meson-logs/packages.json" "$root/tests/package/run.sh"
		say "building and trying what the Dockerfile makes"
		run_tap image "$build/meson-logs/image.json" /usr/bin/python3 "$root/tests/package/image.py" "$root"
		logs+=("$build/meson-logs/packages.json" "$build/meson-logs/image.json")
	fi
	if [ "$quickstart" = yes ]; then
		say "running deploy/quickstart.sh"
		run_quickstart "$build/meson-logs/quickstart.json"
		logs+=("$build/meson-logs/quickstart.json")
	fi
	if [ "$sim" = yes ]; then
		say "simulating without sanitizers in $release_build"
		# As the quickstart has it: what that built is not built again.
		configure "$release_build" "$root" --buildtype=release
		quietly "${meson[@]}" compile -C "$release_build" sim soak-worker kvpaged kvctl
		run_tap simulation "$build/meson-logs/simulation.json" \
			"$release_build/tests/sim/sim" --seeds 400 --steps 2500 --jobs 2
		logs+=("$build/meson-logs/simulation.json")
		if [ "$soak_seconds" -gt 0 ]; then
			run_tap soak "$build/meson-logs/soak.json" "$root/tests/soak.sh" --build-dir "$release_build" \
				--seconds "$soak_seconds" --csv "$build/soak.csv"
			logs+=("$build/meson-logs/soak.json")
		fi
	fi
	python3 "$root/tests/lib/summary.py" "${logs[@]}"
}

main "$@"
