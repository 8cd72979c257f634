# SPDX-License-Identifier: Apache-2.0
"""The programs in README.md, one after the other, but the one that wants a model (test_transformers.py)."""
from __future__ import annotations

import re

from conftest import ROOT


def test_programs(daemon, monkeypatch, capsys):
    monkeypatch.setenv("KVPAGED_SOCKET", daemon.socket)
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "client/python/README.md").read_text(), re.DOTALL)
    programs = [program for program in programs if "transformers" not in program]
    assert len(programs) == 2
    names: dict = {}
    for program in programs:
        exec(compile(program, "README.md", "exec"), names)
    error, sizes = capsys.readouterr().out.splitlines()
    assert 0 < float(error) < 0.01 and float(sizes.split()[1]) > 4.9
    names["cache"].close()
