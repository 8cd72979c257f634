#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/eval/run.sh --quick and the tests of KvpagedCache, as a TAP test; skipped where their venv is not there.

    test-evaluation.py ROOT BUILD
"""
import json
import os
import subprocess
import sys
import tempfile

PICTURES = ("errors", "greedy", "perplexity", "memory", "first-token")
HEADINGS = ("Errors of values", "Greedy generations", "The same choices", "Perplexity", "Memory", "Time", "Adversarial")
TIMEOUT_S = 600
SHOWN = 4000  # characters of the end of what a failed program said


def venv():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("KVPAGED_EVAL_VENV") or os.path.join(cache, "kvpaged", "eval-venv")


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, **more)
    return done.returncode, done.stdout[-SHOWN:]


class Evaluation:
    def __init__(self, root, build, work):
        self.root, self.build, self.work = root, build, work
        self.command = [os.path.join(root, "tests/eval/run.sh"), "--quick", "--no-install", "--build", build, "--work",
                        work]

    def test_quick_run(self):
        """the quick run writes everything that the report is made of"""
        status, said = run(self.command)
        assert status == 0, said
        with open(os.path.join(self.work, "evaluation.md"), encoding="utf-8") as file:
            text = file.read()
        missing = [heading for heading in HEADINGS if f"## {heading}" not in text]
        missing += [name for name in PICTURES if f"evaluation/{name}.png" not in text or
                    not os.path.exists(os.path.join(self.work, "evaluation", name + ".png"))]
        assert not missing, f"not there: {missing}"
        assert "Not measured" not in text
        # Progress is told, and everything is done once.
        for stage, total in (("errors", 18), ("perplexity", 2), ("greedy", 9), ("teacher forcing", 6), ("memory", 2)):
            assert f"{stage}: {total}/{total}, " in said, said

    def test_control(self):
        """a codec that changes nothing changes nothing, and others do"""
        with open(os.path.join(self.work, "evaluation/results.json"), encoding="utf-8") as file:
            summary = json.load(file)
        exact, coded = (summary["greedy"][name] for name in ("f32/f32", "q8/q8"))
        assert exact["equal"] == 1 and exact["first_differences"] == []
        assert summary["follow"]["f32/f32"]["different"] == 0
        assert summary["forced"]["f32/f32"]["kl"] == 0 < summary["forced"]["q8/q8"]["kl"]
        assert coded["prompts"] == 3
        assert summary["errors"]["q8"]["k"]["mean_abs"] < 0.01 < summary["errors"]["q6"]["k"]["mean_abs"]
        assert all(piece["mean_abs"] > piece["bound"]["mean_abs"] for codec in summary["errors"].values()
                   for piece in codec.values())

    def test_adversarial(self):
        """no codec makes a NaN, and none takes one"""
        with open(os.path.join(self.work, "evaluation/results.json"), encoding="utf-8") as file:
            summary = json.load(file)["adversarial"]
        for codec, piece in summary.items():
            assert all(row["finite"] for row in piece["taken"].values()), codec
            assert all(piece["refused"].values()), codec

    def test_report_again(self):
        """the report can be made again from the results, without a daemon"""
        path = os.path.join(self.work, "evaluation.md")
        with open(path, "rb") as file:
            before = file.read()
        os.remove(path)
        status, said = run([*self.command, "--report"])
        assert status == 0, said
        with open(path, "rb") as file:
            assert file.read() == before

    def test_wrong_arguments(self):
        """wrong arguments are named"""
        status, said = run([*self.command, "--stages", "nonsense"])
        assert status != 0 and "nonsense" in said, said
        status, said = run([*self.command, "--work", os.path.join(self.work, "alone"), "--stages", "follow"])
        assert status != 0 and "needs the stage greedy before it; 3 of 3 prompts" in said, said

    def test_cache_of_transformers(self):
        """client/python/tests/test_transformers.py"""
        self._pytest("test_transformers.py")

    def test_tensors_of_torch(self):
        """client/python/tests/test_tensors.py, with the real torch"""
        self._pytest("test_tensors.py")

    def _pytest(self, file):
        environment = os.environ | {"KVPAGED_BIN": os.path.join(self.build, "daemon/kvpaged"), "HF_HUB_OFFLINE": "1",
                                    "KVCLIENT_LIBRARY": os.path.join(self.build, "client/libkvclient.so.0"),
                                    "PYTHONPATH": os.path.join(self.root, "client/python")}
        tests = os.path.join(self.root, "client/python/tests")
        status, said = run([os.path.join(venv(), "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider",
                            "--rootdir", tests, os.path.join(tests, file)], env=environment)
        assert status == 0 and "passed" in said and "skipped" not in said, said


def main():
    if not os.path.exists(os.path.join(venv(), "installed-requirements.txt")):
        print("1..0 # SKIP no torch and transformers: tests/eval/run.sh --quick makes a venv that has them")
        return 0
    with tempfile.TemporaryDirectory(prefix="kvpaged-evaluation-") as work:
        evaluation = Evaluation(*sys.argv[1:3], work)
        tests = [name for name in vars(Evaluation) if name.startswith("test_")]
        print(f"1..{len(tests)}")
        failed = False
        for number, name in enumerate(tests, 1):
            test = getattr(evaluation, name)
            try:
                test()
                print(f"ok {number} - {test.__doc__}", flush=True)
            except (AssertionError, OSError, KeyError, subprocess.TimeoutExpired) as error:
                failed = True
                print(f"not ok {number} - {test.__doc__}")
                print("\n".join(f"# {line}" for line in repr(error).replace("\\n", "\n").splitlines()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
