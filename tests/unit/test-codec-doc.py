#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A decoder of tiles written from docs/codecs.md alone, against what the library decodes.

Usage: test-codec-doc.py TILE_DUMP
"""
import struct
import subprocess
import sys

RAW = ("f32", "f16", "bf16")
ROOTS = [1024, 1069, 1117, 1166, 1218, 1272, 1328, 1387, 1448, 1512, 1579, 1649, 1722, 1798, 1878, 1961]


def log_scale(e):
    """S[e] of docs/codecs.md."""
    if e == 0:
        return 0.0
    if e < 7:
        return 2.0 ** (e - 17)
    if e < 39:
        return 2.0 ** ((e - 7) // 8 - 10) * ROOTS[(e - 7) % 8 * 2] / 1024
    if e < 215:
        return 2.0 ** ((e - 39) // 16 - 6) * ROOTS[(e - 39) % 16] / 1024
    if e < 247:
        return 2.0 ** ((e - 215) // 8 + 5) * ROOTS[(e - 215) % 8 * 2] / 1024
    return 2.0 ** (e - 238)


def f32(value):
    """Rounds once, to nearest."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def raw_values(name, tile):
    if name == "bf16":
        words = struct.unpack(f"<{len(tile) // 2}H", tile)
        return [struct.unpack("<f", struct.pack("<I", word << 16))[0] for word in words]
    letter, size = ("f", 4) if name == "f32" else ("e", 2)
    return list(struct.unpack(f"<{len(tile) // size}{letter}", tile))


def packed_values(name, role, tokens, head_dim, tile):
    bits = int(name[1])
    channels = int(name[3:]) if "g" in name and role == "V" else 0
    row_bytes = head_dim * bits // 8
    offset = tokens * row_bytes
    if channels:
        per_token = -(-head_dim // channels)
        scales = [log_scale(e) / 2**bits for e in tile[offset:]]
        assert len(scales) == tokens * per_token
    else:
        groups = head_dim if role == "K" else tokens
        scales = struct.unpack(f"<{groups}e", tile[offset : offset + 2 * groups])
        mins = struct.unpack(f"<{groups}e", tile[offset + 2 * groups :])
    values = []
    before = [[0, 0, 0] for _ in range(head_dim)]
    for t in range(tokens):
        row = int.from_bytes(tile[t * row_bytes : (t + 1) * row_bytes], "little")
        for c in range(head_dim):
            level = row >> (c * bits) & (2**bits - 1)
            if name[0] == "t":
                u, (u1, u2, u3) = level & 1, before[c]
                before[c] = [u, u1, u2]
                level = 4 * (level >> 1) + 2 * (u ^ u1 ^ u3) + u2
            if channels:
                scale = scales[t * per_token + c // channels]
                low = -(2 ** (bits + 1) - 1) * scale / 2
            else:
                group = c if role == "K" else t
                scale, low = scales[group], mins[group]
            # Exact in double: at most 21 bits times a power of two, plus one f16.
            values.append(f32(low + level * scale))
    return values


def main():
    lines = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout.splitlines()
    names = {}
    for line in lines:
        name, role, tokens, head_dim, tile, expected = line.split()
        tile, expected = bytes.fromhex(tile), bytes.fromhex(expected)
        if name in RAW:
            values = raw_values(name, tile)
        else:
            values = packed_values(name, role, int(tokens), int(head_dim), tile)
        right = struct.pack(f"<{len(values)}f", *values) == expected
        names[name] = names.get(name, True) and right
        if not right:
            print(f"# {name} {role} of {tokens} x {head_dim} tokens differs")
    print(f"1..{len(names)}")
    for i, (name, right) in enumerate(names.items(), 1):
        print(f"{'ok' if right else 'not ok'} {i} - {name}")
    sys.exit(not names or not all(names.values()))


if __name__ == "__main__":
    main()
