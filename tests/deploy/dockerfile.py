# SPDX-License-Identifier: Apache-2.0
"""Reads a Dockerfile, as far as ours goes."""
import json
import re
import shlex


class Stage:
    """What follows a FROM."""

    def __init__(self, image, name):
        self.image = image
        self.name = name
        self.steps = []  # (INSTRUCTION, its text)

    def of(self, instruction):
        return [text for name, text in self.steps if name == instruction]

    def packages(self):
        """What apt-get installs."""
        found = []
        for text in self.of("RUN"):
            for command in text.split("&&"):
                words = shlex.split(command)
                if words[:2] == ["apt-get", "install"]:
                    found += [word for word in words[2:] if not word.startswith("-")]
        return found

    def labels(self):
        return dict(word.split("=", 1) for text in self.of("LABEL") for word in shlex.split(text))


def exec_form(text):
    """The words of ["a", "b"]; raises ValueError for a shell's command line."""
    return json.loads(text)


def read(path):
    """The stages, in order."""
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n") if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        instruction, rest = line.split(None, 1)
        if instruction == "FROM":
            words = rest.split()
            stages.append(Stage(words[0], words[2] if len(words) == 3 else ""))
        else:
            stages[-1].steps.append((instruction, rest))
    return stages
