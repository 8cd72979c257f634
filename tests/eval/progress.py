# SPDX-License-Identifier: Apache-2.0
"""How far long work is, on stderr: one line that is written over on a terminal, now and then a line elsewhere."""
import sys
import time

LINE_EVERY_S = 15.0  # where it is no terminal
REDRAW_EVERY_S = 0.2


class Progress:
    """with Progress("perplexity", 24) as progress: ... progress.step("window 3")"""

    def __init__(self, what, total, stream=None):
        self.what, self.total, self.done = what, total, 0
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.begin = time.monotonic()
        self.shown = 0.0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.done and kind is None:
            self._show("", time.monotonic(), "\n")

    def step(self, note="", n=1):
        self.done += n
        now = time.monotonic()
        if now - self.shown >= (REDRAW_EVERY_S if self.live else LINE_EVERY_S):
            self._show(note, now, "" if self.live else "\n")

    def _show(self, note, now, end):
        self.shown = now
        elapsed = now - self.begin
        left = elapsed / self.done * (self.total - self.done) if self.done else 0
        text = f"{self.what}: {self.done}/{self.total}, {elapsed:.0f} s, about {left:.0f} s left  {note}"
        if self.live:
            bar = "#" * (20 * self.done // max(1, self.total))
            text = f"\r\x1b[K[{bar:<20}] {text}"
        self.stream.write(text.rstrip() + end)
        self.stream.flush()
