# SPDX-License-Identifier: Apache-2.0
"""A kvpaged on a socket of its own, in a directory of its own, for as long as a with statement lasts."""
import os
import signal
import struct
import subprocess
import tempfile
import time

START_S = 30


def write_npy(path, shape):
    """An array of f32 that counts up, as numpy writes it."""
    n = 1
    for dimension in shape:
        n *= dimension
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack(f"<{n}f", *(i % 251 / 16 for i in range(n))))


class Daemon:
    """directory is removed at the end; run() runs a program in it that finds the daemon."""

    def __init__(self, kvpaged):
        self.kvpaged = kvpaged
        self.holder = tempfile.TemporaryDirectory(prefix="kvp-docs-")
        self.directory = self.holder.name
        self.socket = os.path.join(self.directory, "sock")
        self.process = None

    def __enter__(self):
        config = os.path.join(self.directory, "empty.conf")
        with open(config, "w", encoding="utf-8"):
            pass
        self.process = subprocess.Popen([self.kvpaged, "--config", config, "--socket", self.socket, "--arena-bytes",
                                         "16MiB", "--log-level", "error"])
        end = time.monotonic() + START_S
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__(None, None, None)
                raise AssertionError("kvpaged did not start")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.holder.cleanup()

    def run(self, command):
        environment = dict(os.environ, KVPAGED_SOCKET=self.socket)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment,
                              cwd=self.directory)
