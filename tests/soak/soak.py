#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon with a tier under random clients, kills, restarts and damage for hours, looked at now and then.

Before each look all clients end, so that what the daemon holds then is its own: descriptors and anonymous memory must
be about what they were at the first look, and gauges say that nothing is held for anybody. One line of CSV each look,
and a plot of text at the end, which shows flat lines or does not. tests/soak.sh starts it.
"""
import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

READERS, WRITERS = 3, 2
FDS_MORE = 2  # than at the first look
RSS_MORE_KIB = 16 * 1024
NOTHING = ("leases", "blocks_partial", "blocks_limbo", "limbo_bytes", "staging_bytes", "loading_bytes",
           "blocks_pinned")
PARTS = ("metadata_bytes", "stored_bytes", "overhead_bytes", "limbo_bytes", "loading_bytes", "free_bytes")
COLUMNS = ("seconds", "life", "descriptors", "anonymous_kib", "blocks", "stored_bytes", "tier_blocks",
           "tier_broken_total", "tier_corrupt_pages_total", "tier_loaded_blocks_total", "worker_kills", "daemon_kills",
           "daemon_stops", "damages")


class Wrong(Exception):
    """What ends the test."""


class Soak:
    def __init__(self, options, directory):
        self.options = options
        self.directory = directory
        self.socket = os.path.join(directory, "s")
        self.tier = os.path.join(directory, "tier")
        self.log_path = os.path.join(directory, "log")
        self.random = random.Random(options.seed)
        self.workers = {}
        self.daemon = None
        self.counts = dict.fromkeys(("worker_kills", "daemon_kills", "daemon_stops", "damages"), 0)
        self.lives = 0
        self.rows = []
        os.mkdir(self.tier, 0o700)

    # --- Processes ---

    def daemon_start(self):
        arguments = ["--socket", self.socket, "--arena-bytes", "16MiB", "--tier-dir", self.tier, "--tier-bytes",
                     "64MiB", "--tier-segment-bytes", "8MiB", "--tier-admit", "all", "--tier-free-percent", "50",
                     "--reader-pin-grace-ms", "200ms"]
        # The address sanitizer keeps what was freed, by default up to 256 MiB: that would look like a leak.
        sanitizer = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=4")))
        with open(self.log_path, "ab") as log:
            self.daemon = subprocess.Popen([self.options.kvpaged] + arguments, stdout=log, stderr=log,
                                           env=os.environ | {"ASAN_OPTIONS": sanitizer})
        self.lives += 1
        for _ in range(3000):
            if subprocess.run([self.options.kvctl, "--socket", self.socket, "stats"], check=False,
                              capture_output=True).returncode == 0:
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.01)
        raise Wrong("the daemon does not start")

    def daemon_end(self, how):
        self.daemon.send_signal(how)
        status = self.daemon.wait(60)
        if status != (-signal.SIGKILL if how == signal.SIGKILL else 0):
            raise Wrong(f"the daemon ended with {status}")

    def worker_start(self, number):
        what = "read" if number < READERS else "write"
        seed = str(self.random.getrandbits(32))
        with open(self.log_path, "ab") as log:
            self.workers[number] = subprocess.Popen([self.options.worker, self.socket, seed, str(number), what],
                                                    stdout=log, stderr=log)

    def worker_kill(self, number):
        worker = self.workers.pop(number)
        worker.send_signal(signal.SIGKILL)
        if worker.wait() != -signal.SIGKILL:
            raise Wrong(f"worker {number} ended by itself; see {self.log_path}")

    def all_run(self):
        for number, worker in self.workers.items():
            if worker.poll() is not None:
                raise Wrong(f"worker {number} ended with {worker.returncode}; see {self.log_path}")
        if self.daemon.poll() is not None:
            raise Wrong(f"the daemon ended with {self.daemon.returncode}; see {self.log_path}")

    # --- Mischief ---

    def damage(self):
        """A segment loses a part of its bytes, or is gone."""
        files = [os.path.join(self.tier, f) for f in sorted(os.listdir(self.tier))]
        files = [f for f in files if os.path.isfile(f) and os.path.getsize(f) > 1 << 20]
        if not files:
            return
        self.counts["damages"] += 1
        file = self.random.choice(files)
        if self.random.random() < 0.2:
            os.unlink(file)
            return
        with open(file, "r+b") as segment:
            for _ in range(64):
                segment.seek(self.random.randrange(os.path.getsize(file) - 512))
                segment.write(self.random.randbytes(8))

    def turn(self):
        number = self.random.randrange(READERS + WRITERS)
        chance = self.random.random()
        if chance < 0.3:
            self.worker_kill(number)
            self.worker_start(number)
            self.counts["worker_kills"] += 1
        elif chance < 0.32:
            self.damage()
        elif chance < 0.33:
            self.daemon_end(signal.SIGKILL)
            self.counts["daemon_kills"] += 1
            if self.random.random() < 0.5:
                self.damage()
            self.daemon_start()
        elif chance < 0.335:
            self.daemon_end(signal.SIGTERM)
            self.counts["daemon_stops"] += 1
            self.daemon_start()

    # --- Looks ---

    def stats(self):
        text = subprocess.run([self.options.kvctl, "--socket", self.socket, "--json", "stats"], check=True,
                              capture_output=True, text=True).stdout
        return json.loads(text)["counters"]

    def quiet(self):
        """The counters when nobody is there but who asks."""
        for _ in range(1000):
            now = self.stats()
            if now["sessions"] == 1 and all(now[name] == 0 for name in NOTHING):
                return now
            time.sleep(0.02)
        held = {name: now[name] for name in ("sessions",) + NOTHING if now[name]}
        raise Wrong(f"the daemon still holds {held} for clients that are gone")

    def anonymous_kib(self):
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))

    def look(self, seconds):
        for number in list(self.workers):
            self.worker_kill(number)
        now = self.quiet()
        if sum(now[part] for part in PARTS) != now["arena_bytes"]:
            raise Wrong("the memory gauges do not add up to the arena")
        if now["protocol_errors_total"] > 0:
            raise Wrong("an honest client was taken for one that breaks the protocol")
        row = {"seconds": round(seconds), "life": self.lives, "anonymous_kib": self.anonymous_kib(),
               "descriptors": len(os.listdir(f"/proc/{self.daemon.pid}/fd")), **self.counts}
        row.update({name: now[name] for name in COLUMNS if name in now})
        self.rows.append(row)
        self.bounds(row)
        for number in range(READERS + WRITERS):
            self.worker_start(number)

    def bounds(self, row):
        first = self.rows[0]
        if row["descriptors"] > first["descriptors"] + FDS_MORE:
            raise Wrong(f"{row['descriptors']} descriptors, {first['descriptors']} at first")
        if row["anonymous_kib"] > first["anonymous_kib"] + RSS_MORE_KIB:
            raise Wrong(f"{row['anonymous_kib']} KiB of memory, {first['anonymous_kib']} KiB at first")

    # --- All ---

    def run(self):
        begin = time.monotonic()
        look_at = begin + min(self.options.interval, self.options.seconds / 4)
        self.daemon_start()
        for number in range(READERS + WRITERS):
            self.worker_start(number)
        while time.monotonic() - begin < self.options.seconds:
            self.all_run()
            self.turn()
            time.sleep(0.05)
            if time.monotonic() >= look_at:
                self.look(time.monotonic() - begin)
                look_at = time.monotonic() + min(self.options.interval, self.options.seconds / 8)
        self.look(time.monotonic() - begin)
        for number in list(self.workers):
            self.worker_kill(number)
        self.daemon_end(signal.SIGTERM)

    def end(self):
        for process in list(self.workers.values()) + [self.daemon]:
            if process and process.poll() is None:
                process.kill()
                process.wait()


def plot(rows, name, height=8, width=72):
    """The column over time, as lines of text."""
    values = [row[name] for row in rows]
    top = max(values) or 1
    columns = [max(values[i * len(values) // width:max((i + 1) * len(values) // width, i * len(values) // width + 1)])
               for i in range(min(width, len(values)))]
    lines = [f"{name}, 0 to {top}"]
    for level in range(height, 0, -1):
        lines.append("|" + "".join("#" if value * height >= level * top else " " for value in columns))
    return "\n".join(lines + ["+" + "-" * len(columns)])


def write_results(soak, options):
    with open(options.csv, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(soak.rows)
    names = ("descriptors", "anonymous_kib", "stored_bytes", "tier_blocks")
    text = "\n\n".join(plot(soak.rows, name) for name in names) + "\n" if soak.rows else ""
    with open(options.csv + ".txt", "w", encoding="utf-8") as file:
        file.write(text)
    return text


def main():
    parser = argparse.ArgumentParser()
    for name in ("kvpaged", "kvctl", "worker"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--interval", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", default="soak.csv")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="kvpaged-soak-")
    soak = Soak(options, directory)
    wrong = None
    print(f"1..1\n# seed {options.seed}, {options.seconds:.0f} seconds", flush=True)
    try:
        soak.run()
    except (Wrong, subprocess.SubprocessError, OSError) as error:
        wrong = error
    finally:
        soak.end()
    print("\n".join("# " + line for line in write_results(soak, options).splitlines()))
    print("# " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in soak.counts.items())
          + f", {len(soak.rows)} looks; {options.csv}")
    if wrong:
        with open(soak.log_path, encoding="utf-8", errors="replace") as log:
            print("".join("# " + line for line in log.readlines()[-20:]), end="")
        print(f"# {wrong}\nnot ok 1 - soak")
        return 1
    print("ok 1 - soak")
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
