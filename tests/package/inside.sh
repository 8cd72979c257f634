#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# inside.sh TREE ROOT WORK: called by mmdebstrap for run.sh, when TREE is a Debian with a compiler and nothing of ours.
# Installs the packages of WORK/packages, uses them, and removes them. Writes TAP into WORK/inside.tap.
set -euo pipefail
tree=$1 root=$2 work=$3
n=0

# What check runs goes on after a command that fails, whatever set -e says: so everything is tied with &&.

inside() {
	chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
		KVPAGED_SOCKET=/tmp/run/kvpaged.sock "$@"
}

# The daemon and its users are nobody in particular.
as_nobody() {
	inside setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "$@"
}

check() {
	local name=$1
	shift
	n=$((n + 1))
	if "$@" >"$work/inside.log" 2>&1 </dev/null; then
		printf 'ok %d - %s\n' $n "$name"
	else
		printf 'not ok %d - %s\n' $n "$name"
		tail -40 "$work/inside.log" | sed 's/^/# /'
	fi >>"$work/inside.tap"
}

skip() {
	n=$((n + 1))
	printf 'ok %d - %s # SKIP %s\n' $n "$1" "$2" >>"$work/inside.tap"
}

# What apt and dpkg write for themselves, what Debian leaves on purpose (users), and what a boot clears, is not counted.
list_files() {
	(cd "$tree" && find . -mindepth 1 \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \
		-o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log \) -prune \
		-o -print |
		grep -v '^\./etc/\(passwd\|group\|shadow\|gshadow\)-$\|^\./etc/\.pwd\.lock$' | LC_ALL=C sort)
}

# What apt would install besides is installed first, so that all that comes afterwards is ours.
install_dependencies() {
	local needed
	needed=$(inside apt-get install -s -y --no-install-recommends "${debs[@]}") &&
		needed=$(sed -n 's/^Inst \([^ ]*\) .*/\1/p' <<<"$needed" | grep -v 'kvpaged\|kvclient') &&
		readarray -t needed <<<"$needed" &&
		inside apt-get install -y --no-install-recommends "${needed[@]}"
}

install_ours() {
	inside apt-get install -y --no-install-recommends "${debs[@]}"
}

programs_answer() {
	inside kvpaged --version && inside kvctl --version && inside kvpaged --check-config &&
		! inside ldd /usr/bin/kvpaged /usr/bin/kvctl | grep 'not found'
}

# What systemd will find when it boots.
service_is_there() {
	inside getent passwd kvpaged && inside getent group kvpaged &&
		[ -f "$tree/etc/kvpaged/kvpaged.conf" ] &&
		[ -L "$tree/etc/systemd/system/sockets.target.wants/kvpaged.socket" ] &&
		[ -L "$tree/etc/systemd/system/multi-user.target.wants/kvpaged.service" ] &&
		inside systemd-analyze verify --man=no kvpaged.service
}

start_daemon() {
	local tries
	install -d -o 65534 -g 65534 "$tree/tmp/run" || return
	chroot "$tree" setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
		--bounding-set=-all kvpaged --socket /tmp/run/kvpaged.sock --arena-bytes 64MiB \
		>"$work/daemon.log" 2>&1 </dev/null &
	daemon=$!
	for tries in $(seq 200); do
		as_nobody kvctl health && return
		kill -0 $daemon || break
		sleep 0.1
	done
	echo "not healthy after $tries tries"
	cat "$work/daemon.log"
	return 1
}

# Two layers of two heads of four tokens of 32 numbers, as numpy.save() would write them.
make_array() {
	python3 - "$tree/tmp/k.npy" <<'END'
import struct
import sys
header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 4, 32), }"
header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
values = struct.pack("<512f", *(i / 8 for i in range(512)))
with open(sys.argv[1], "wb") as file:
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values)
END
}

block_comes_back() {
	make_array && as_nobody kvctl put demo first --k /tmp/k.npy --model demo --codec f32 &&
		as_nobody kvctl get demo first -o /tmp/run/back &&
		cmp <(tail -c 2048 "$tree/tmp/k.npy") <(tail -c 2048 "$tree/tmp/run/back.k.npy")
}

consumer_is_compiled() {
	# shellcheck disable=SC2016
	cp "$root/tests/consumer/consumer.c" "$tree/tmp/consumer.c" &&
		inside sh -c 'flags=$(pkg-config --cflags --libs kvclient) &&
			cc -o /tmp/consumer /tmp/consumer.c $flags' &&
		inside ldd /tmp/consumer | grep 'libkvclient.so.0 => /' >/dev/null
}

# Sixteenths up to 8: f16 has them exactly.
python_block_comes_back() {
	as_nobody python3 -c 'import numpy, kvclient
k = (numpy.arange(2 * 2 * 4 * 8) / 16).astype("f2").reshape(2, 2, 4, 8)
with kvclient.Client() as client:
    space = client.space("python", kvclient.Schema("demo", layers=2, kv_heads=2, head_dim_k=8, codec_k="f16"))
    space.put("first", k, k)
    assert (space.fetch(["first"], strict=True).k[:, :, :4] == k).all()'
}

daemon_stops() {
	kill "$daemon" && wait "$daemon"
}

remove_ours() {
	inside apt-get purge -y kvpaged libkvclient0 libkvclient-dev python3-kvclient &&
		! grep 'kvpaged\|kvclient' "$tree/var/lib/dpkg/status"
}

nothing_is_left() {
	diff "$work/before" <(list_files)
}

debs=()
mkdir "$tree/tmp/packages"
for deb in "$work"/packages/*.deb; do
	case $deb in *-dbgsym_*) continue ;; esac
	cp "$deb" "$tree/tmp/packages"
	debs+=("/tmp/packages/${deb##*/}")
done
daemon=
trap '[ -z "$daemon" ] || kill $daemon 2>/dev/null || true' EXIT

check "what the packages depend on is installed" install_dependencies
list_files >"$work/before"
check "the packages are installed" install_ours
check "the programs and their libraries are there" programs_answer
check "the user, the units and the configuration are there" service_is_there
check "a program is compiled against libkvclient-dev" consumer_is_compiled
if [ -e "$tree/proc/self/fd" ]; then
	check "kvpaged starts as nobody, without capabilities" start_daemon
	check "a block that kvctl put comes back" block_comes_back
	check "the program's block comes back" as_nobody /tmp/consumer
	check "a block of Python comes back" python_block_comes_back
	check "kvpaged stops" daemon_stops
	daemon=
else
	skip "kvpaged runs" "/proc cannot be mounted here"
fi
check "the packages are removed" remove_ours
check "nothing of them is left" nothing_is_left
