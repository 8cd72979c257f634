#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon's metrics as the programs that read them see them: promtool's linter, the parser of OpenMetrics in
Debian's python3-prometheus-client, and a Prometheus that scrapes the daemon over TCP on the loopback.

    test-prometheus.py

KVPAGED_BIN and KVCTL_BIN name the programs. What is not installed is skipped. Nothing is said about how fast anything
is. Prints TAP.
"""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

LIMIT_S = 60
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SPACE = 'a "space" \\ of {ours}, caf\u00e9'
ARENA_BYTES = 64 << 20


class Skipped(Exception):
    """What the test needs is not here."""


def await_that(what, check):
    """The first true value of check(), which is asked again and again."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        value = check()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"it takes too long until {what}")


@contextlib.contextmanager
def started(command, log_path):
    """A program in the background, its output in the file; it is stopped at the end."""
    with open(log_path, "wb") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                       stderr=log) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def put_block(directory, socket_path):
    """One block under a name that needs every escape; the arrays as numpy.save() would write them."""
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 16, 32), }"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path = os.path.join(directory, "k.npy")
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 4 * 16 * 32)
    subprocess.run([os.environ["KVCTL_BIN"], "--socket", socket_path, "put", SPACE, "key", "--k", path, "--model", "m",
                    "--codec", "q8"], check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def daemon():
    """A kvpaged with one block. Yields its directory and the port of its metrics."""
    for name in ("KVPAGED_BIN", "KVCTL_BIN"):
        if not os.environ.get(name):
            raise Skipped(f"{name} is not set")
    with tempfile.TemporaryDirectory() as directory:
        config, log, path = (os.path.join(directory, name) for name in ("conf", "log", "s"))
        with open(config, "w", encoding="utf-8"):
            os.chmod(config, 0o600)
        command = [os.environ["KVPAGED_BIN"], "--config", config, "--socket", path, "--arena-bytes", str(ARENA_BYTES),
                   "--metrics-listen", "127.0.0.1:0"]
        with started(command, log) as process:
            port = await_that("kvpaged is ready", lambda: re.search(r", metrics .*:(\d+)\n", read(log)))
            put_block(directory, path)
            yield directory, int(port.group(1))
        assert process.returncode == 0, read(log)


def scrape(port, accept="*/*"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request("GET", "/metrics", headers={"Accept": accept})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, answer.status
    return answer.getheader("Content-Type"), text


def test_promtool():
    """promtool check metrics has nothing to say about a live scrape"""
    if not shutil.which("promtool"):
        raise Skipped("promtool is not installed (package prometheus)")
    with daemon() as (_, port):
        _, text = scrape(port)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=LIMIT_S,
                          check=False)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stdout + done.stderr
    assert f"kvpaged_arena_bytes {ARENA_BYTES}\n" in text


def test_openmetrics_parser():
    """python3-prometheus-client reads both formats, and finds the same in them"""
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
        from prometheus_client.parser import text_string_to_metric_families as read_text
    except ImportError as error:
        raise Skipped("python3-prometheus-client is not installed") from error
    with daemon() as (_, port):
        text_type, text = scrape(port)
        open_type, opened = scrape(port, OPENMETRICS)
    assert text_type == "text/plain; version=0.0.4; charset=utf-8", text_type
    assert open_type == OPENMETRICS + "; charset=utf-8", open_type
    families = {family.name: family for family in read_openmetrics(opened)}
    in_text = {family.name: family for family in read_text(text)}
    assert families.keys() == in_text.keys(), families.keys() ^ in_text.keys()
    for name, family in families.items():
        assert name.startswith(("kvpaged_", "process_")) and family.documentation, family
        assert family.type == in_text[name].type and family.samples, family
        shown = [(sample.name, sample.labels) for sample in family.samples]
        assert shown == [(sample.name, sample.labels) for sample in in_text[name].samples], name
    assert families["kvpaged_arena_bytes"].unit == "bytes"
    assert families["kvpaged_request_duration_seconds"].type == "histogram"
    blocks = families["kvpaged_space_blocks"].samples
    assert [(sample.labels, sample.value) for sample in blocks] == [({"space": SPACE}, 1)], blocks


CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: kvpaged
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path):
    """An answer of Prometheus; None while it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except OSError:
        return None
    finally:
        connection.close()
    return json.loads(body)["data"] if answer.status == 200 else None


def query(port, expression):
    """The result; None while there is none."""
    data = ask(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    return data["result"] if data else None


def await_value(port, expression):
    result = await_that(f"Prometheus knows {expression}", lambda: query(port, expression))
    assert len(result) == 1, result
    return result[0]["metric"], float(result[0]["value"][1])


def test_prometheus():
    """a Prometheus scrapes the daemon, and its API answers with what the daemon holds"""
    if not shutil.which("prometheus"):
        raise Skipped("prometheus is not installed")
    with daemon() as (directory, port):
        config, data, log = (os.path.join(directory, name) for name in ("prometheus.yml", "data", "prometheus.log"))
        own = free_port()
        with open(config, "w", encoding="utf-8") as stream:
            stream.write(CONFIG % port)
        with started(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
                      f"--web.listen-address=127.0.0.1:{own}"], log):
            assert await_value(own, "kvpaged_arena_bytes")[1] == ARENA_BYTES
            metric, blocks = await_value(own, "kvpaged_space_blocks")
            assert blocks == 1 and metric["space"] == SPACE, metric
            assert await_value(own, 'up{job="kvpaged"}')[1] == 1
            assert await_value(own, 'kvpaged_request_duration_seconds_bucket{verb="append",le="+Inf"}')[1] >= 1
            assert await_value(own, "kvpaged_build_info")[0]["version"]
            target = ask(own, "/api/v1/targets")["activeTargets"][0]
            assert target["health"] == "up" and not target["lastError"], target


TESTS = (test_promtool, test_openmetrics_parser, test_prometheus)


def main():
    failed = False
    print(f"1..{len(TESTS)}")
    for number, test in enumerate(TESTS, 1):
        try:
            test()
            print(f"ok {number} - {test.__doc__}")
        except Skipped as reason:
            print(f"ok {number} - {test.__doc__} # SKIP {reason}")
        except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
            failed = True
            print(f"not ok {number} - {test.__doc__}")
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
