#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every relative link in the tree's *.md leads to a file and a heading that are there; so do the runbooks of alerts.

    test-links.py ROOT

Nothing is looked up outside the tree. Prints TAP.
"""
import glob
import os
import re
import sys
import urllib.parse

import tap

ROOT = sys.argv[1]
LINK = re.compile(r"!?\[[^\]\[]*\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
RUNBOOK = re.compile(r"^\s*runbook\w*:\s*(\S+)", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
SKIPPED = ("build", ".")


def documents():
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if not name.startswith(SKIPPED)]
        yield from (os.path.join(directory, name) for name in files if name.endswith(".md"))


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def without_code(text):
    """Blocks of code blanked, line breaks kept."""
    return CODE.sub(lambda match: re.sub(r"[^\n]", "", match.group(0)), text)


def slug(heading):
    """The anchor that GitHub makes of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def anchors(path):
    seen = {}
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?)\s*#*$", without_code(text_of(path)), re.MULTILINE):
        name = slug(heading)
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found


def link_faults(target, source, base):
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return  # of the network
    path, _, anchor = urllib.parse.unquote(target).partition("#")
    file = os.path.normpath(os.path.join(base, path)) if path else source
    shown = os.path.relpath(source, ROOT)
    if not os.path.exists(file):
        yield f"{shown}: {target}: no such file"
    elif anchor and file.endswith(".md") and anchor not in anchors(file):
        yield f"{shown}: {target}: no such heading"


def test_links():
    """links between documents"""
    n = 0
    for path in documents():
        for target in LINK.findall(without_code(text_of(path))):
            n += 1
            yield from link_faults(target, path, os.path.dirname(path))
    if n == 0:
        yield "no link was found at all"


def test_runbooks():
    """runbooks of alerts"""
    rules = glob.glob(os.path.join(ROOT, "deploy/prometheus/*.rules.yml"))
    if not rules:
        raise tap.Skipped("no rules in deploy/prometheus")
    for path in rules:
        for target in RUNBOOK.findall(text_of(path)):
            yield from link_faults(target, path, ROOT)


def test_documents_are_listed():
    """every document of docs/ is named in README.md"""
    readme = text_of(os.path.join(ROOT, "README.md"))
    for path in sorted(glob.glob(os.path.join(ROOT, "docs/*.md"))):
        name = os.path.relpath(path, ROOT)
        if f"({name})" not in readme:
            yield f"{name} is not linked"


tap.run([test_links, test_runbooks, test_documents_are_listed])
