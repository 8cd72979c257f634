# SPDX-License-Identifier: Apache-2.0
"""A kvpaged for tests, on a private socket: KVPAGED_BIN names the program, KVCLIENT_LIBRARY the library."""
from __future__ import annotations

import os
import pathlib
import subprocess
import time
from typing import Iterator, Optional

import numpy as np
import pytest

# Tests start programs in other directories.
for _name in ("KVPAGED_BIN", "KVCLIENT_LIBRARY", "PYTHONPATH"):
    if _name in os.environ:
        os.environ[_name] = os.pathsep.join(map(os.path.abspath, os.environ[_name].split(os.pathsep)))

import kvclient as kv  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0


class Daemon:
    """Starts at once; stop(), kill() and start() as often as one likes."""

    def __init__(self, directory: pathlib.Path, *arguments: str) -> None:
        self.socket = str(directory / "s")
        self.log = directory / "log"
        config = directory / "config"
        config.touch(mode=0o600)
        self._command = [os.environ["KVPAGED_BIN"], "--config", str(config), "--socket", self.socket,
                         "--arena-bytes", "64MiB", "--metrics-socket", "no", *arguments]
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                kv.Client(self.socket).close()
                return
            except ConnectionError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise AssertionError(f"kvpaged does not start:\n{self.log.read_text()}") from None
                time.sleep(0.01)

    def _end(self, how: str) -> None:
        if self._process is not None:
            getattr(self._process, how)()
            self._process.wait(STOP_LIMIT_S)
            self._process = None

    def stop(self) -> None:
        self._end("terminate")

    def kill(self) -> None:
        self._end("kill")


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("d"))
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """One of the test's own, for those that end it or fill it."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def client(shared_daemon: Daemon) -> Iterator[kv.Client]:
    with kv.Client(shared_daemon.socket, name="test") as client:
        yield client


EXACT = kv.Schema("test", layers=2, kv_heads=4, head_dim_k=16, head_dim_v=24, dtype="f32", codec_k="f32",
                  block_tokens=32, page_heads=2)


@pytest.fixture
def space(client: kv.Client, request: pytest.FixtureRequest) -> kv.Space:
    """An empty one whose codec is exact, named after the test."""
    return client.space(request.node.name[:100], EXACT)


def tensors(seed: int = 0, tokens: int = 32, schema: kv.Schema = EXACT) -> tuple[np.ndarray, np.ndarray]:
    """K and V of a block."""
    random = np.random.default_rng(seed)
    dim_v = schema.head_dim_k if schema.head_dim_v is None else schema.head_dim_v
    return tuple(random.standard_normal((schema.layers, schema.kv_heads, tokens, dim), dtype=np.float32)
                 for dim in (schema.head_dim_k, dim_v))
