#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# pod.sh WORK PROFILE: kvpaged and a client as the pods of deploy/kubernetes run them, without a container runtime: a
# mount namespace with a read-only root, users without capabilities, the configuration through the links of a ConfigMap,
# the seccomp profile, the socket's directory read-only for the client. Called by test-manifests.py, which puts programs
# and configuration into WORK, in a mount namespace of its own (unshare). Writes one line for each thing that is wrong.
set -u
work=$1 profile=$2
here=$(cd "$(dirname "$0")" && pwd)
owner=47180
export LD_LIBRARY_PATH=$work PATH=$work:$PATH

fail() {
	printf '%s\n' "$*"
	bad=1
}

# as UID GROUPS COMMAND...: without any right, under the profile.
as() {
	exec setpriv --reuid="$1" --regid="$1" "$2" --inh-caps=-all --bounding-set=-all --no-new-privs \
		/usr/bin/python3 "$here/seccomp-exec.py" "$profile" "${@:3}"
}

client() {
	(as 10001 --groups=$owner "$@")
}

stranger() {
	(as 10002 --clear-groups "$@")
}

start() {
	local tries
	(as $owner --clear-groups kvpaged --config "$work/config/kvpaged.conf" --arena-bytes 64MiB) 2>/run/log &
	daemon=$!
	for tries in $(seq 200); do
		(as $owner --clear-groups kvctl health --timeout 3s) >/dev/null 2>&1 && return
		kill -0 $daemon 2>/dev/null || break
		sleep 0.1
	done
	fail "the probe of health does not succeed ($tries tries)"
	cat /run/log
	exit 1
}

bad=0
mount -t tmpfs none /run && mkdir /run/kvpaged /run/client && chown $owner:$owner /run/kvpaged || exit 1
mount --bind /run/kvpaged /run/client && mount -o remount,bind,ro /run/client || exit 1
mount -o remount,bind,ro / || exit 1
! touch /root-is-writable 2>/dev/null || fail "the root is not read-only"
export ASAN_OPTIONS=detect_leaks=0 # looking for leaks takes ptrace
start
export KVPAGED_SOCKET=/run/client/kvpaged.sock
client kvctl health >/dev/null || fail "the client cannot connect"
client kvctl put demo first --k "$work/k.npy" --model demo --codec f32 >/dev/null || fail "the client cannot store"
client kvctl ls demo | grep first >/dev/null || fail "the client does not see its block"
stranger kvctl health >/dev/null 2>&1
[ $? -eq 4 ] || fail "who is not in the group is not refused"
kill $daemon
wait $daemon || fail "kvpaged does not stop in order"
[ $bad -eq 0 ] || cat /run/log
exit $bad
