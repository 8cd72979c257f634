#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets with clang, the address and the undefined-behaviour sanitizer, and runs each for a time,
# some of them at once. Prints TAP; an input that fails is left in the build directory and named.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build-fuzz
seconds=60
jobs=$(nproc)
coverage=no

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

all_targets=(arena client codec-tile config core frame gguf http recover tier-segment)
targets=()

usage() {
	cat <<END
Usage: tests/fuzz/run.sh [OPTION...] [TARGET...]

Runs the targets named, or all: ${all_targets[*]}.

  --seconds N        for each target [$seconds]
  --hours N          likewise
  --jobs N           targets that run at once [the number of processors]
  --coverage         run nothing; print how much of each source file the corpora reach, line by line
  --build-dir DIR    [build-fuzz]; what is found is kept in DIR/corpus-TARGET and is where the next run begins
  -h, --help         print this help
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--seconds | --hours | --jobs)
			[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "$1 wants a number; see --help"
			case $1 in
			--seconds) seconds=$2 ;;
			--hours) seconds=$(($2 * 3600)) ;;
			--jobs) jobs=$2 ;;
			esac
			shift
			;;
		--build-dir)
			[ $# -ge 2 ] || die "$1 wants a directory; see --help"
			build=$(realpath -m -- "$2")
			shift
			;;
		--coverage) coverage=yes ;;
		-h | --help)
			usage
			exit 0
			;;
		*)
			[[ " ${all_targets[*]} " == *" $1 "* ]] || die "no option and no target: '$1'; see --help"
			targets+=("$1")
			;;
		esac
		shift
	done
	[ ${#targets[@]} -gt 0 ] || targets=("${all_targets[@]}")
}

# dictionary FILE...: the words in quotes in these sources, as libFuzzer and AFL++ read them.
dictionary() {
	grep -ohE '"[A-Za-z][A-Za-z0-9_./-]+"' "$@" | sort -u
}

# prepare_corpus TARGET: a dictionary, and seeds that are made of the build.
prepare_corpus() {
	local dictionary_file=$build/$1.dict
	mkdir -p "$build/corpus-$1"
	case $1 in
	config)
		dictionary "$root"/daemon/config-table.c >"$dictionary_file"
		sed -n -e '/^\[/p' -e 's/^#\(.* = \)/\1/p' "$build/daemon/kvpaged.conf" >"$build/corpus-$1/seed-all"
		;;
	gguf) dictionary "$root"/client/worker/{gguf,model,tokenizer,vocab}.c >"$dictionary_file" ;;
	http) dictionary "$root"/daemon/host/http{,-accept}.c >"$dictionary_file" ;;
	*) rm -f "$dictionary_file" ;;
	esac
}

# fuzz TARGET: ends with the fuzzer's status.
fuzz() {
	local log=$build/$1.log words=()
	[ ! -e "$build/$1.dict" ] || words=(-dict="$1.dict")
	(cd "$build" && exec "tests/fuzz/fuzz-$1" -max_total_time="$seconds" -max_len=70000 -timeout=60 \
		-rss_limit_mb=4096 \
		"${words[@]}" -artifact_prefix="$1-" -print_final_stats=1 "corpus-$1" "$root/tests/fuzz/corpus/$1") \
		>"$log" 2>&1 </dev/null
}

# report NUMBER TARGET STATUS
report() {
	local result=ok log=$build/$2.log
	if [ "$3" != 0 ]; then
		result='not ok'
		failed=1
		tail -60 "$log" | sed 's/^/# /'
	fi
	printf '%s %d - fuzz-%s: %s executions\n' "$result" "$1" "$2" \
		"$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
}

run_all() {
	local i next=0 status pids=()
	printf '1..%d\n' ${#targets[@]}
	for i in "${!targets[@]}"; do
		while [ $next -lt ${#targets[@]} ] && [ $next -lt $((i + jobs)) ]; do
			fuzz "${targets[$next]}" &
			pids[next]=$!
			next=$((next + 1))
		done
		status=0
		wait "${pids[$i]}" || status=$?
		report $((i + 1)) "${targets[$i]}" $status
	done
}

# Without clang: the targets as tests are built with gcov and see the corpora alone.
print_coverage() {
	local target
	configure "$build-coverage" "$root" --buildtype=debug -Db_coverage=true -Db_lundef=false
	quietly ninja -C "$build-coverage" "${targets[@]/#/tests/fuzz/fuzz-}"
	find "$build-coverage" -name '*.gcda' -delete
	for target in "${targets[@]}"; do
		mkdir -p "$build/corpus-$target"
		KVP_FUZZ_INPUTS=0 quietly "$build-coverage/tests/fuzz/fuzz-$target" "$root/tests/fuzz/corpus/$target" \
			"$build/corpus-$target"
	done
	gcovr --root "$root" --filter "$root/(base|proto|codec|client|daemon)/" --exclude-unreachable-branches \
		--gcov-ignore-parse-errors "$build-coverage"
}

parse "$@"
failed=0
if [ "$coverage" = yes ]; then
	install_packages "${build_packages[@]}" "${coverage_packages[@]}"
	find_meson
	print_coverage
	exit 0
fi
install_packages "${build_packages[@]}" clang
find_meson
export CC=clang
configure "$build" "$root" --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true \
	-Dc_args=-fsanitize=fuzzer-no-link
quietly ninja -C "$build" daemon/kvpaged.conf "${targets[@]/#/tests/fuzz/fuzz-}"
for target in "${targets[@]}"; do
	prepare_corpus "$target"
done
run_all
exit $failed
