#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run-booted.sh BUILD_DIR [SANITIZERS]: systemd itself runs the installed units. It boots in namespaces of its own, on
# an overlay of this machine's files whose upper layer is memory, with nothing started but what booted.sh starts; none
# of it reaches the machine. Prints booted.sh's TAP; skipped where namespaces, overlays or control groups cannot be had.
set -u
build=$(cd "${1:?usage: run-booted.sh BUILD_DIR [SANITIZERS]}" && pwd)
sanitizers=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
limit_s=240
# The meson that configured the build directory, which need not be the first in PATH.
meson=$(sed -n '/ --internal regenerate/{s/^ *command = \(.*\) --internal regenerate.*/\1/p;q}' "$build/build.ninja")
prefix=$($meson introspect "$build" --buildoptions | python3 -c 'import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')

skip() {
	echo "1..0 # SKIP $1"
	exit 0
}

# The machine's files below $1/root, changes in memory.
make_overlay() {
	mount -t tmpfs tmpfs "$1" &&
		mkdir "$1/upper" "$1/work" "$1/root" &&
		mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
}

# What a container has: its own proc and run, no devices but those that every program may use, nothing of the kernel's
# settings writable.
make_world() {
	local n=$1 device
	mount -t proc proc "$n/proc" && mount --bind "$n/proc/sys" "$n/proc/sys" &&
		mount -o remount,bind,ro "$n/proc/sys" || return
	mount -t sysfs -o ro sysfs "$n/sys" && mount -t cgroup2 cgroup2 "$n/sys/fs/cgroup" || return
	mount -t tmpfs tmpfs "$n/run" && mount -t tmpfs -o mode=1777 tmpfs "$n/tmp" &&
		mount -t tmpfs -o mode=0755 tmpfs "$n/dev" || return
	for device in null zero full random urandom tty; do
		touch "$n/dev/$device" && mount --bind "/dev/$device" "$n/dev/$device" || return
	done
	mkdir "$n/dev/pts" "$n/dev/shm" && mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$n/dev/pts" &&
		mount -t tmpfs -o mode=1777 tmpfs "$n/dev/shm" && ln -s pts/ptmx "$n/dev/ptmx"
}

# The source tree, where an empty directory hides it.
show_sources() {
	case $root/ in
	/tmp/* | /run/* | /dev/*) mkdir -p "$1$root" && mount --bind "$root" "$1$root" ;;
	esac
}

# Only kvpaged's units and the test are started, whatever this machine has enabled.
write_units() {
	local units=$1/etc/systemd/system
	rm -rf "$1"/etc/systemd/system/*.wants "$1"/lib/systemd/system/*.wants "$1"/usr/lib/systemd/system/*.wants \
		"$1/etc/fstab" "$1/etc/kvpaged" &&
		echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id" &&
		mkdir -p "$units" &&
		printf '[Unit]\nDefaultDependencies=no\nRequires=test.service systemd-journald.service\n' \
			>"$units/test.target" &&
		cat >"$units/test.service" <<END
[Unit]
DefaultDependencies=no
After=systemd-journald.service
[Service]
Type=oneshot
ExecStart=/bin/bash "$here/booted.sh" "$root" "$sanitizers"
StandardOutput=file:/run/tap
StandardError=inherit
ExecStopPost=/bin/systemctl --no-block --force exit
END
}

# In the namespaces, before systemd: $1 is a directory for the overlay, $2 where booted.sh's output is to be seen.
become_systemd() {
	local n=$1/root
	mount --make-rprivate / && make_overlay "$1" && make_world "$n" && show_sources "$n" &&
		write_units "$n" || exit 2
	touch "$n/run/tap" && mount --bind "$2" "$n/run/tap" || exit 2
	DESTDIR="$n" $meson install -C "$build" --no-rebuild >"$2" 2>&1 || exit 2
	: >"$2"
	cd "$n" && mkdir -p .outside && pivot_root . .outside && umount -l /.outside || exit 2
	exec env -i PATH="$PATH" container=other \
		/lib/systemd/systemd --unit=test.target --log-target=null --show-status=false
}

if [ "${KVP_BOOT:-}" = yes ]; then
	become_systemd "$KVP_BOOT_OVERLAY" "$KVP_BOOT_TAP"
fi

clean_up() {
	local group
	[ -z "${cgroup:-}" ] || find "$cgroup" -depth -type d | while read -r group; do rmdir "$group" 2>/dev/null; done
	rm -rf "$work"
}

case $prefix in
/usr | /usr/local) ;;
*) skip "systemd does not look for units in $prefix" ;;
esac
[ "$(id -u)" = 0 ] || skip "only root can boot systemd in namespaces of its own"
[ -x /lib/systemd/systemd ] || skip "systemd is not installed"
work=$(mktemp -d /tmp/kvp-booted-XXXXXX)
trap clean_up EXIT
mkdir "$work/overlay"
unshare --mount --pid --fork --cgroup --uts --ipc --net true 2>/dev/null ||
	skip "namespaces cannot be made here (CAP_SYS_ADMIN)"
unshare --mount bash -c "$(declare -f make_overlay); make_overlay '$work/overlay'" 2>/dev/null ||
	skip "an overlay of / cannot be mounted here"
tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$tree" ] && mkdir "$tree/kvp-booted-$$" 2>/dev/null || skip "there is no tree of control groups to write to"
cgroup=$tree/kvp-booted-$$
: >"$work/tap"
KVP_BOOT=yes KVP_BOOT_OVERLAY=$work/overlay KVP_BOOT_TAP=$work/tap timeout -s KILL "$limit_s" bash -c '
	echo $$ >"$1/cgroup.procs" &&
		exec unshare --mount --pid --fork --cgroup --uts --ipc --net --kill-child bash "${@:2}"' \
	- "$cgroup" "$0" "$build" "$sanitizers" </dev/null >"$work/log" 2>&1
status=$?
cat "$work/tap"
if ! grep -q '^1\.\.' "$work/tap"; then
	sed 's/^/# /' "$work/log"
	echo "Bail out! booted.sh did not come to its end (status $status)"
	exit 1
fi
