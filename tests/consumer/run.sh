#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR [SANITIZER_FLAGS]: installs the built project into a temporary directory, moves it elsewhere
# (packages must not know where they lie), builds programs against it by CMake and by pkg-config, and runs them against
# the built kvpaged. Prints TAP.
set -u
build=$(cd "${1:?usage: run.sh BUILD_DIR [SANITIZER_FLAGS]}" && pwd)
flags=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/kvc-consumer-XXXXXX)
daemon=
number=0

cleanup() {
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null
		wait "$daemon" 2>/dev/null
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# check NAME COMMAND...: one test; its output only when it fails.
check() {
	name=$1
	shift
	number=$((number + 1))
	if "$@" >"$work/log" 2>&1; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		sed 's/^/# /' "$work/log"
	fi
}

skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

# The meson that configured the build directory, which need not be the first in PATH.
meson=$(sed -n '/ --internal regenerate/{s/^ *command = \(.*\) --internal regenerate.*/\1/p;q}' "$build/build.ninja")

install_tree() {
	DESTDIR="$work/dest" $meson install -C "$build" --no-rebuild &&
		prefix=$($meson introspect "$build" --buildoptions | python3 -c 'import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))') &&
		mv "$work/dest$prefix" "$work/moved"
}

daemon_start() {
	: >"$work/empty.conf"
	"$build/daemon/kvpaged" --config "$work/empty.conf" --socket "$work/sock" --arena-bytes 16MiB &
	daemon=$!
	tries=0
	until [ -S "$work/sock" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || return 1
		sleep 0.1
	done
}

by_cmake() {
	cmake -S "$here" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/moved" -DCMAKE_C_FLAGS="$flags" &&
		cmake --build "$work/cmake"
}

by_pkgconfig() {
	mkdir -p "$work/make" &&
		PKG_CONFIG_PATH="$pc_dir" make -C "$work/make" -f "$here/Makefile" LDFLAGS="$flags" \
			PKG_CONFIG="pkg-config --define-variable=prefix=$work/moved"
}

# Every name that the header declares is exported, and nothing else.
exports_match() {
	nm -D --defined-only "$lib_dir/libkvclient.so" |
		sed -n 's/.* T \(kvc_[a-z_]*\)@@KVCLIENT_0.1$/\1/p' | sort >"$work/exported"
	sed -n 's/^KVC_API .*[ *]\(kvc_[a-z_]*\)(.*/\1/p' "$work/moved/include/kvclient.h" | sort >"$work/declared"
	[ -s "$work/declared" ] && diff "$work/declared" "$work/exported" &&
		[ "$(nm -D --defined-only "$lib_dir/libkvclient.so" | grep -vc 'kvc_\|KVCLIENT_0.1')" = 0 ]
}

static_names() {
	nm "$lib_dir/libkvclient.a" | grep ' [A-TV-Z] ' | grep -v ' kvc_' && return 1
	return 0
}

soname() {
	objdump -p "$lib_dir/libkvclient.so" | grep 'SONAME *libkvclient.so.0$' >/dev/null
}

check "meson install" install_tree
[ -d "$work/moved" ] || {
	echo "Bail out! nothing is installed"
	exit 1
}
lib_dir=$(dirname "$(find "$work/moved" -name libkvclient.so)")
pc_dir=$(dirname "$(find "$work/moved" -name kvclient.pc)")
export LD_LIBRARY_PATH="$lib_dir" KVPAGED_SOCKET="$work/sock"
check "the shared library exports what the header declares" exports_match
check "the static library defines no other global name" static_names
check "soname" soname
check "kvpaged starts" daemon_start
if command -v cmake >/dev/null; then
	check "cmake: find_package(kvclient), build" by_cmake
	check "cmake: shared runs" "$work/cmake/consumer"
	check "cmake: static runs" env -u LD_LIBRARY_PATH "$work/cmake/consumer_static"
else
	skip "cmake: find_package(kvclient), build" "there is no cmake"
fi
check "pkg-config: build, C and C++" by_pkgconfig
check "pkg-config: shared runs" "$work/make/consumer-shared"
check "pkg-config: static runs" env -u LD_LIBRARY_PATH "$work/make/consumer-static"
check "C++ runs" "$work/make/header-cc"
echo "1..$number"
