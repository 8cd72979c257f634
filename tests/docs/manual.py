# SPDX-License-Identifier: Apache-2.0
"""Reads the source of manual pages as scdoc is given it, and the programs' help."""
import re

PAGES = ("kvctl.1", "libkvclient.3", "kvpaged.conf.5", "kvpaged-protocol.7", "kvpaged.8")

LITERAL = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def options_in_help(text):
    """Options, short and long, of the lines that define them: they begin with blanks and a hyphen."""
    found = set()
    for line in re.findall(r"^ +(-.*)$", text, re.MULTILINE):
        left = re.split(r" {2,}", line)[0]
        found |= set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", left))
    return found


def plain_of(text):
    """Without markup: what a reader sees, near enough to find names in."""
    text = re.sub(r"(?<!\\)\*", "", text)
    text = re.sub(r"(?<![\w\\])_([^_\n]+(?:_[^_\n]+)*)_(?!\w)", r"\1", text)
    return text.replace("\\", "")


class Page:
    """One page. Sections and subsections are found by their headings."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.plain = plain_of(self.text)

    def section(self, name, below=None):
        """The text under a heading, or under the subsection whose first word is below; "" where there is none."""
        found = re.search(rf"^# {re.escape(name)}\n(.*?)(?=^# |\Z)", LITERAL.sub("", self.text),
                          re.MULTILINE | re.DOTALL)
        text = found.group(1) if found else ""
        if below is not None:
            found = re.search(rf"^## {re.escape(below)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
            text = found.group(1) if found else ""
        return text

    def literals(self, name):
        """The blocks of code in a section."""
        found = re.search(rf"^# {re.escape(name)}\n(.*?)(?=^# [A-Z]|\Z)", self.text, re.MULTILINE | re.DOTALL)
        return LITERAL.findall(found.group(1)) if found else []

    def subsections(self, name):
        return re.findall(r"^## (\S+)", self.section(name), re.MULTILINE)

    def options(self, name, below=None):
        """Options, short and long, that stand in bold at the beginning of an entry or of a list of names."""
        text = self.section(name, below)
        lines = [line for line in text.splitlines() if line.startswith("*-")]
        return {plain_of(option) for line in lines for option in re.findall(r"\*(--?[a-zA-Z][\w\\-]*)\*", line)}

    def terms(self, name):
        """The words in bold that begin an entry: "*Pin*, *Unpin*" are two."""
        lines = re.findall(r"^(\*.*)\n\t", self.section(name), re.MULTILINE)
        return [plain_of(term) for line in lines for term in re.findall(r"\*((?:[^*\\]|\\.)+)\*", line)]

    def table_names(self, name):
        """The words in bold in the first columns of a section's tables, without headings in them."""
        rows = re.findall(r"^[|\]\[].*?\*((?:[^*\\]|\\.)+)\*(\(\))?", self.section(name), re.MULTILINE)
        called = any(parentheses for _, parentheses in rows)
        return [plain_of(word) for word, parentheses in rows if parentheses or not called]

    def settings(self):
        """(section.key, default) of every setting."""
        for section in self.subsections("SETTINGS"):
            text = self.section("SETTINGS", section)
            for key, default in re.findall(r"^\*(\S+)\* = .*\n(?:\t.*\n)*?\t.*Default: (.*)\.$", text, re.MULTILINE):
                yield f"{section.strip('[]')}.{plain_of(key)}", plain_of(default)
