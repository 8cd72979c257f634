# SPDX-License-Identifier: Apache-2.0
# Sourced by quickstart.sh and tests/run.sh: installs the Debian packages that are missing, and finds meson.
# shellcheck shell=bash

# cmake is for the CMake package that meson makes; it wants to see a C++ compiler. dpkg-dev tells meson the directory of
# libraries; without it they would be installed into lib64, where nothing on Debian looks for them.
build_packages=(gcc g++ libc6-dev pkg-config meson ninja-build dpkg-dev python3 cmake libuv1-dev libprotobuf-c-dev
	protobuf-c-compiler libxxhash-dev libinih-dev liburing-dev libsystemd-dev libcmocka-dev)

# What tests/run.sh builds and runs the codecs for aarch64 with. All are packages of this machine's own architecture.
cross_packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)

# What the tests of kvctl's completion scripts let read them, beside bash.
shell_packages=(zsh fish)

# What the tests of kvpaged as a service run: systemd-analyze, systemd-socket-activate, journalctl, and systemd itself
# in namespaces of its own. procps has the kill of ExecReload=.
service_packages=(systemd procps)

# What tests/model/run.sh checks its model with.
model_packages=(spin)

# What tests/coverage.sh and tests/fuzz/run.sh --coverage count with.
coverage_packages=(gcovr)

# What makes the manual pages, which are left out without it, and what tests/docs/ looks at them with.
docs_packages=(scdoc mandoc)

# What kvbench fetch measures beside kvpaged, and kvbench disk beside its disks (fio); it does without what is missing.
# The servers are started by kvbench alone, on private sockets.
bench_packages=(libhiredis-dev redis-server memcached liblmdb-dev fio)

# What the tests of metrics read them with: Prometheus, its promtool, and a parser of OpenMetrics. Installing it, Debian
# starts a Prometheus of its own where systemd runs; the tests start theirs on the loopback and do not touch that one.
metrics_packages=(prometheus python3-prometheus-client)

# What the tests of the Python package run it with: numpy, which it needs, pytest, mypy for its types, and a venv to
# install it into.
python_packages=(python3-numpy python3-pytest mypy python3-venv)

# What deploy/build-deb.sh builds Debian packages with, and what tests/package/ looks at them with and tries them in.
deb_packages=(debhelper dh-python scdoc)
package_test_packages=(lintian mmdebstrap)

# What tests/deploy checks rules and manifests with: promtool, YAML, the system calls that kvpaged makes, and a filter
# of calls. (Where systemd runs, Debian starts the server of prometheus; nothing here needs that.)
deploy_test_packages=(prometheus python3-yaml strace python3-seccomp)

say() {
	printf '== %s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# install_packages PACKAGE...: as root, or with sudo.
install_packages() {
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say "not a Debian system: taking the tools and libraries that are there"
		return
	fi
	local missing=() package
	for package in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	local as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null ||
			die "these packages are missing, and only root can install them: ${missing[*]}"
		as_root=(sudo)
	fi
	say "installing ${missing[*]}"
	"${as_root[@]}" apt-get update -qq </dev/null || die "apt-get update failed"
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		"${missing[@]}" </dev/null >/dev/null || die "apt-get could not install ${missing[*]}"
}

# Sets the array meson. Debian's own comes before another in PATH, which may be older or newer than the project is
# written for.
find_meson() {
	if [ -x /usr/bin/meson ] && [ -x /usr/bin/python3 ]; then
		meson=(/usr/bin/python3 /usr/bin/meson)
	elif command -v meson >/dev/null; then
		meson=(meson)
	else
		die "meson is not installed"
	fi
}

# quietly COMMAND...: its output is shown only when it fails, which ends the script.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status -eq 0 ] || cat "$log" >&2
	rm -f "$log"
	[ $status -eq 0 ] || die "this failed: $*"
}

# configure DIRECTORY ROOT OPTION...: makes or updates a build directory. One of another meson version, or one whose
# making was broken off, is made anew.
configure() {
	local directory=$1 root=$2
	shift 2
	if [ -f "$directory/build.ninja" ] &&
		"${meson[@]}" setup --reconfigure "$directory" "$root" "$@" >/dev/null 2>&1 </dev/null; then
		return
	fi
	if [ -f "$directory/meson-private/coredata.dat" ]; then
		quietly "${meson[@]}" setup --wipe "$directory" "$root" "$@"
	else
		quietly "${meson[@]}" setup "$directory" "$root" "$@"
	fi
}
