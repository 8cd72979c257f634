#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes unicode-ranges.h from Python's own Unicode data: make-unicode-ranges.py > unicode-ranges.h"""
import sys
import unicodedata


def ranges(first_letter):
    """The inclusive ranges of code points whose general category begins with this letter."""
    found = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] != first_letter:
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def table(name, first_letter):
    print(f"static const struct unicode_range {name}[] = {{")
    line = "\t"
    for first, last in ranges(first_letter):
        item = f"{{ 0x{first:x}, 0x{last:x} }}, "
        if len(line) + len(item) > 92:
            print(line.rstrip())
            line = "\t"
        line += item
    print(line.rstrip())
    print("};\n")


print(f"""/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letters (general category L) and numbers (N) of Unicode {unicodedata.unidata_version}, inclusive and in
 * ascending order. Written by make-unicode-ranges.py; not edited by hand.
 */
#pragma once

#include <stdint.h>

struct unicode_range {{
	uint32_t first;
	uint32_t last;
}};
""")
table("unicode_letters", "L")
table("unicode_numbers", "N")
