#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The evaluation's parts that need no model: progress, results that are gone on with, names. A TAP test."""
import io
import re
import sys
import tempfile

import names
import progress
from results import Results, of_same_texts


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _work(stream, pieces, there=()):
    """What was asked to be done of the pieces, and what the progress said."""
    asked = []
    with progress.Progress("work", len(pieces), stream) as shown:
        for piece in shown.missing(pieces, lambda piece: piece in there):
            asked.append(piece)
    return asked, stream.getvalue()


def test_progress_in_a_file():
    """in a file: a line at the beginning and at the end, none in between for short work"""
    asked, said = _work(io.StringIO(), list(range(50)))
    assert asked == list(range(50))
    assert [line.split(",")[0] for line in said.splitlines()] == ["work: 0/50", "work: 50/50"], said


def test_progress_on_a_terminal():
    """on a terminal: one line that is written over, with a bar"""
    progress.REDRAW_EVERY_S = 0
    _, said = _work(Terminal(), list(range(4)))
    assert said.count("\n") == 1 and said.count("\r\x1b[K") == 6, repr(said)
    assert "[#####               ] work: 1/4" in said and "[" + "#" * 20 + "] work: 4/4" in said, repr(said)


def test_progress_of_the_rest():
    """what an earlier run did is not asked for, and says nothing about the time that is left"""
    progress.REDRAW_EVERY_S = 0
    stream = Terminal()
    with progress.Progress("work", 10, stream) as shown:
        shown.begin -= 100
        for piece in shown.missing(range(8), lambda piece: piece < 6):
            if piece == 7:
                left = re.findall(r"7/10, 100 s, about (\d+) s left", stream.getvalue())
                assert left == ["300"], repr(stream.getvalue())
    assert "0/10, 100 s" not in stream.getvalue()


def test_progress_that_fails():
    """an exception ends it without a last line"""
    stream = io.StringIO()
    try:
        with progress.Progress("work", 2, stream):
            raise KeyError
    except KeyError:
        pass
    assert stream.getvalue().count("\n") == 1


def test_results_go_on():
    """results are there in the next run"""
    with tempfile.TemporaryDirectory() as directory:
        results = Results(directory)
        results.put({"a": 1}, "stage", "cache", "0")
        results.put({"a": 2}, "stage", "cache", "1", tokens=[1, 2])
        again = Results(directory)
        assert again.get("stage", "cache", "0") == {"a": 1} and again.has("stage", "cache", "1")
        assert again.has("stage", "cache", "1", tokens=[1, 2]) and not again.has("stage", "cache", "2")
        assert again.get("stage") is not None and again.get("other", "cache") is None


def test_results_of_other_texts():
    """a result about a text that has changed since is none"""
    with tempfile.TemporaryDirectory() as directory:
        results = Results(directory)
        for cache, tokens in (("exact", [1, 2]), ("q8", [1, 2]), ("q6", [1, 3])):
            results.put({"a": 1}, "stage", cache, "0", tokens=tokens)
        results.put({"a": 1}, "stage", "q8", "1", tokens=[5])
        assert not results.has("stage", "q6", "0", tokens=[1, 2])
        exact = results.get("stage", "exact")
        assert list(of_same_texts(exact, results.get("stage", "q8"))) == ["0"]
        assert not of_same_texts(exact, results.get("stage", "q6"))


def test_names():
    """pairs of codecs have their place and their words"""
    pairs = ["f32/f32", "f32/q6", "q6/f32", "q4/q4", "t6/t6g16", "q8/q8", "x/x"]
    assert sorted(pairs, key=names.place) == ["q8/q8", "t6/t6g16", "q4/q4", "x/x", "q6/f32", "f32/q6", "f32/f32"]
    assert [names.words(pair) for pair in pairs[:5]] == ["f32", "V q6 alone", "K q6 alone", "q4", "K t6, V t6g16"]


def main():
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = False
    for number, test in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} - {test.__doc__}")
        except AssertionError as error:
            failed = True
            print(f"not ok {number} - {test.__doc__}\n# {error!r}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
