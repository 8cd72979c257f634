# SPDX-License-Identifier: Apache-2.0
"""Byte-level BPE in the manner of GPT-2: trainer, encoder and decoder.

Token ids: 0-255 the single bytes in the order of GPT-2's byte table, then one
id a merge in the order learned, and last the control token END_OF_TEXT. Token
strings use GPT-2's mapping of bytes to printable characters, which is what a
GGUF file with tokenizer.ggml.model "gpt2" and tokenizer.ggml.pre "gpt-2"
holds. The word pattern is GPT-2's, with \\p{L} and \\p{N} written in Python's
classes; the two differ only for digits outside category Nd.
"""
import argparse
import collections
import json
import re

END_OF_TEXT = "<|endoftext|>"
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_characters():
    """byte -> character: printable Latin-1 bytes stand for themselves, the rest from 256 up."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in keep}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(keep))
    return table


BYTE_TO_CHAR = byte_characters()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def word_symbols(word):
    return [BYTE_TO_CHAR[b] for b in word.encode()]


def merge_pair(symbols, pair):
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            merged.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def train_merges(text, count):
    """The `count` most frequent merges; ties go to the pair that sorts first."""
    frequency = collections.Counter(WORD.findall(text))
    words = [(word_symbols(w), n) for w, n in sorted(frequency.items())]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (symbols, n) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += n
            where[pair].add(i)
    merges = []
    while len(merges) < count and pairs:
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for i in sorted(where.pop(best)):
            symbols, n = words[i]
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] -= n
                if pairs[pair] <= 0:
                    del pairs[pair]
            symbols = merge_pair(symbols, best)
            words[i] = (symbols, n)
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
                where[pair].add(i)
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.tokens = [*BYTE_TO_CHAR.values(), *(a + b for a, b in self.merges), END_OF_TEXT]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.end_of_text = len(self.tokens) - 1
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(json.load(file))

    def encode_word(self, word):
        ids = self.cache.get(word)
        if ids is None:
            symbols = word_symbols(word)
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]),
                           key=lambda p: self.rank.get(p, len(self.rank)))
                if best not in self.rank:
                    break
                symbols = merge_pair(symbols, best)
            ids = self.cache[word] = [self.ids[s] for s in symbols]
        return ids

    def encode(self, text):
        """Token ids of plain text; END_OF_TEXT inside the text is text, not the control token."""
        return [i for word in WORD.findall(text) for i in self.encode_word(word)]

    def decode(self, ids):
        characters = "".join(self.tokens[i] for i in ids if i != self.end_of_text)
        return bytes(CHAR_TO_BYTE[c] for c in characters).decode("utf-8", "replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="training text")
    parser.add_argument("--vocabulary", type=int, required=True, help="tokens in all")
    parser.add_argument("--out", required=True, help="merges, as JSON")
    args = parser.parse_args()
    with open(args.text) as file:
        text = file.read()
    merges = train_merges(text, args.vocabulary - 257)
    with open(args.out, "w") as file:
        json.dump(merges, file)
    print(f"bpe: {len(merges)} merges, {len(merges) + 257} tokens")


if __name__ == "__main__":
    main()
