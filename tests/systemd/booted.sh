#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# booted.sh ROOT SANITIZERS: what an administrator does with kvpaged, where systemd is the first process and kvpaged is
# installed; see run-booted.sh. Prints TAP.
set -u
root=$1
sanitizers=$2
number=0

# check NAME COMMAND...: one test; its output only when it fails.
check() {
	local name=$1 log
	shift
	number=$((number + 1))
	if log=$("$@" 2>&1); then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		printf '%s\n' "$log" | sed 's/^/# /'
		systemctl --no-pager --full status 'kvpaged*' 2>&1 | sed 's/^/# /'
	fi
}

# await COMMAND...: until it succeeds.
await() {
	local tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || return 1
		sleep 0.1
	done
}

is() {
	[ "$1" = "$2" ] || {
		echo "'$1' is not '$2'"
		return 1
	}
}

property() {
	systemctl show --value -p "$1" "${2:-kvpaged.service}"
}

# as_nobody GROUP COMMAND...: as a user of that group and no other.
as_nobody() {
	setpriv --reuid=65534 --regid=65534 --groups="$1" "${@:2}"
}

# What a package does when it is installed.
prepare() {
	ldconfig
	# Sanitizers look for leaks with ptrace(), which the unit forbids.
	if [ "$sanitizers" != none ]; then
		mkdir -p /run/systemd/system/kvpaged{,@}.service.d
		printf '[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n' |
			tee /run/systemd/system/kvpaged{,@}.service.d/sanitizers.conf
	fi
	systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog && systemctl daemon-reload &&
		[ -f /etc/kvpaged/kvpaged.conf ] && id kvpaged
}

start() {
	systemctl start kvpaged.service && is "$(property ActiveState)" active &&
		is "$(property ActiveState kvpaged.socket)" active &&
		property StatusText | grep '^0 sessions, .* of 1.0 GiB used$' >/dev/null && kvctl status
}

only_the_group() {
	as_nobody kvpaged kvctl status || return
	if as_nobody nogroup kvctl status; then
		return 1
	fi
}

confined() {
	local status
	status=$(cat "/proc/$(property MainPID)/status")
	for line in 'Seccomp:	2' 'NoNewPrivs:	1' 'CapBnd:	0000000000000000'; do
		grep -q "^$line\$" <<<"$status" || return
	done
	is "$(stat -c %U "/proc/$(property MainPID)")" kvpaged
}

# The whole way of a block, under the unit's filter of system calls.
works() {
	kvworker --prompt-file "$root/deploy/quickstart/shared.txt" -n 1 || return
	kvworker --prompt-file "$root/deploy/quickstart/shared.txt" -n 1 2>&1 | tee /run/second
	grep -q ' 1024 from the cache' /run/second
}

# What works() stored is there after this was done to the service, in another process.
kept_over() {
	local before
	before=$(property MainPID)
	"$@" && await kvctl status && [ "$(property MainPID)" != "$before" ] &&
		kvworker --prompt-file "$root/deploy/quickstart/shared.txt" -n 1 2>&1 | tee /run/third &&
		grep -q ' 1024 from the cache' /run/third
}

crash() {
	kill -KILL "$(property MainPID)" && await restarted
}

# Stopping it, other than restarting it, gives the memory back.
given_back() {
	systemctl stop kvpaged.service && is "$(property NFileDescriptorStore)" 0 &&
		systemctl start kvpaged.service && kvctl --json stats | grep '"blocks":0,' >/dev/null
}

reload() {
	systemctl reload kvpaged.service &&
		await eval \
			'journalctl -q MESSAGE_ID=816fbbaf695143f3bf1fae126417c43c | grep "configuration reloaded"' &&
		is "$(property SubState)" running
}

client_fault() {
	python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/run/kvpaged/kvpaged.sock")
s.send(bytes(4))
assert s.recv(1) == b""' &&
		await eval 'journalctl -q -x KVPAGED_CLIENT_UID=0 _SYSTEMD_UNIT=kvpaged.service PRIORITY=4 |
			grep "A client of kvpaged is at fault"'
}

# The socket outlives the service, and a client that comes starts it again.
on_demand() {
	systemctl stop kvpaged.service && is "$(property Result)" success && [ -S /run/kvpaged/kvpaged.sock ] &&
		is "$(stat -c %a:%G /run/kvpaged/kvpaged.sock)" 660:kvpaged && as_nobody kvpaged kvctl status &&
		is "$(property ActiveState)" active
}

restarted() {
	[ "$(property NRestarts)" -ge 1 ] && [ "$(property ActiveState)" = active ]
}

watchdog() {
	mkdir -p /run/systemd/system/kvpaged.service.d
	printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/kvpaged.service.d/watchdog.conf
	systemctl daemon-reload && systemctl restart kvpaged.service && sleep 5 &&
		is "$(property NRestarts)" 0 || return
	kill -STOP "$(property MainPID)" && await restarted && kvctl status
}

bad_configuration() {
	mkdir -p /etc/kvpaged/kvpaged.conf.d
	printf '[arena]\nbytes = 3\n' >/etc/kvpaged/kvpaged.conf.d/bad.conf
	systemctl restart kvpaged.service && return 1
	is "$(property ExecMainStatus)" 78 && is "$(property NRestarts)" 0 && is "$(property ActiveState)" failed &&
		property StatusText | grep '^/etc/kvpaged/kvpaged.conf.d/bad.conf:2: arena.bytes: ' || return
	rm -r /etc/kvpaged/kvpaged.conf.d
	systemctl reset-failed kvpaged.service && systemctl start kvpaged.service && kvctl status
}

# As systemd/README.md says.
tenant() {
	mkdir -p /etc/sysusers.d
	echo 'u kvpaged-a - "kvpaged for a" /nonexistent' >/etc/sysusers.d/kvpaged-a.conf
	systemd-sysusers kvpaged-a.conf && printf '[arena]\nbytes = 64MiB\n' >/etc/kvpaged/a.conf || return
	systemctl start kvpaged@a.service &&
		is "$(stat -c %U "/proc/$(property MainPID kvpaged@a.service)")" kvpaged-a &&
		as_nobody kvpaged-a kvctl --socket /run/kvpaged-a/kvpaged.sock status || return
	if as_nobody kvpaged kvctl --socket /run/kvpaged-a/kvpaged.sock status; then
		return 1
	fi
	systemctl start kvpaged@b.service && return 1
	is "$(property ActiveState)" active
}

# Its own socket, where chown is forbidden as by the unit: there is nothing to change.
without_chown() {
	systemd-run --unit=own -p Type=notify -p SystemCallFilter=~@chown -p SystemCallErrorNumber=EPERM \
		"$(command -v kvpaged)" --socket /run/own.sock --arena-bytes 16MiB &&
		kvctl --socket /run/own.sock status && systemctl stop own.service && [ ! -e /run/own.sock ]
}

sockets_go() {
	systemctl stop kvpaged.socket kvpaged@a.socket &&
		[ ! -e /run/kvpaged/kvpaged.sock ] && [ ! -e /run/kvpaged-a/kvpaged.sock ] &&
		is "$(property ActiveState)" inactive
}

check "users, directories and configuration as a package makes them" prepare
check "it starts, with its socket, and says how it is" start
check "the group may connect, others may not" only_the_group
check "it is confined" confined
if command -v kvworker >/dev/null; then
	check "workers store and find blocks" works
	check "blocks stay over a restart" kept_over systemctl restart kvpaged.service
	check "blocks stay over a crash" kept_over crash
	check "stopping gives the memory back" given_back
fi
check "it reads its configuration again" reload
check "a client's fault is in the journal, and explained" client_fault
check "a client starts it" on_demand
check "the watchdog replaces one that hangs" watchdog
check "a wrong configuration is told of and not tried again" bad_configuration
check "an instance of one tenant" tenant
check "a socket of its own needs no chown" without_chown
check "the sockets go with their units" sockets_go
echo "1..$number"
