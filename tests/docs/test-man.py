#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual pages against the programs' help, the public header, the protocol and the tables; and their examples run.

    test-man.py SOURCE_ROOT BUILD_ROOT

KVPAGED_BIN and KVCTL_BIN name the programs. What is looked at is the text that scdoc is given. Prints TAP.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import manual
import tap
from rig import Daemon, write_npy

SOURCE, BUILD = sys.argv[1:3]
KVPAGED = os.environ.get("KVPAGED_BIN", "")
KVCTL = os.environ.get("KVCTL_BIN", "")

# What scdoc writes for every page, and what mandoc thinks of it.
LINT_ACCEPTED = (
    "skipping paragraph macro",                # a .P before each heading, list and indented text
    "lower case character in document title",  # names are written as one types them
    "input text line longer than 80 bytes",    # lines of the source stay lines
)


def source(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def page(name):
    return manual.Page(os.path.join(BUILD, "docs/man", name + ".scd"))


def output(*command):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KVPAGED_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment).stdout


def differences(there, documented, what):
    """Names that only one side has."""
    for name in sorted(set(there) - set(documented)):
        yield f"{what}: {name} is not documented"
    for name in sorted(set(documented) - set(there)):
        yield f"{what}: {name} is documented and does not exist"


def test_kvpaged_options():
    """options of kvpaged"""
    shown = manual.options_in_help(output(KVPAGED, "--help"))
    yield from differences(shown, page("kvpaged.8").options("OPTIONS"), "kvpaged(8)")


def kvctl_verbs():
    listed = output(KVCTL, "--help").split("\nVerbs:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\S+)", listed, re.MULTILINE)


def test_kvctl_verbs():
    """verbs of kvctl"""
    verbs = kvctl_verbs()
    yield from differences(verbs, page("kvctl.1").subsections("VERBS"), "kvctl(1)")


def test_kvctl_options():
    """options of kvctl and of each verb"""
    document = page("kvctl.1")
    common = manual.options_in_help(output(KVCTL, "--help"))
    yield from differences(common, document.options("OPTIONS"), "kvctl(1), OPTIONS")
    for verb in kvctl_verbs():
        shown = manual.options_in_help(output(KVCTL, "help", verb).split("\nOptions of every verb:\n")[0])
        yield from differences(shown, document.options("VERBS", verb), f"kvctl(1), {verb}")


def test_settings():
    """settings with their defaults"""
    with tempfile.NamedTemporaryFile() as empty:
        printed = output(KVPAGED, "--config", empty.name, "--print-config")
    defaults = dict(re.findall(r"^(\S+) = ?(.*?)   # default$", printed, re.MULTILINE))
    yield from differences((f"{key} = {value or 'empty'}" for key, value in defaults.items()),
                           (f"{key} = {value}" for key, value in page("kvpaged.conf.5").settings()),
                           "kvpaged.conf(5)")


def test_functions():
    """functions of the library"""
    declared = re.findall(r"^KVC_API [^;(]*?\b(kvc_\w+)\(", source("client/kvclient.h"), re.MULTILINE)
    document = page("libkvclient.3")
    yield from differences(declared, document.table_names("FUNCTIONS"), "libkvclient(3), FUNCTIONS")
    for name in sorted(set(re.findall(r"\bkvc_\w+(?=\()", document.plain)) - set(declared)):
        yield f"libkvclient(3): there is no {name}()"


def test_exit_statuses():
    """exit statuses, as the help lists them"""
    for program, name in ((KVPAGED, "kvpaged.8"), (KVCTL, "kvctl.1")):
        shown = re.search(r"Exit status: (.*?)\.\n", output(program, "--help"), re.DOTALL).group(1)
        yield from differences(re.findall(r"\b\d+\b", shown), page(name).terms("EXIT STATUS"), name)


def test_requests():
    """requests of the protocol"""
    verbs = re.search(r"message Request \{.*?oneof verb \{(.*?)\n  \}", source("proto/kvpaged.proto"), re.DOTALL)
    yield from differences(re.findall(r"^ +(\w+) \w+ = \d+;", verbs.group(1), re.MULTILINE),
                           page("kvpaged-protocol.7").terms("REQUESTS"), "kvpaged-protocol(7)")


def test_statuses():
    """statuses of the protocol"""
    there = re.findall(r"X\((\w+), \d+,", source("proto/status.h"))
    yield from differences(there, set(page("kvpaged-protocol.7").table_names("STATUSES")) - {"Status"},
                           "kvpaged-protocol(7)")


def test_metrics():
    """metrics"""
    families = re.findall(r"^FAMILY\((\w+),", source("proto/metrics.def"), re.MULTILINE)
    named = [name if name.startswith("process_") else "kvpaged_" + name for name in families]
    yield from differences(named, page("kvpaged.8").terms("METRICS"), "kvpaged(8)")


def test_variables():
    """variables of the environment that the pages name are ones that the source looks at"""
    known = {"KVPAGED_SOCKET", "KVC_ISA", "NO_COLOR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS",
             "LISTEN_FDNAMES", "LISTEN_PID"}
    settings = re.findall(r'NAMED\("(\w+)", "(\w+)"\)', source("daemon/config-table.c"))
    known |= {f"KVPAGED_{section}_{key}".upper() for section, key in settings}
    for name in manual.PAGES:
        for variable in page(name).terms("ENVIRONMENT"):
            if variable not in known:
                yield f"{name}: {variable}"


def test_scdoc():
    """scdoc takes every page without a word"""
    scdoc = shutil.which("scdoc")
    if not scdoc:
        raise tap.Skipped("scdoc is not installed")
    for name in manual.PAGES:
        done = subprocess.run([scdoc], input=page(name).text, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 or done.stderr:
            yield f"{name}: {done.stderr or done.returncode}"


def test_mandoc():
    """mandoc finds no fault with what scdoc makes"""
    scdoc, mandoc = shutil.which("scdoc"), shutil.which("mandoc")
    if not scdoc or not mandoc:
        raise tap.Skipped("scdoc or mandoc is not installed")
    for name in manual.PAGES:
        made = subprocess.run([scdoc], input=page(name).text, capture_output=True, text=True, timeout=60, check=False)
        lint = subprocess.run([mandoc, "-Tlint"], input=made.stdout, capture_output=True, text=True, timeout=60,
                              check=False)
        for line in (lint.stdout + lint.stderr).splitlines():
            if not any(accepted in line for accepted in LINT_ACCEPTED):
                yield f"{name}: {line}"


def test_see_also():
    """pages of ours that pages refer to are there"""
    for name in manual.PAGES:
        for other, section in re.findall(r"\*([\w.-]+)\*\((\d)\)", page(name).text):
            if other.startswith(("kv", "libkv")) and f"{other}.{section}" not in manual.PAGES:
                yield f"{name}: {other}({section})"


def test_library_example():
    """the example of libkvclient(3) compiles without a warning and works"""
    compiler = os.environ.get("KVPAGED_TEST_CC") or shutil.which("cc")
    flags = os.environ.get("KVPAGED_TEST_CFLAGS", "").split()
    library = os.path.join(BUILD, "client")
    with Daemon(KVPAGED) as daemon:
        program = os.path.join(daemon.directory, "example")
        with open(program + ".c", "w", encoding="utf-8") as file:
            file.write(page("libkvclient.3").literals("EXAMPLES")[0])
        made = subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", *flags, "-I", os.path.join(SOURCE, "client"),
                               "-o", program, program + ".c", "-L", library, "-lkvclient", f"-Wl,-rpath,{library}"],
                              capture_output=True, text=True, timeout=120, check=False)
        if made.returncode != 0:
            yield made.stderr
            return
        done = daemon.run([program])
        if done.returncode != 0 or done.stdout != "16 tokens came back\n":
            yield f"{done.returncode}: {done.stdout}{done.stderr}"


def test_kvctl_examples():
    """the examples of kvctl(1) work, in order"""
    with Daemon(KVPAGED) as daemon:
        write_npy(os.path.join(daemon.directory, "k.npy"), (2, 4, 128, 64))
        for block in page("kvctl.1").literals("EXAMPLES"):
            for line in block.splitlines():
                done = daemon.run([KVCTL, *line.split()[1:]])
                if done.returncode != 0 or not line.startswith("kvctl "):
                    yield f"{line}: {done.returncode}: {done.stderr}"


def test_configuration_example():
    """the example of kvpaged.conf(5) is valid"""
    text = page("kvpaged.conf.5").literals("DESCRIPTION")[0].replace("group = inference", "group = 0")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([KVPAGED, "--config", file.name, "--check-config"], capture_output=True, text=True,
                              timeout=60, check=False)
    if done.returncode != 0:
        yield done.stderr


if __name__ == "__main__":
    tap.run([value for name, value in list(globals().items()) if name.startswith("test_")])
