# SPDX-License-Identifier: Apache-2.0
"""The programs and commands in README.md, as they stand there; test_transformers.py runs the one that wants a model."""
from __future__ import annotations

import os
import re
import subprocess
import sys

from conftest import ROOT

TEXT = (ROOT / "client/python/README.md").read_text()


def test_programs(daemon, monkeypatch, capsys):
    monkeypatch.setenv("KVPAGED_SOCKET", daemon.socket)
    programs = [program for program in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
                if "transformers" not in program]
    assert len(programs) == 2
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
    error, sizes = capsys.readouterr().out.splitlines()
    assert 0 < float(error) < 0.01 and float(sizes.split()[1]) > 4.9


def test_commands(daemon, tmp_path):
    commands = re.search(r"## Examples\n.*?```\n(.*?)```", TEXT, re.DOTALL)
    assert commands is not None
    for command in commands[1].replace("/tmp", str(tmp_path)).splitlines():
        command = command.replace("python3", sys.executable, 1)
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True,
                              env={**os.environ, "KVPAGED_SOCKET": daemon.socket})
        assert done.returncode == 0 and done.stdout, command + done.stdout + done.stderr
