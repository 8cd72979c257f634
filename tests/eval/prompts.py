# SPDX-License-Identifier: Apache-2.0
"""The prompts and texts of the evaluation."""
import os
import pydoc
import sys

LICENCES = ("GPL-3", "Apache-2.0", "MPL-2.0", "Artistic", "LGPL-3", "GFDL-1.3")
MODULES = ("argparse", "subprocess", "random", "statistics", "decimal", "logging", "pathlib", "threading")
DOCUMENTS = ("docs/operations.md", "docs/protocol.md", "docs/architecture.md", "docs/memory-model.md",
             "docs/testing.md", "docs/performance.md", "docs/codecs.md", "docs/metrics.md")

# Before every question and conversation, as a product would have one; also so that a block is whole before the answer.
SYSTEM = """You are the assistant of a public library in a small town. People of all ages write to you, about books \
as well as about everyday life, and you answer each of them in plain words. You keep to what is asked. \
When you are sure of something you say it directly, and when you are not you say that too, and where the \
answer could be found. You never make up titles, names, numbers or quotations. You do not use jokes at \
the expense of others. When a question concerns health, law or money you explain what is generally known, \
and suggest to talk to somebody who can look at the matter in person. When somebody asks for a list you \
give one, with one thing on each line. When somebody asks for a letter or a speech you write it so that \
it could be used as it is. You answer in the language of the question, and as briefly as the question \
allows."""


def read(root, name):
    with open(os.path.join(root, name), encoding="utf-8") as file:
        return file.read()


def _turns(text):
    """Lines that begin with '> ' are the assistant's."""
    turns = [("system", SYSTEM)]
    for line in text.splitlines():
        turns.append(("assistant", line[2:]) if line.startswith("> ") else ("user", line))
    return turns


def _entry(root, entry, tokenizer):
    """One prompt of eval-prompts.txt: its kind and its tokens."""
    head, _, rest = entry.partition("\n")
    kind = head.removeprefix("kind: ")
    if kind in ("facts", "lists", "chat"):
        return kind, tokenizer.chat(_turns(rest))
    (file, tokens), text = [line.partition(": ")[2] for line in rest.splitlines()[:2]], rest.splitlines()[2:]
    excerpt = tokenizer.encode(read(root, file))[:int(tokens)]
    if kind == "code":
        return kind, excerpt
    return kind, excerpt + tokenizer.encode("\n\n" + text[0] + "\n\n")


def prompts(root, tokenizer):
    """(kind, tokens) of all prompts."""
    found = [("text", tokenizer.encode(text.strip())) for text in read(root, "tests/data/prompts.txt").split("\n---\n")]
    for entry in read(root, "tests/data/eval-prompts.txt").strip().split("\n---\n"):
        found.append(_entry(root, entry, tokenizer))
    return found


def _windows(name, tokens, size, most):
    return [(name, tokens[at:at + size]) for at in range(0, len(tokens) - size + 1, size)][:most]


def windows(root, tokenizer, size):
    """(source, tokens) of texts that no model of this project wrote, in pieces of size tokens."""
    found = _windows("tests/data/perplexity.txt", tokenizer.encode(read(root, "tests/data/perplexity.txt")), size, 4)
    for name in DOCUMENTS:
        found += _windows(name, tokenizer.encode(read(root, name)), size, 1)
    for name in MODULES:
        text = pydoc.plain(pydoc.render_doc(name, renderer=pydoc.plaintext))
        found += _windows(f"Python {sys.version_info.major}.{sys.version_info.minor} help({name})",
                          tokenizer.encode(text), size, 1)
    for name in LICENCES:
        path = os.path.join("/usr/share/common-licenses", name)
        if os.path.exists(path):
            found += _windows(path, tokenizer.encode(read("/", path)), size, 1)
    return found
