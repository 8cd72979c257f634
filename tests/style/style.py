#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of this tree that a program can check, as a TAP test: one line a rule, what breaks it as comments below.

    style.py ROOT [--kvctl PROGRAM] [--kvpaged PROGRAM] [--kvworker PROGRAM]
"""
import argparse
import os
import re
import subprocess
import sys

LINE_COLUMNS_MAX = 120  # tabs are 8 columns wide
FILE_LINES_MAX = 700

# Longer files, each with its reason.
FILE_LINES_EXCEPTIONS = {}

SOURCE = (".c", ".h", ".S", ".def", ".proto", ".py", ".sh", ".build", ".map", ".cmake", ".in", ".pml")
SKIPPED_DIRECTORIES = {"__pycache__", "subprojects"}
SCRIPTS = {".ci/run"}

# Calls with a bounded or checked counterpart.
BANNED = ("strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "atoi", "atol", "atof", "alloca", "system",
          "popen", "mktemp", "tmpnam")
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
EARLY_READER = re.compile(r"\|\s*grep -\w*[qm]")

# The project headers that files below a directory may include; the longest directory that fits counts.
MAY_INCLUDE = {
    "base": ("base/",),
    "proto": ("base/", "proto/"),
    "codec": ("base/", "proto/limits.h", "codec/"),
    "client": ("base/", "proto/", "codec/", "client/"),
    "client/kvctl": ("base/", "proto/metrics.def", "client/kvclient.h", "client/kvctl/"),
    "client/worker": ("base/", "codec/", "client/kvclient.h", "client/worker/"),
    "daemon/core": ("base/", "proto/", "codec/", "daemon/core/"),
    "daemon/host": ("base/", "proto/", "daemon/core/core.h", "daemon/config.h", "daemon/host/", "daemon/tier/disk.h",
                    "daemon/tier/log.h"),
    "daemon/tier": ("base/", "proto/", "daemon/core/tier.h", "daemon/tier/"),
    "daemon": ("base/", "proto/", "daemon/"),
    "docs": ("base/", "proto/metrics.def", "proto/status.h", "daemon/config-table.h"),
    "tests": ("base/", "proto/", "codec/", "client/", "daemon/", "tests/"),
}
GENERATED_HEADERS = {"kvpaged-version.h", "kvpaged.pb-c.h"}

# The core and the tier have no outside world.
CORE_FORBIDDEN = re.compile(r"^(uv\.h|unistd\.h|pthread\.h|time\.h|fcntl\.h|signal\.h|poll\.h|sys/.*|linux/.*)$")

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
PUBLIC_HEADER = "client/kvclient.h"


def list_files(root):
    found = []
    for directory, names, files in os.walk(root):
        below = os.path.relpath(directory, root)
        names[:] = [n for n in sorted(names) if n not in SKIPPED_DIRECTORIES and not n.startswith((".", "build"))]
        for name in sorted(files):
            path = os.path.normpath(os.path.join(below, name))
            if path.endswith(SOURCE) or os.path.basename(path) == "meson_options.txt":
                found.append(path)
    return found + [s for s in sorted(SCRIPTS) if os.path.exists(os.path.join(root, s))]


class Tree:
    """All source files with their text."""

    def __init__(self, root):
        self.root = root
        self.text = {}
        for path in list_files(root):
            with open(os.path.join(root, path), encoding="utf-8") as source:
                self.text[path] = source.read()

    def of(self, *suffixes):
        return [(path, text) for path, text in self.text.items() if path.endswith(suffixes)]


def without_comments(text):
    """C source with comments and string contents blanked, line breaks kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def rule_license(tree, _):
    """the first line names the licence"""
    for path, text in tree.text.items():
        lines = text.splitlines()
        first = lines[1] if len(lines) > 1 and lines[0].startswith("#!") else lines[0] if lines else ""
        if "SPDX-License-Identifier: Apache-2.0" not in first and not path.endswith(".in") \
                and os.path.basename(path) != "meson_options.txt":
            if path.endswith(".def") and "SPDX" in text[:200]:
                continue
            yield f"{path}:1: no SPDX line"


def rule_model_comment(tree, _):
    """every C file says what it is in its first comment"""
    for path, text in tree.of(".c", ".h"):
        lines = text.splitlines()
        if len(lines) < 2 or not lines[1].startswith("/*"):
            yield f"{path}:2: no comment"


def rule_line_length(tree, _):
    """no line is longer than 120 columns"""
    for path, text in tree.text.items():
        for number, line in enumerate(text.splitlines(), 1):
            columns = len(line.expandtabs(8))
            if columns > LINE_COLUMNS_MAX:
                yield f"{path}:{number}: {columns} columns"


def rule_file_length(tree, _):
    """no file is longer than 700 lines"""
    for path, text in tree.text.items():
        lines = text.count("\n")
        if lines > FILE_LINES_EXCEPTIONS.get(path, FILE_LINES_MAX):
            yield f"{path}: {lines} lines"


def rule_whitespace(tree, _):
    """no blanks at the ends of lines, and a newline at the end of the file"""
    for path, text in tree.text.items():
        if text and not text.endswith("\n"):
            yield f"{path}: no newline at the end"
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                yield f"{path}:{number}: blanks at the end"


def rule_banned_calls(tree, _):
    """functions without bounds or errors are not called"""
    for path, text in tree.of(".c", ".h"):
        code = without_comments(text)
        for match in BANNED_CALL.finditer(code):
            yield f"{path}:{line_of(code, match.start())}: {match.group(1)}()"


def rule_no_early_reader(tree, _):
    """no script pipes into a reader that leaves early: with pipefail the writer's death is a failure, now and then"""
    for path, text in tree.text.items():
        if "pipefail" not in text or path.endswith(".py"):
            continue
        for match in EARLY_READER.finditer(text):
            yield f"{path}:{line_of(text, match.start())}: {match.group(0)}"


def rule_unfinished(tree, _):
    """nothing is marked as unfinished"""
    for path, text in tree.text.items():
        for match in UNFINISHED.finditer(text):
            yield f"{path}:{line_of(text, match.start())}: {match.group(1)}"


def rule_pragma_once(tree, _):
    """headers can be included twice"""
    for path, text in tree.of(".h"):
        if path.endswith("-template.h"):
            continue  # included once for each instruction set
        if "#pragma once" not in text and not re.search(r"^#ifndef \w+_H$", text, re.MULTILINE):
            yield f"{path}: neither #pragma once nor a guard"


def allowed_for(path):
    fitting = [d for d in MAY_INCLUDE if path.startswith(d + "/")]
    return MAY_INCLUDE[max(fitting, key=len)] if fitting else None


def rule_include_direction(tree, _):
    """includes follow the direction of dependencies"""
    for path, text in tree.of(".c", ".h"):
        allowed = allowed_for(path)
        for match in INCLUDE.finditer(text):
            kind, header = match.groups()
            if kind == "<" or header in GENERATED_HEADERS or allowed is None:
                continue
            if not header.startswith(allowed):
                yield f"{path}:{line_of(text, match.start())}: {header}"


def rule_core_is_pure(tree, _):
    """daemon/core and daemon/tier include nothing of the operating system"""
    for path, text in tree.of(".c", ".h"):
        if not path.startswith(("daemon/core/", "daemon/tier/")):
            continue
        for match in INCLUDE.finditer(text):
            if CORE_FORBIDDEN.match(match.group(2)):
                yield f"{path}:{line_of(text, match.start())}: {match.group(2)}"


def rule_public_documented(tree, _):
    """every public function follows a comment"""
    lines = tree.text.get(PUBLIC_HEADER, "").splitlines()
    if not lines:
        yield f"{PUBLIC_HEADER} is missing"
    documented = False
    for number, line in enumerate(lines, 1):
        if line.startswith("KVC_API") and not documented:
            yield f"{PUBLIC_HEADER}:{number}: {line.strip()}"
        # A comment holds for the declarations and the struct that follow it without a blank line.
        if line.strip() == "":
            documented = False
        elif line.lstrip().startswith("/*") or line.rstrip().endswith("*/"):
            documented = True


def rule_files_are_built(tree, _):
    """every C file is named in a meson.build or included"""
    named = set()
    for path, text in tree.text.items():
        if os.path.basename(path) == "meson.build":
            named |= set(re.findall(r"[\w./-]*?([\w-]+\.c)\b", text))
            named |= {f"test-{n}.c" for n in re.findall(r"\[\s*'([\w-]+)'", text)}
            stems = re.findall(r"'([\w-]+-)' \+", text)
            named |= {f"{stem}{isa}.c" for stem in stems for isa in ("avx2", "avx512", "scalar")}
        elif path.endswith((".c", ".h")):
            named |= {os.path.basename(h) for _, h in INCLUDE.findall(text) if h.endswith(".c")}
    for path, _text in tree.of(".c"):
        if not path.startswith("tests/consumer/") and os.path.basename(path) not in named:
            yield f"{path}: not in a meson.build"


def output_of(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout


def kvctl_help_faults(tree, program):
    table_row = re.compile(r'^\t\{ "([a-z0-9-]+)", (?:0|\'.\'), OPTION_', re.MULTILINE)
    for path, text in tree.of(".c"):
        if not path.startswith("client/kvctl/"):
            continue
        verb = re.match(r"client/kvctl/cmd-(\w+)\.c", path)
        shown = output_of(program, "help", verb.group(1)) if verb else output_of(program, "--help")
        for name in table_row.findall(text):
            if not re.search(rf"--{name}\b", shown):
                yield f"{path}: --{name} is not in the help"


def kvpaged_help_faults(tree, program):
    shown = output_of(program, "--help")
    table = tree.text.get("daemon/config-table.c", "")
    names = [f"{section}-{key}".replace("_", "-") for section, key in re.findall(r'NAMED\("(\w+)", "(\w+)"\)', table)]
    names += re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument', tree.text.get("daemon/options.c", ""))
    if not names:
        yield "daemon/config-table.c: no settings found"
    for name in names:
        if not re.search(rf"--{name}\b", shown):
            yield f"kvpaged: --{name} is not in the help"


def kvworker_help_faults(tree, program):
    shown = output_of(program, "--help")
    for path, text in tree.of(".c"):
        if path.startswith("client/worker/"):
            for name in re.findall(r'\{ "([a-z-]+)", (?:no|required|optional)_argument', text):
                if not re.search(rf"--{name}\b", shown):
                    yield f"{path}: --{name} is not in the help"


def rule_options_in_help(tree, programs):
    """every long option is in its program's help"""
    for program, faults in ((programs.kvctl, kvctl_help_faults), (programs.kvpaged, kvpaged_help_faults),
                            (programs.kvworker, kvworker_help_faults)):
        if program:
            yield from faults(tree, program)


RULES = (rule_license, rule_model_comment, rule_line_length, rule_file_length, rule_whitespace, rule_banned_calls,
         rule_no_early_reader, rule_unfinished, rule_pragma_once, rule_include_direction, rule_core_is_pure,
         rule_public_documented, rule_files_are_built, rule_options_in_help)


def main():
    parser = argparse.ArgumentParser(description="Checks the style of the tree.")
    parser.add_argument("root")
    parser.add_argument("--kvctl")
    parser.add_argument("--kvpaged")
    parser.add_argument("--kvworker")
    arguments = parser.parse_args()
    tree = Tree(arguments.root)
    print(f"1..{len(RULES)}")
    failed = False
    for number, rule in enumerate(RULES, 1):
        faults = list(rule(tree, arguments))
        failed = failed or bool(faults)
        print(f"{'not ok' if faults else 'ok'} {number} - {rule.__doc__}")
        for fault in faults:
            print(f"# {fault}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
