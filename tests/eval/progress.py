# SPDX-License-Identifier: Apache-2.0
"""How far long work is, on stderr: one line that is written over on a terminal, now and then a line elsewhere."""
import sys
import time

LINE_EVERY_S = 15.0  # where it is no terminal
REDRAW_EVERY_S = 0.2


class Progress:
    """with Progress("perplexity", 24) as progress: ... work ...; progress.step("window 3")"""

    def __init__(self, what, total, stream=None):
        self.what, self.total = what, total
        self.done = self.skipped = 0
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.begin = time.monotonic()
        self.shown = self.begin

    def __enter__(self):
        self._show("", "" if self.live else "\n")
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self._show("", "\n")

    def missing(self, pieces, there, size=lambda _piece: 1):
        """The pieces that are not there yet. Each is done when the next one is asked for; those of an earlier run are
        done too, but say nothing about how long the rest takes."""
        for piece in pieces:
            if there(piece):
                self.done += size(piece)
                self.skipped += size(piece)
            else:
                yield piece
                self.step(str(piece), size(piece))

    def step(self, note="", n=1):
        """So much is done now."""
        self.done += n
        due = REDRAW_EVERY_S if self.live else LINE_EVERY_S
        if time.monotonic() - self.shown >= due:
            self._show(note, "" if self.live else "\n")

    def _left(self, elapsed):
        """In words; nothing where it is not known."""
        made, rest = self.done - self.skipped, self.total - self.done
        return f", about {elapsed / made * rest:.0f} s left" if made > 0 and rest > 0 else ""

    def _show(self, note, end):
        self.shown = time.monotonic()
        elapsed = self.shown - self.begin
        text = f"{self.what}: {self.done}/{self.total}, {elapsed:.0f} s{self._left(elapsed)}  {note}"
        if self.live:
            bar = "#" * (20 * self.done // max(1, self.total))
            text = f"\r\x1b[K[{bar:<20}] {text}"
        self.stream.write(text.rstrip() + end)
        self.stream.flush()
