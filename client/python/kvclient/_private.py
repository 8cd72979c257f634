# SPDX-License-Identifier: Apache-2.0
"""A kvpaged of this process's own, for when none runs.

It is started below a shell that waits for the end of its standard input, which this process holds open: so the daemon
ends, and its directory is removed, when it is no longer wanted, at the end of the process, and when the process is
killed. (A parent-death signal would come at the end of the thread that started it.)
"""
from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
import weakref
from typing import Optional

from .client import Client
from .errors import KvOSError, NoDaemon

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_GUARD = """
"$@" <&- & daemon=$!
echo "$daemon" >"$KVCLIENT_DIRECTORY/pid"
read -r _
kill "$daemon" 2>/dev/null
wait "$daemon"
rm -rf "$KVCLIENT_DIRECTORY"
"""


def _program() -> Optional[str]:
    return os.environ.get("KVPAGED_BIN") or shutil.which("kvpaged") or shutil.which("kvpaged", path="/usr/sbin:/sbin")


class PrivateDaemon:
    """A running kvpaged on a socket in a directory of its own."""

    def __init__(self, program: str, arena_bytes: int) -> None:
        directory = tempfile.mkdtemp(prefix="kvclient-")
        self.socket = os.path.join(directory, "socket")
        self._log = os.path.join(directory, "log")
        self._pid = os.path.join(directory, "pid")
        config = os.path.join(directory, "config")
        with open(config, "w", encoding="ascii"), open(self._log, "wb") as log:
            os.chmod(config, 0o600)
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "kvclient", program, "--config", config, "--socket", self.socket,
                 "--arena-bytes", str(arena_bytes), "--metrics-socket", "no"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "KVCLIENT_DIRECTORY": directory})
        # At the end of the process finalizers run last made first, so caches give back their pages before.
        self._ender = weakref.finalize(self, _end, self._guard, os.getpid(), self.socket)

    def connect(self) -> Client:
        """A client, when the daemon is ready; NoDaemon with its last words when it does not start."""
        end = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                return Client(self.socket, name="kvclient.paged")
            except ConnectionError as error:
                if time.monotonic() < end and not self._ended():
                    time.sleep(0.01)
                    continue
                words = self._last_words()
                self.close()
                raise NoDaemon(error.status if isinstance(error, KvOSError) else -2,
                               f"a private kvpaged does not start: {words}") from error

    def _last_words(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()
        return lines[-1] if lines else "it says nothing"

    def _ended(self) -> bool:
        """Whether the daemon is dead, or gone."""
        try:
            with open(self._pid, encoding="ascii") as number:
                daemon = number.read().strip()
        except FileNotFoundError:
            return False
        try:
            with open(f"/proc/{daemon}/stat", encoding="ascii", errors="replace") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return daemon != ""  # the guard is writing the number

    def close(self) -> None:
        """Ends it and waits for that; in a child after fork() nothing happens."""
        self._ender()


def _end(guard: subprocess.Popen[bytes], pid: int, socket: str) -> None:
    if os.getpid() != pid or guard.stdin is None:
        return
    guard.stdin.close()
    try:
        guard.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        warnings.warn(f"the private kvpaged on {socket} does not end", RuntimeWarning)


_lock = threading.Lock()
_shared: Optional[PrivateDaemon] = None
_shared_pid = 0
_users = 0
_said = False


def acquire(arena_bytes: int, reason: BaseException) -> Client:
    """A client of this process's private daemon, which is started by the first. release() it."""
    global _shared, _shared_pid, _users, _said
    with _lock:
        if _shared is None or _shared_pid != os.getpid():
            program = _program()
            if program is None:
                raise NoDaemon(-2, f"no kvpaged answers ({reason}), and there is no program kvpaged to start one: "
                               "install it, or name it in KVPAGED_BIN") from reason
            if not _said:
                warnings.warn(f"no kvpaged answers ({reason}); starting a private one, {program}: what it holds is "
                              "seen by this process alone and ends with it", RuntimeWarning, stacklevel=4)
                _said = True
            _shared, _shared_pid, _users = PrivateDaemon(program, arena_bytes), os.getpid(), 0
        try:
            client = _shared.connect()
        except BaseException:
            if _users == 0:
                _shared.close()
                _shared = None
            raise
        _users += 1
        return client


def release() -> None:
    """The last one ends the daemon."""
    global _shared, _users
    with _lock:
        if _shared is None or _shared_pid != os.getpid():
            return
        _users -= 1
        if _users == 0:
            _shared.close()
            _shared = None
