# SPDX-License-Identifier: Apache-2.0
"""The examples, run as a user would."""
from __future__ import annotations

import os
import re
import subprocess
import sys

from conftest import ROOT

import kvclient as kv

EXAMPLES = ROOT / "client/python/examples"


def run(daemon, script: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True,
                          env={**os.environ, "KVPAGED_SOCKET": daemon.socket})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_shared_prompt(daemon):
    output = run(daemon, "shared_prompt.py")
    counts = re.findall(r"prompt (\d+) tokens: (\d+) from the cache, (\d+) computed", output)
    assert len(counts) == 2
    (first, none, _), (second, cached, computed) = [[int(n) for n in line] for line in counts]
    assert none == 0 and cached >= 384 and cached + computed == second and first > 384


def test_offload(daemon, tmp_path):
    state = str(tmp_path / "talk.json")
    assert "times smaller" in run(daemon, "offload.py", "save", state)
    output = run(daemon, "offload.py", "restore", state)
    error = re.search(r"mean error of K ([\d.]+)%", output)
    assert error is not None and 0 < float(error[1]) < 2
    assert "0.00%" in run(daemon, "offload.py", "save", state, "--codec", "f32") + \
        run(daemon, "offload.py", "restore", state)
    with kv.Client(daemon.socket) as client:
        client.evict()
    assert "only 0 tokens are there" in run(daemon, "offload.py", "restore", state, status=1)


def test_chat(daemon):
    output = run(daemon, "chat.py")
    counts = [(int(tokens), int(cached)) for tokens, cached in re.findall(r"\[(\d+) tokens, (\d+) from", output)]
    assert len(counts) == 3 and "the worker is dead" in output
    assert counts[0][1] == 0
    for before, (tokens, cached) in zip(counts, counts[1:]):  # the third is another process
        assert cached >= before[0] // 32 * 32 - 32 and cached > 0 and tokens > before[0]


def test_interactive_chat(daemon):
    done = subprocess.run([sys.executable, str(EXAMPLES / "chat.py"), "--interactive"], capture_output=True, text=True,
                          input="Hello.\nkill\nStill?\n\n", env={**os.environ, "KVPAGED_SOCKET": daemon.socket})
    assert done.returncode == 0 and done.stdout.count("from the cache]") == 2, done.stdout + done.stderr


def test_without_a_daemon(tmp_path):
    done = subprocess.run([sys.executable, str(EXAMPLES / "offload.py"), "save", str(tmp_path / "x")],
                          capture_output=True, text=True, env={**os.environ, "KVPAGED_SOCKET": str(tmp_path / "none")})
    assert done.returncode != 0 and "NoDaemon" in done.stderr
