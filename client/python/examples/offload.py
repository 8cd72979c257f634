# SPDX-License-Identifier: Apache-2.0
"""Takes a conversation's K and V out of a process, and back into this or another one.

    python3 offload.py save talk.json       # computes a conversation, stores its K and V, writes where they are
    python3 offload.py restore talk.json    # reads them back, and compares with computing them again

They are kept for an hour before other blocks, and yet a cache may lose them: restore then says what became of them.
"""
import argparse
import json
import sys
import time

import numpy as np
import toy

import kvclient as kv

TALK = "Where is the river? Behind the mill, past the two old willows. And how deep is it there? Up to the knee. " * 6
KEEP_S = 3600


def save(space: kv.Space, path: str) -> None:
    session = toy.Session(space)
    session.feed(list(TALK.encode()))
    keys = kv.prefix_keys(session.tokens, toy.BLOCK)
    space.keep(keys, KEEP_S, priority=4)
    with open(path, "w", encoding="utf-8") as state:
        json.dump({"tokens": session.tokens, "space": space.name}, state)
    stored = sum(space.why(key).stored_bytes for key in keys)
    whole = len(keys) * toy.BLOCK
    print(f"saved {whole} of {len(session.tokens)} tokens in {len(keys)} blocks: {stored} bytes, "
          f"{2 * session.k[:, :, :whole].nbytes / stored:.2f} times smaller than here")


def restore(client: kv.Client, path: str) -> int:
    with open(path, encoding="utf-8") as state:
        saved = json.load(state)
    try:
        space = client.space(saved["space"])
    except kv.SpaceError as error:
        print(f"nothing is there any more: {error}")
        return 1
    keys = kv.prefix_keys(saved["tokens"], toy.BLOCK)
    started = time.monotonic()
    got = space.fetch(keys)
    took = time.monotonic() - started
    if not got.ok:
        print(f"only {got.prefix_tokens} tokens are there; of the others: {space.why(keys[-1]).text}")
        return 1
    k, v = (np.zeros((toy.LAYERS, toy.HEADS, len(saved["tokens"]), toy.DIM), np.float32) for _ in "kv")
    toy.Model().forward(saved["tokens"], k, v, 0)
    off = np.abs(got.k - k[:, :, :got.prefix_tokens]).mean() / np.abs(k).mean()
    print(f"restored {got.prefix_tokens} tokens in {took * 1000:.1f} ms; mean error of K {off:.2%}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["save", "restore"])
    parser.add_argument("state", help="a file that says where they are")
    parser.add_argument("--socket", help="of the daemon (default: $KVPAGED_SOCKET, /run/kvpaged/kvpaged.sock)")
    parser.add_argument("--codec", default="q8", help="how K and V are kept (default: q8)")
    arguments = parser.parse_args()
    with kv.Client(arguments.socket) as client:
        if arguments.what == "restore":
            return restore(client, arguments.state)
        save(client.space(f"toy-offload-{arguments.codec}", toy.schema(arguments.codec)), arguments.state)
        return 0


if __name__ == "__main__":
    sys.exit(main())
