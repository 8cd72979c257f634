#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian packages, has lintian look at them, and tries them in a Debian of their own that mmdebstrap makes in
# a temporary directory: tests/package/inside.sh. Prints TAP. Wants root, for chroot, and a Debian mirror.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=bookworm
packages=
n=0
failed=0

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: tests/package/run.sh [OPTION...]

  --packages DIR   do not build; take the packages that are there
  -h, --help       print this help
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--packages)
			[ $# -ge 2 ] || die "--packages needs a directory"
			packages=$(realpath -- "$2")
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
}

skip_all() {
	printf '1..1\nok 1 - packages # SKIP %s\n' "$1"
	exit 0
}

# check NAME COMMAND...: one test; its output only when it fails.
check() {
	local name=$1
	shift
	n=$((n + 1))
	if "$@" >"$work/log" 2>&1 </dev/null; then
		printf 'ok %d - %s\n' $n "$name"
	else
		printf 'not ok %d - %s\n' $n "$name"
		tail -40 "$work/log" | sed 's/^/# /'
		failed=1
	fi
}

lintian_is_silent() {
	lintian --fail-on error,warning --tag-display-limit 0 "$work"/packages/*.changes
}

# A tree that is only looked at through the hook and then gone. mmdebstrap mounts /proc in it where it may.
try_inside() {
	mmdebstrap --quiet --variant=minbase --format=null --include=gcc,libc6-dev,pkg-config \
		--customize-hook="$root/tests/package/inside.sh \"\$1\" '$root' '$work'" "$suite" /dev/null
}

# The hook numbers its lines from 1; here they go on.
take_lines() {
	local line
	while IFS= read -r line; do
		case $line in
		'ok '* | 'not ok '*)
			n=$((n + 1))
			[ "${line%%ok *}" = '' ] || failed=1
			printf '%s %d - %s\n' "${line%% [0-9]*}" $n "${line#*- }"
			;;
		*) printf '%s\n' "$line" ;;
		esac
	done <"$work/inside.tap"
}

mirror_answers() {
	apt-get update -qq 2>&1 && [ -n "$(apt-cache madison libuv1)" ]
}

main() {
	parse "$@"
	[ "$(id -u)" -eq 0 ] || skip_all "this needs root"
	command -v mmdebstrap >/dev/null && command -v lintian >/dev/null && command -v dh >/dev/null ||
		(install_packages "${build_packages[@]}" "${deb_packages[@]}" "${docs_packages[@]}" \
			"${package_test_packages[@]}") >&2 ||
		skip_all "packages that it needs cannot be installed"
	mirror_answers >&2 || skip_all "no Debian mirror can be reached"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	# mmdebstrap drops its rights for downloads.
	chmod 755 "$work"
	if [ -n "$packages" ]; then
		cp -r "$packages" "$work/packages"
	else
		check "the packages are built" "$root/deploy/build-deb.sh" --output "$work/packages"
	fi
	if [ $failed -eq 0 ]; then
		check "lintian finds nothing" lintian_is_silent
		: >"$work/inside.tap"
		check "a Debian is made, and everything in it is run" try_inside
		take_lines
	fi
	printf '1..%d\n' $n
	return $failed
}

main "$@"
