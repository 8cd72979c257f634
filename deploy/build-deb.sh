#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian packages. dpkg-buildpackage wants the packaging in debian/ at the top of a tree of its own, so it
# gets a copy: what git knows, deploy/debian as debian/, and a source archive made of the rest.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=$root/build-deb
dpkg_options=(--build=full)

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

usage() {
	cat <<END
Usage: deploy/build-deb.sh [OPTION...]

Installs the Debian packages that are missing (as root or with sudo), builds those of kvpaged and leaves them in
build-deb/.

  --output DIR   leave them there
  --binary       build no source package
  -h, --help     print this help
END
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--output)
			[ $# -ge 2 ] || die "--output needs a directory"
			output=$(realpath -m -- "$2")
			shift
			;;
		--binary) dpkg_options=(--build=binary) ;;
		-h | --help)
			usage
			exit 0
			;;
		*) die "unknown option '$1'; see --help" ;;
		esac
		shift
	done
}

# copy_source DIRECTORY: what git tracks as it lies here, changed or not; all of it where there is no git.
copy_source() {
	local list=(find . -name .git -prune -o -name 'build*' -type d -prune -o \( -type f -o -type l \) -print0)
	mkdir "$1"
	cd "$root"
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		list=(git ls-files -z --cached --others --exclude-standard --deduplicate)
	fi
	"${list[@]}" | while IFS= read -rd '' file; do
		[ ! -e "$file" ] || printf '%s\0' "$file"
	done | tar --create --null --files-from=- | tar --extract --directory "$1"
	cd - >/dev/null
}

main() {
	local version
	parse "$@"
	install_packages "${build_packages[@]}" "${deb_packages[@]}" "${docs_packages[@]}"
	version=$(dpkg-parsechangelog --file "$root/deploy/debian/changelog" --show-field Version)
	version=${version%-*}
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	copy_source "$work/kvpaged-$version"
	# The same archive from the same files: names in order, no owners, one time.
	tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
		--mtime="@$(dpkg-parsechangelog --file "$root/deploy/debian/changelog" --show-field Timestamp)" \
		--exclude="kvpaged-$version/deploy/debian" "kvpaged-$version" |
		gzip -9n >"$work/kvpaged_$version.orig.tar.gz"
	mv "$work/kvpaged-$version/deploy/debian" "$work/kvpaged-$version/debian"
	say "building kvpaged $version"
	cd "$work/kvpaged-$version"
	# dpkg's own meson and python, not others that come before them in PATH.
	PATH=/usr/sbin:/usr/bin:/sbin:/bin quietly dpkg-buildpackage --unsigned-source --unsigned-changes \
		"${dpkg_options[@]}"
	mkdir -p "$output"
	find "$work" -maxdepth 1 -type f -exec mv -t "$output" {} +
	say "the packages are in $output"
}

main "$@"
