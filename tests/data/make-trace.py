#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes conversation.trace of Mooncake's conversation trace; README.md tells the format.

    make-trace.py mooncake_conversation_trace.jsonl conversation.trace
"""
import json
import sys


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(requests):
    """A request is a path in a tree: blocks seen before, from the root on, then new ones, numbered as they come."""
    parent = {}
    for ids in requests:
        known = next((n for n, block in enumerate(ids) if block not in parent), len(ids))
        for n, block in enumerate(ids):
            before = ids[n - 1] if n else None
            expected = parent[block] if n < known else before
            if expected != before or (n >= known and block != len(parent)):
                sys.exit(f"not a tree of blocks numbered as they come: block {block}")
            parent[block] = before
        yield varint(ids[known - 1] + 1 if known else 0) + varint(len(ids) - known)


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as lines:
        requests = [json.loads(line)["hash_ids"] for line in lines]
    with open(target, "wb") as out:
        out.write(b"".join(encode(requests)))


if __name__ == "__main__":
    main()
