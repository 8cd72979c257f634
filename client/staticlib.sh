#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# staticlib.sh OUTPUT CC OBJCOPY AR LIBRARY...
# One archive with one object of all the libraries' objects, in which every hidden symbol is local: a program that links
# it statically sees the names of kvclient.h and no others.
set -eu
output=$1 cc=$2 objcopy=$3 ar=$4
shift 4
object=${output%.a}.o
"$cc" -r -nostdlib -o "$object" -Wl,--whole-archive "$@" -Wl,--no-whole-archive
"$objcopy" --localize-hidden "$object"
rm -f "$output"
"$ar" cr "$output" "$object"
rm -f "$object"
