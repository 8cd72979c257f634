# SPDX-License-Identifier: Apache-2.0
"""Results in JSON files, one a stage, written after every piece of work: a run that was broken off goes on there."""
import json
import os


class Results:
    """get() and put() take the names of a piece: a stage, which is a file of its own, and what is in it."""

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

    def get(self, stage, *names):
        """The piece of that name, or None."""
        piece = self.stage(stage)
        for name in names:
            piece = piece.get(name) if isinstance(piece, dict) else None
        return piece

    def put(self, value, stage, *names):
        piece = self.stage(stage)
        for name in names[:-1]:
            piece = piece.setdefault(name, {})
        piece[names[-1]] = value
        scratch = self._path(stage) + ".new"
        with open(scratch, "w", encoding="utf-8") as file:
            json.dump(self.stages[stage], file)
            file.write("\n")
        os.replace(scratch, self._path(stage))
