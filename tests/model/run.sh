#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the model of reading without a system call with spin: that it holds, and that it does not with each mutation.
# Every search is exhaustive. Prints TAP; of what fails, the trail's end or spin's own words.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
memory_mib=2000
seconds_max=300 # of processor time, for one search
depth_max=10000
failed=0
n=0

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: tests/model/run.sh [OPTION...]

  --memory-mib N     of the largest search [$memory_mib]
  -h, --help         print this help
END
}

# What must hold: name; definitions for spin; for pan's compiler; flags of pan.
proofs=(
	"tso, two readers; MEMORY=TSO READERS=2; SAFETY;"
	"tso, two rounds, three lives, records; MEMORY=TSO ROUNDS=2 LIVES=3 RECORDS; SAFETY;"
	"tso, any index; MEMORY=TSO ROUNDS=2 LIVES=3 INDEX_ANY; SAFETY;"
	"tso, two readers that may die: all is buried; MEMORY=TSO READERS=2 LIVENESS; NFAIR=3; -a -f"
	"c11, two readers; MEMORY=C11 READERS=2; SAFETY COLLAPSE;"
	"c11, two rounds, three lives, records; MEMORY=C11 ROUNDS=2 LIVES=3 RECORDS; SAFETY;"
	"c11, any index; MEMORY=C11 ROUNDS=2 INDEX_ANY; SAFETY;"
	"c11, a reader that may die: all is buried; MEMORY=C11 LIVENESS; NFAIR=3; -a -f"
	"tso, no fence after a death; MEMORY=TSO MUTATION=SPARE_DEATH_FENCE; SAFETY;"
	"tso, no fence before a scan; MEMORY=TSO MUTATION=SPARE_SCAN_FENCE; SAFETY;"
	"c11, no fence before a scan; MEMORY=C11 MUTATION=SPARE_SCAN_FENCE; SAFETY;"
)

# What must be refuted: mutation; memory; further definitions; what pan must find; further flags of pan.
changed=bytes_changed_under_a_pin
wrong=result_is_wrong
mutations=(
	"LOOK_EARLY; TSO; SESSIONS_STAY; $changed;"
	"NO_READER_FENCE; TSO; SESSIONS_STAY; $changed;"
	"NO_READER_FENCE; C11; SESSIONS_STAY; $changed;"
	"NO_DAEMON_FENCES; TSO; SESSIONS_STAY; $changed;"
	"NO_DAEMON_FENCES; C11; SESSIONS_STAY; $changed;"
	"OLD_SCAN; TSO; SESSIONS_STAY; $changed;"
	"UNLINK_ONLY; TSO; SESSIONS_STAY; $changed;"
	"UNPIN_EARLY; TSO; SESSIONS_STAY; $changed;"
	"BIRTH_EARLY; TSO; SESSIONS_STAY; $changed;"
	"READY_EARLY; TSO; SESSIONS_STAY; $changed;"
	"INDEX_EARLY; TSO; SESSIONS_STAY; $changed;"
	"RECORD_LATE; TSO; SESSIONS_STAY RECORDS; $changed;"
	"BIRTH_RELAXED; C11; SESSIONS_STAY; $changed;"
	"READY_RELAXED; C11; SESSIONS_STAY; $changed;"
	"INDEX_RELAXED; C11; SESSIONS_STAY; $changed;"
	"READY_UNORDERED; C11; SESSIONS_STAY; $changed;"
	"FIND_UNORDERED; C11; SESSIONS_STAY; $changed;"
	"NO_CHECK; TSO; ; $wrong;"
	"CHECK_UNORDERED; C11; ; $wrong;"
	"DEATH_UNORDERED; C11; ; $wrong;"
	"HAZARDS_STAY; TSO; ; rests_for_ever;"
	"HAZARDS_STAY; TSO; LIVENESS; acceptance cycle; -a -f -A"
)

# fields LINE: sets the array field.
fields() {
	IFS=';' read -ra field <<<"$1"
	local i
	for i in "${!field[@]}"; do
		field[i]=${field[i]# }
	done
}

# search OPTIMISATION SPIN_DEFINITIONS CC_DEFINITIONS PAN_FLAGS: leaves what pan says in pan.log. Proofs are long, so
# they are compiled well; a mutation's error is found before a compiler has optimised anything.
search() {
	local spin_flags=() cc_flags=() pan_flags=() word
	for word in $2; do spin_flags+=("-D$word"); done
	for word in $3; do cc_flags+=("-D$word"); done
	read -ra pan_flags <<<"$4"
	rm -f pan pan.* ./*.trail
	{
		spin "${spin_flags[@]}" -a hazard.pml &&
			gcc "$1" -w -DMEMLIM="$memory_mib" "${cc_flags[@]}" -o pan pan.c &&
			(ulimit -t "$seconds_max" && exec ./pan -m"$depth_max" "${pan_flags[@]}" >pan.log)
	} >spin.log 2>&1 </dev/null || printf 'failed with status %d\n' $? >>spin.log
	trail_flags=("${spin_flags[@]}")
}

# report RESULT NAME: the line, and why below it.
report() {
	local states seconds
	n=$((n + 1))
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log 2>/dev/null || true)
	seconds=$(sed -n 's/^pan: elapsed time \([0-9.e+-]*\) seconds/\1/p' pan.log 2>/dev/null || true)
	printf '%s %d - %s (%s states, %s s)\n' "$1" $n "$2" "${states:-no}" "${seconds:-no}"
	[ "$1" != ok ] || return 0
	failed=1
	cat spin.log pan.log 2>/dev/null | grep -v '^$' | head -40 | sed 's/^/# /' || true
	[ -f hazard.pml.trail ] || return 0
	spin "${trail_flags[@]}" -t -p hazard.pml 2>/dev/null | grep 'proc .*(\(Reader\|Daemon\):' | tail -80 |
		sed 's/^/# /' || true
}

# Whether the search saw everything, found nothing, and ran through every statement of both sides.
holds() {
	local process
	[ -f pan.log ] && ! grep -q '^failed' spin.log && grep -q 'errors: 0$' pan.log || return 1
	! grep -qi 'not completed\|max search depth\|memlim\|out of memory\|truncated' pan.log spin.log || return 1
	for process in Reader Daemon; do
		grep -A1 "^unreached in proctype $process\$" pan.log | grep '(0 of [1-9][0-9]* states)' >/dev/null ||
			return 1
	done
}

# refuted WHAT: whether pan found just that, and left a trail.
refuted() {
	[ -f pan.log ] && ! grep -q '^failed' spin.log && grep -q 'errors: 1$' pan.log &&
		grep -q "^pan:1: \(assertion violated  !($1)\|$1\)" pan.log && [ -s hazard.pml.trail ]
}

main() {
	local line result
	while [ $# -gt 0 ]; do
		case $1 in
		--memory-mib)
			[[ ${2:-} =~ ^[0-9]+$ ]] || die "--memory-mib needs a number"
			memory_mib=$2
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
	if ! command -v spin >/dev/null; then
		(install_packages "${model_packages[@]}") >&2 || true
	fi
	if ! command -v spin >/dev/null; then
		printf '1..1\nok 1 - model # SKIP spin is not installed, and its package cannot be\n'
		return
	fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp "$root"/tests/model/*.pml "$work"
	cd "$work"
	printf '1..%d\n' $((${#proofs[@]} + ${#mutations[@]}))
	for line in "${proofs[@]}"; do
		fields "$line"
		search -O2 "${field[1]}" "${field[2]}" "${field[3]:-}"
		result=ok
		holds || result='not ok'
		report "$result" "${field[0]}"
	done
	for line in "${mutations[@]}"; do
		fields "$line"
		search -O0 "MUTATION=${field[0]} MEMORY=${field[1]} ${field[2]}" '' "${field[4]:-}"
		result=ok
		refuted "${field[3]}" || result='not ok'
		report "$result" "${field[1],,}, ${field[0]} is refuted: ${field[3]}"
	done
	return $failed
}

main "$@"
