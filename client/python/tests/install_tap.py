# SPDX-License-Identifier: Apache-2.0
"""pip installs client/python into a new venv, and a program elsewhere uses it, as TAP.

    install_tap.py PACKAGE KVPAGED LIBKVCLIENT VERSION

What pip needs beside the package (setuptools to build it, numpy to run it) comes from where pip is configured to take
it; where it cannot be had, nothing is tested, and the reason is said.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

# Old releases of setuptools want wheel beside them.
REQUIREMENTS = ("setuptools>=61", "wheel", "numpy>=1.23")
TIMEOUT_S = 300
START_LIMIT_S = 60
SHOWN = 2000  # characters of the end of what a failed program said

PROGRAM = """\
import importlib.metadata, pathlib, sys
import numpy as np
import kvclient as kv

package = pathlib.Path(kv.__file__).parent
assert sys.prefix in str(package), f"{package} is not of this venv"
assert (package / "py.typed").exists(), "py.typed is not installed"
assert kv.__version__ == importlib.metadata.version("kvclient") == sys.argv[1], kv.__version__
from kvclient.paged import BitPackedKVCache  # a module that kvclient does not import

k, v = (np.random.default_rng(seed).standard_normal((2, 4, 128, 32), dtype=np.float32) for seed in (1, 2))
with kv.Client() as client:
    space = client.space("installed", kv.Schema("m", layers=2, kv_heads=4, head_dim_k=32, dtype="f32", codec_k="f32"))
    keys = kv.prefix_keys(range(128))
    space.put(keys[0], k, v)
    got = space.fetch(keys, strict=True)
    assert np.array_equal(got.k, k) and np.array_equal(got.v, v)
    with BitPackedKVCache(client=client) as cache:
        assert cache.compress_kv(k, v).compression_ratio > 4
print("stored and fetched")
"""

NO_LIBRARY = """\
import kvclient
try:
    kvclient.Client()
except ImportError as error:
    print(error)
"""


class Failed(Exception):
    """A step did not do what it should; what it said."""


def run(command, **more):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False, timeout=TIMEOUT_S, **more)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(map(str, command))}: no end after {TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-SHOWN:]}")
    return done.stdout


def plain_environment():
    """Without what would let the program find the checkout, and without a sanitizer in pip."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_PRELOAD")}


class Install:
    def __init__(self, work, arguments):
        self.work = work
        self.package, self.kvpaged, self.library = (os.path.abspath(path) for path in arguments[:3])
        self.version = arguments[3]
        self.venv, self.wheels = work / "venv", work / "wheels"
        self.pip = [self.venv / "bin/python", "-m", "pip", "--disable-pip-version-check"]

    def prepare(self):
        """What this needs and does not test; a failure here skips."""
        run([sys.executable, "-m", "venv", self.venv], env=plain_environment())
        run([*self.pip, "download", "--quiet", "--retries", "1", "--timeout", "15", "--only-binary", ":all:", "--dest",
             self.wheels, *REQUIREMENTS], env=plain_environment())

    def test_install(self):
        """pip install, from the downloaded files alone"""
        # Of a copy, since setuptools builds in the directory that it is given.
        copy = self.work / "package"
        shutil.copytree(self.package, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        run([*self.pip, "install", "--no-index", "--find-links", self.wheels, copy], env=plain_environment(),
            cwd=self.work)
        shutil.rmtree(copy)

    def test_use(self):
        """a program elsewhere stores and fetches"""
        socket, config, elsewhere = self.work / "s", self.work / "config", self.work / "elsewhere"
        config.touch(mode=0o600)
        elsewhere.mkdir()
        (elsewhere / "program.py").write_text(PROGRAM, encoding="ascii")
        environment = plain_environment() | {"KVPAGED_SOCKET": str(socket), "KVCLIENT_LIBRARY": self.library}
        if "LD_PRELOAD" in os.environ:
            environment["LD_PRELOAD"] = os.environ["LD_PRELOAD"]  # the library under test wants it
        with open(self.work / "log", "wb") as log, subprocess.Popen(
                [self.kvpaged, "--config", config, "--socket", socket, "--arena-bytes", "64MiB", "--metrics-socket",
                 "no"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=plain_environment()) as daemon:
            try:
                end = time.monotonic() + START_LIMIT_S
                while not socket.exists() and daemon.poll() is None and time.monotonic() < end:
                    time.sleep(0.05)
                said = run([self.venv / "bin/python", "program.py", self.version], env=environment, cwd=elsewhere)
            finally:
                daemon.terminate()
        if said != "stored and fetched\n":
            raise Failed(said)

    def test_no_library(self):
        """without libkvclient the error says how to get it"""
        environment = plain_environment() | {"KVCLIENT_LIBRARY": str(self.work / "nothing.so")}
        (self.work / "program.py").write_text(NO_LIBRARY, encoding="ascii")
        said = run([self.venv / "bin/python", "program.py"], env=environment, cwd=self.work)
        if "nothing.so" not in said or "libkvclient0" not in said:
            raise Failed(said)


def main():
    if os.environ.get("KVP_PYTHON_SKIP"):
        print(f"1..0 # SKIP {os.environ['KVP_PYTHON_SKIP']}")
        return 0
    with tempfile.TemporaryDirectory(prefix="kvclient-install-") as work:
        install = Install(pathlib.Path(work), sys.argv[1:])
        try:
            install.prepare()
        except Failed as error:
            print(f"1..0 # SKIP no venv with {', '.join(REQUIREMENTS)} can be made here: "
                  f"{str(error).splitlines()[-1]}")
            return 0
        tests = [name for name in vars(Install) if name.startswith("test_")]
        print(f"1..{len(tests)}")
        failed = False
        for number, name in enumerate(tests, 1):
            test = getattr(install, name)
            try:
                test()
                print(f"ok {number} - {test.__doc__}", flush=True)
            except Failed as error:
                failed = True
                print(f"not ok {number} - {test.__doc__}")
                print("\n".join(f"# {line}" for line in str(error).splitlines()), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
