# SPDX-License-Identifier: Apache-2.0
"""A kvpaged of this run's own, on a socket in a directory of its own."""
import os
import shutil
import socket
import subprocess
import tempfile
import time

START_S = 20


class Daemon:
    """with Daemon("build/daemon/kvpaged", "1GiB") as daemon: daemon.socket, daemon.pid"""

    def __init__(self, program, arena):
        self.program, self.arena = program, arena

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="kvpaged-eval-")
        self.socket = os.path.join(self.directory, "s")
        self.log = open(os.path.join(self.directory, "log"), "w+", encoding="utf-8")
        command = [self.program, "--socket", self.socket, "--arena-bytes", self.arena]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        for _ in range(10 * START_S):
            if self._listens():
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.log.seek(0)
        text = self.log.read()
        self.__exit__()
        raise RuntimeError(f"{' '.join(command)} did not start:\n{text}")

    def _listens(self):
        """The socket is there a moment before it can be connected to."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
