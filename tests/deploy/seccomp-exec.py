#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program under a seccomp profile, as a container runtime does. The kernel keeps it over exec and fork.

Usage: seccomp-exec.py PROFILE PROGRAM [ARGUMENT...]
"""
import json
import os
import sys

import seccomp

OPERATORS = {"SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}


def action(entry):
    if entry["action"] == "SCMP_ACT_ALLOW":
        return seccomp.ALLOW
    return seccomp.ERRNO(entry["errnoRet"])


def argument(entry):
    return seccomp.Arg(entry["index"], OPERATORS[entry["op"]], entry["value"], entry.get("valueTwo", 0))


def load(path):
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    rules = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
    for entry in profile["syscalls"]:
        arguments = [argument(a) for a in entry.get("args", ())]
        for name in entry["names"]:
            rules.add_rule(action(entry), name, *arguments)
    rules.load()


load(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
