# SPDX-License-Identifier: Apache-2.0
"""Results in JSON files, one a stage, written after every piece of work: a run that was broken off goes on there."""
import hashlib
import json
import os


def digest(tokens):
    """A name for a text."""
    return hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:16]


def of_same_texts(reference, rows):
    """The rows, by number, about the same texts as the reference's; the others are of an earlier state of the texts."""
    return {number: row for number, row in rows.items()
            if number in reference and row.get("text") == reference[number].get("text")}


class Results:
    """get() and put() take the names of a piece: a stage, which is a file of its own, and what is in it. With tokens
    they mean a piece about this text; the texts are files of this repository and of the system, and those change."""

    def __init__(self, directory):
        self.directory = directory
        self.stages = {}
        os.makedirs(directory, exist_ok=True)

    def _path(self, stage):
        return os.path.join(self.directory, stage + ".json")

    def stage(self, name):
        if name not in self.stages:
            self.stages[name] = {}
            if os.path.exists(self._path(name)):
                with open(self._path(name), encoding="utf-8") as file:
                    self.stages[name] = json.load(file)
        return self.stages[name]

    def get(self, stage, *names, tokens=None):
        """The piece of that name, or None."""
        piece = self.stage(stage)
        for name in names:
            piece = piece.get(name) if isinstance(piece, dict) else None
        if tokens is not None and piece is not None and piece.get("text") != digest(tokens):
            return None
        return piece

    def has(self, stage, *names, tokens=None):
        return self.get(stage, *names, tokens=tokens) is not None

    def put(self, value, stage, *names, tokens=None):
        if tokens is not None:
            value = value | {"text": digest(tokens)}
        piece = self.stage(stage)
        for name in names[:-1]:
            piece = piece.setdefault(name, {})
        piece[names[-1]] = value
        scratch = self._path(stage) + ".new"
        with open(scratch, "w", encoding="utf-8") as file:
            json.dump(self.stages[stage], file)
            file.write("\n")
        os.replace(scratch, self._path(stage))
