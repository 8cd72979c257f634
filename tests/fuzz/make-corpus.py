#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds in tests/fuzz/corpus/: short inputs from which a fuzzer finds its way. Files there that this program
does not make are findings that were repaired; they stay.

Usage: make-corpus.py DIRECTORY [CONFIGURATION-EXAMPLE]
"""
import struct
import sys
from pathlib import Path

# --- core: bytes of fuzz-core.c ------------------------------------------------------------------------------------

SESSIONS = (66, 64, 65)  # a step of session 0, 1, 2, after which queued work is run to its end
(HELLO, OPEN, APPEND, FETCH, RELEASE, MATCH, DELETE, TOUCH, PIN, UNPIN, STATS, EVICT, LIST, DROP, CONFIG, WHY,
 SUBSCRIBE) = range(17)
RESIZE = 18
RAW, CONNECT, DISCONNECT, RUN, TIME, STAGING, CONTROL, HOST = range(8)
LIMITS = bytes([2, 1, 4, 0, 3, 0, 0, 0, 0])
TIER = bytes([2, 1, 4, 0, 3, 1, 0, 0, 0, 7])
WHOLE = 0x0c


def request(session, verb, *fields):
    return bytes([SESSIONS[session], 0, 0, verb, *fields])


def step(session, kind, *fields):
    return bytes([SESSIONS[session], 0x90 + (kind - 0x90 % 8) % 8, *fields])


def keyed(session, verb, keys, *fields):
    return request(session, verb, 0, len(keys), *keys, *fields)


def opened(session, preset=1):
    return request(session, HELLO, 0) + request(session, OPEN, 0, 1, preset, 0)


def append(session, key, parent=None):
    choice = WHOLE if parent is None else WHOLE | 1
    return request(session, APPEND, 0, choice, key, *([] if parent is None else [parent]), 0)


def core_seeds():
    chain = opened(0) + append(0, 0) + append(0, 1, 0) + append(0, 2, 1)
    yield "chain", chain + keyed(0, MATCH, [0, 1, 2], 0) + keyed(0, FETCH, [0, 1, 2], 0, 5, 1, 0, 0)
    yield "lease", chain + keyed(0, FETCH, [0, 1], 0, 5, 1, 0, 0) + keyed(0, DELETE, [0]) + \
        request(0, RELEASE, 2, 14, 15) + step(0, TIME, 8)
    yield "evict", chain + request(0, EVICT, 0, 0, 1, 1) + request(0, EVICT, 0, 0, 0, 0) + request(0, WHY, 0, 1)
    yield "pins", chain + keyed(0, PIN, [0, 1], 3, 9) + keyed(0, UNPIN, [0]) + keyed(0, TOUCH, [1, 2]) + \
        step(0, TIME, 7)
    yield "partial", opened(0, 1) + request(0, APPEND, 0, 0, 3, 2, 0, 0) + opened(1, 1) + \
        request(1, APPEND, 0, 0, 3, 2, 0, 0) + step(0, DISCONNECT) + step(1, TIME, 7)
    yield "hazards", chain + step(0, CONTROL, 0, 0, 1) + step(0, CONTROL, 0, 1, 3) + keyed(0, DELETE, [0]) + \
        step(0, TIME, 4) + step(0, CONTROL, 0x70, 0, 2) + step(0, TIME, 5) + step(0, CONTROL, 0, 0, 0) + \
        step(0, TIME, 5)
    yield "full", opened(0, 3) + b"".join(append(0, key) for key in range(12)) + \
        keyed(0, FETCH, [8, 9], 0, 9, 1, 0, 0) + append(0, 3) + append(0, 4)
    yield "events", opened(0) + request(0, SUBSCRIBE, 0, 4, 0xa0, 12, 0) + opened(1) + append(1, 0) + \
        keyed(1, DELETE, [0]) + request(0, SUBSCRIBE, 0, 4, 0, 0)
    yield "list", chain + request(0, LIST, 0, 0, 2) + request(0, STATS) + request(0, CONFIG) + request(0, DROP, 0)
    yield "raw", opened(0) + step(0, RAW, 4) + b"\x08\x01\x5a\x00" + step(0, RAW, 3) + b"\xff\xff\xff"
    ends = [request(0, APPEND, 0, 0, key, 1, 0xd0, at) for key, at in enumerate((0, 7, 8, 9, 15))]
    offsets = [request(0, APPEND, 0, 0, 6, 2, 0, 0xa0, 0xa0, at) for at in (28, 31, 32, 37)]
    yield "pages", opened(0) + b"".join(ends + offsets)
    yield "spaces", opened(0, 0) + request(0, OPEN, 1, 1, 1, 0) + request(0, OPEN, 2, 1, 2, 0) + opened(1, 0) + \
        request(1, DROP, 1) + request(0, OPEN, 0, 0)
    yield "resize", chain + request(0, RESIZE, 3, 0, 9) + step(0, TIME, 3) + step(0, HOST, 7, 0xff, 0xa0, 28) + \
        step(0, TIME, 3) + request(0, RESIZE, 4, 0, 0) + step(0, HOST, 7, 0x80) + append(0, 5)


def tier_seeds():
    stored = opened(0) + append(0, 0) + append(0, 1, 0)
    evicted = stored + request(0, EVICT, 0, 0, 1, 1) + request(0, EVICT, 0, 0, 1, 1)
    loaded = keyed(0, FETCH, [0, 1], 0, 5, 1, 0, 0)
    yield "load", evicted + keyed(0, MATCH, [0, 1], 0) + keyed(0, FETCH, [0, 1], 0, 5, 1, 3, 0) + loaded
    yield "bad-load", evicted + step(0, HOST, 6, 0xc1) + step(0, HOST, 6, 0xe1) + loaded + request(0, WHY, 0, 1)
    yield "dropped", evicted + step(0, HOST, 6, 0x80) + loaded + keyed(0, DELETE, [0]) + step(0, HOST, 6, 1)


# --- tier-segment: pieces of fuzz-tier-segment.c -------------------------------------------------------------------

SEGMENT_BLOCK, SEGMENT_REMOVALS, SEGMENT_CHUNK, SEGMENT_END, SEGMENT_HEAD, SEGMENT_RAW = 0, 2, 3, 4, 6, 7


def segment_piece(file, what, place, body=b"", claim=0, last=0):
    """Place in units of 4 KiB of 16."""
    return bytes([file + 3 * what, claim, place, len(body) // 256, len(body) % 256, last]) + body


def segment_item(key, place, parent):
    """A block in space 0 of 4 tokens, whose two pages fill a unit. Place is what a footer says; parent 0: a root."""
    return bytes([2 * (parent > 0), key, parent, 3, 2, 63, place, 1])


def segment_removal(key):
    return bytes([2 * (key > 0), key, 0, 0, 0, 0, 0, 0])


def segment_rows(file, keys):
    """A chain of blocks from place 1 on, and their items as a footer has them."""
    items = [segment_item(key, 1 + 2 * i, keys[i - 1] if i else 0) for i, key in enumerate(keys)]
    return b"".join(segment_piece(file, SEGMENT_BLOCK, item[6], item) for item in items), b"".join(items)


def tier_segment_seeds():
    rows = [segment_rows(file, range(20 * file + 1, 20 * file + 6)) for file in range(3)]
    footers = [segment_piece(file, SEGMENT_CHUNK, 11, items) + segment_piece(file, SEGMENT_END, 11, claim=1)
               for file, (_, items) in enumerate(rows)]
    sealed = b"".join(blocks + footer for (blocks, _), footer in zip(rows, footers))
    removed = segment_piece(2, SEGMENT_REMOVALS, 11, segment_removal(1) + segment_removal(22))
    yield "open", rows[0][0]
    yield "sealed", sealed
    yield "removed", sealed + removed + segment_piece(2, SEGMENT_REMOVALS, 12, segment_removal(0))
    yield "cut", sealed + segment_piece(1, SEGMENT_END, 0) + segment_piece(0, SEGMENT_RAW, 5, bytes(64))
    yield "lies", rows[0][0] + segment_piece(0, SEGMENT_CHUNK, 11, rows[1][1]) + \
        segment_piece(0, SEGMENT_END, 11, claim=2) + rows[2][0] + \
        segment_piece(2, SEGMENT_CHUNK, 11, rows[2][1], claim=255) + segment_piece(2, SEGMENT_END, 11, claim=1)
    heads = [segment_piece(0, SEGMENT_HEAD, 1 + kind, bytes(range(200)), kind, kind) for kind in range(8)]
    yield "heads", b"".join(heads)


# --- arena and client: bytes of fuzz-arena.c, fuzz-client.c and liar.c ---------------------------------------------

def arena_seeds():
    yield "good", bytes([0, 1, 1, 2])
    yield "spoiled", bytes([0, 3, 3, 2, 3, 1, 1, 1, 2])
    yield "map", bytes([0, 3, 4, 0, 0, 0xa0, 26, 2, 1, 2]) + bytes([3, 2, 6, 0xa0, 31, 2, 1, 1])


def answer(*fields):
    """Honest, with these bytes for the fields of its message."""
    return bytes([0, 0, 0, *fields, 0])


RECONNECT = 0x40


def client_input(answers, calls, flags=0):
    half = max(len(answers), len(calls)) + 8
    return bytes([128, flags]) + answers.ljust(half, b"\0") + calls.ljust(half, bytes([13]))


def client_seeds():
    session = answer(*[0] * 12) + bytes(2) + answer(*[0] * 16)
    fetched = answer(1, 0, 0, 1, 2, 4)
    yield "reader", client_input(session, bytes([0, 0, 12, 8, 1, 0, 1, 1, 4, 1, 1, 0, 6, 1, 0, 1, 10, 1]), 4)
    yield "asking", client_input(session + fetched + fetched, bytes([0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 10, 1]))
    yield "append", client_input(session + answer(2, 0, 0, 1) + answer(2, 0, 0, 1),
                                 bytes([0, 0, 1, 0, 9, 2, 0, 9, 3, 3]))
    yield "items", client_input(session + answer(1, 0) * 4 + answer(0, 0),
                                bytes(2) + b"".join(bytes([9, 0, 0, i]) for i in range(5)))
    yield "tell", client_input(session + answer(*[0] * 5) + answer(*[0] * 2) + answer(*[0] * 11) + answer(*[0] * 4),
                               bytes([0, 0, 10, 0, 11, 0, 0, 0, 11, 0, 0, 1, 11, 0, 0, 2, 11, 0, 0, 3]))
    leased = answer(1, 0, 1, 1, 2, 4)
    yield "pin", client_input(session, bytes([0, 0, 12, 6, 0, 0, 1, 6, 3, 0, 1, 2, 3, 1]), 2)
    yield "lease", client_input(session + leased * 3, bytes([0, 0, 6, 0, 0, 0, 6, 0, 1, 0]), 4)
    yield "known", client_input(session + fetched, bytes([0, 1, 4, 0, 0, 0, 0, 1]))
    yield "again", client_input(session + bytes([0xf0, 0]) + session + fetched + fetched,
                                bytes([0, 0]) + bytes([4, 0, 0, 0]) * 3, RECONNECT)
    yield "match", client_input(session + answer(1, 0, 0, 0), bytes([0, 0, 8, 0, 0, 0]))
    yield "list", client_input(session + answer(1, 1, 97, 4, 2, 2, *[0] * 7), bytes([0, 0, 11, 0, 0, 0]))
    yield "events", client_input(session + answer(7, 1, 1, 1, 1, 1, 97, 1, 97, 4, 0, 1, 0), bytes([0, 0, 11, 0, 0, 2]))
    yield "stats", client_input(session + answer(7, 1, 1, 118, 1, 1, 99, 5, 0) +
                                answer(7, 1, 0, 0, 1, 1, 1, 97, *[0] * 24), bytes([0, 0, 10, 1, 10, 1, 10, 0]))
    yield "layers", client_input(session + fetched * 8, bytes([0, 0, 14, 0, 0, 0, 5, 14, 0, 0, 1, 1]))
    yield "layers-reader", client_input(session, bytes([0, 0, 12, 14, 1, 0, 1, 5, 14, 1, 0, 2, 5]), 4)
    yield "ahead", client_input(session + fetched * 2 + answer(1, 0) + answer(*[0] * 8),
                                bytes([0, 0, 15, 0, 0, 16, 0, 3, 16, 1]))


# --- frame ---------------------------------------------------------------------------------------------------------

def frame_seeds():
    yield "three", bytes([12, 0, 1, 200]) + b"".join(struct.pack("<I", n) + bytes(n) for n in (1, 300, 5000))
    yield "zero", bytes([12, 1, 1, 1]) + struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0)
    yield "long", bytes([4, 9, 0, 0]) + struct.pack("<I", 16) + bytes(16) + struct.pack("<I", 17) + bytes(17)


# --- http ----------------------------------------------------------------------------------------------------------

def http_seeds():
    yield "scrape", b"\x00\x00GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=1.0.0;" \
        b"q=0.75,text/plain;q=0.5,*/*;q=0.1\r\nConnection: close\r\n\r\n"
    yield "two", b"\x07\x00GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /healthz?x HTTP/1.1\nHost:\n\n"
    yield "body", b"\x03\x01Content-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


# --- codec-tile ----------------------------------------------------------------------------------------------------

def codec_tile_seeds():
    for i, name in enumerate(("raw", "q8", "t6", "t4g16")):
        codec = (0, 3, 8, 18)[i]
        yield f"decode-{name}", bytes([codec, i % 2, 15, 3, i % 3, i * 7, i, 0]) + bytes(range(97))
        yield f"encode-{name}", bytes([codec, (i + 1) % 2, 16, 1, i % 3, i, i, 3]) + bytes(range(89))


# --- gguf ----------------------------------------------------------------------------------------------------------

U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
TENSOR_F32, TENSOR_Q8_0 = 0, 8
WIDTH, VOCAB = 16, 8


def text(s):
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def key(name, kind, value):
    packed = {U32: lambda: struct.pack("<I", value), F32: lambda: struct.pack("<f", value), STRING: lambda: text(value)}
    return text(name) + struct.pack("<I", kind) + packed[kind]()


def array(name, kind, values):
    body = b"".join(text(v) if kind == STRING else struct.pack("<i", v) for v in values)
    return text(name) + struct.pack("<IIQ", ARRAY, kind, len(values)) + body


def vocabulary():
    return [key("tokenizer.ggml.model", STRING, "gpt2"), key("tokenizer.ggml.pre", STRING, "smollm"),
            key("tokenizer.ggml.eos_token_id", U32, 7), key("tokenizer.ggml.bos_token_id", U32, 7),
            array("tokenizer.ggml.tokens", STRING, ["G", "U", "F", "1", "GU", "UF", "GUF", "<|im_start|>"]),
            array("tokenizer.ggml.token_type", I32, [1] * 7 + [3]),
            array("tokenizer.ggml.merges", STRING, ["G U", "U F", "GU F"])]


def gguf(keys, tensors, version=3):
    records, body = b"", b""
    for name, shape, kind in tensors:
        records += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + \
            struct.pack("<IQ", kind, len(body))
        values = 1
        for n in shape:
            values *= n
        body += bytes(values * 4 if kind == TENSOR_F32 else values // 32 * 34)
        body += bytes(-len(body) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + records
    return head + bytes(-len(head) % 32) + body


def llama():
    head = [key("general.architecture", STRING, "llama"), key("general.name", STRING, "seed"),
            key("llama.block_count", U32, 1), key("llama.context_length", U32, 64),
            key("llama.embedding_length", U32, WIDTH), key("llama.feed_forward_length", U32, WIDTH),
            key("llama.attention.head_count", U32, 1), key("llama.attention.head_count_kv", U32, 1),
            key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), key("llama.rope.freq_base", F32, 1e4)]
    square = [f"blk.0.{n}.weight"
              for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")]
    tensors = [("token_embd.weight", (WIDTH, VOCAB), TENSOR_F32), ("output_norm.weight", (WIDTH,), TENSOR_F32),
               ("blk.0.attn_norm.weight", (WIDTH,), TENSOR_F32), ("blk.0.ffn_norm.weight", (WIDTH,), TENSOR_F32)]
    return gguf(head + vocabulary(), tensors + [(n, (WIDTH, WIDTH), TENSOR_F32) for n in square])


def gguf_seeds():
    yield "llama", llama()
    yield "vocabulary", gguf(vocabulary(), [], version=2)
    yield "tensor", gguf([key("general.alignment", U32, 32)], [("output.weight", (32, 2), TENSOR_Q8_0)])
    yield "empty", gguf([], [])


# --- config --------------------------------------------------------------------------------------------------------

def config_seeds(example):
    yield "some", b"# a comment\n[arena]\nbytes = 64MiB\nhuge_pages = try\n\n[socket]\nmode = 0660\n[access]\n" \
        b"allow_uids = 0, 1000\n[lease]\nttl_ms = 30s\n[metrics]\nlisten = 127.0.0.1:9\n[log]\nlevel = debug\n"
    yield "bad", b"bytes = 1\n[nowhere]\n[arena]\nbytes = 99EiB\nbytes = -1\nblocks\n = \n"
    if example:
        lines = Path(example).read_text().splitlines()
        kept = (line.lstrip("#").strip() for line in lines if line.startswith("[") or " = " in line)
        yield "all", "\n".join(kept).encode()


def main():
    directory = Path(sys.argv[1])
    example = sys.argv[2] if len(sys.argv) > 2 else None
    core = [(n, LIMITS + b) for n, b in core_seeds()] + [(n, TIER + b) for n, b in tier_seeds()]
    seeds = {"core": core, "frame": frame_seeds(), "http": http_seeds(),
             "codec-tile": codec_tile_seeds(), "arena": arena_seeds(), "client": client_seeds(),
             "gguf": gguf_seeds(), "tier-segment": tier_segment_seeds(), "config": config_seeds(example)}
    for target, inputs in seeds.items():
        (directory / target).mkdir(parents=True, exist_ok=True)
        for name, content in inputs:
            (directory / target / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
