# SPDX-License-Identifier: Apache-2.0
"""The report's pictures."""
import os
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of what it draws with)

import errors  # noqa: E402
import names  # noqa: E402

MIB = 1 << 20
# Codecs by name, in one line each; those with log scales have the K of the others.
FAMILIES = {r"q\d": "q8 .. q4", r"t\d": "t8 .. t4", r"t\dg32": "t8g32 .. t4g32", r"t\dg16": "t8g16 .. t4g16"}
BOTH = (r"q\d", r"t\d")
SIZE = (6.4, 3.6)
DPI = 90


def _errors(summary, axes):
    for family, label in FAMILIES.items():
        found = {codec: piece for codec, piece in summary["errors"].items() if re.fullmatch(family, codec)}
        for which in "kv" if family in BOTH else "v":
            points = sorted((piece[which]["bits"], 100 * piece[which]["mean_abs"]) for piece in found.values())
            axes.plot(*zip(*points), marker="o" if which == "k" else "x", ls=":", lw=0.8,
                      label=f"{which.upper()}: {label}")
    bits = [4 + index / 10 for index in range(47)]
    axes.plot(bits, [100 * errors.bound(b)["mean_abs"] for b in bits], "k-", lw=1, label="no code can do better")
    for percent, text in ((1, "target"), (2, "acceptable")):
        axes.axhline(percent, ls=":", lw=1, color="grey")
        axes.annotate(f"{text}, {percent} %", (4, percent), fontsize=7, xytext=(0, 2), textcoords="offset points")
    axes.set(yscale="log", xlabel="bits a value", ylabel="mean-abs error, %", title="randn(1, 32, 128, 96)")
    axes.legend(fontsize=7)


def _greedy(summary, axes):
    tokens = summary["tokens"]
    for name, piece in summary["greedy"].items():
        first = piece["first_differences"]
        same = [100 * (1 - sum(at <= position for at in first) / piece["prompts"]) for position in range(tokens)]
        axes.plot(range(1, tokens + 1), same, label=names.words(name), lw=1.5)
    axes.set(xlabel="token", ylabel="generations still the same, %", ylim=(0, 102), title="Greedy generations")
    axes.legend(fontsize=7)


def _perplexity(summary, axes):
    values = [100 * piece["increase"] for piece in summary["forced"].values()]
    bars = axes.barh([names.words(name) for name in summary["forced"]], values)
    axes.bar_label(bars, [f"{value:+.3f} %" for value in values], fontsize=7, padding=2)
    axes.axvline(0, lw=0.8, color="black")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel="increase of perplexity, %", title="Perplexity of real text")


def _memory(summary, axes):
    for codec, pieces in summary["memory"].items():
        points = []
        for size, piece in pieces.items():
            tokens, _, conversations = size.partition(" x ")
            kept = piece["process"] if codec == "own" else piece["stored"] + piece["overhead"]
            points.append((int(tokens) * int(conversations), kept / MIB))
        points.sort()
        label = "own cache, in the process" if codec == "own" else f"{codec}, in the daemon"
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set(xlabel="tokens kept", ylabel="MiB", title="Memory of what is kept")
    axes.legend(fontsize=7)


def _first_token(summary, axes):
    piece = summary["first_token"]
    rest = piece["with_cache"] - piece["loading"]
    axes.barh(["with the cache", "computed"], [piece["loading"], 0], color="tab:orange", label="loading")
    bars = axes.barh(["with the cache", "computed"], [rest, piece["computed"]], left=[piece["loading"], 0],
                     color="tab:blue", label="computing")
    axes.bar_label(bars, [f"{piece[name]:.2f} s" for name in ("with_cache", "computed")], fontsize=8, padding=3)
    axes.margins(x=0.12)
    axes.set(xlabel="seconds to the first token",
             title=f"{piece['prompt']:.0f} tokens, {piece['cached']:.0f} of them cached")
    axes.legend(fontsize=7)


PICTURES = (("errors", "errors", _errors), ("greedy", "greedy", _greedy), ("perplexity", "forced", _perplexity),
            ("memory", "memory", _memory), ("first-token", "first_token", _first_token))


def draw(summary, folder):
    """Writes a PNG for each part that was measured; returns their names."""
    drawn = []
    for name, part, picture in PICTURES:
        if summary.get(part):
            figure, axes = plt.subplots(figsize=SIZE, dpi=DPI, layout="constrained")
            picture(summary, axes)
            # Without the program's version in it, the same numbers give the same file.
            figure.savefig(os.path.join(folder, name + ".png"), metadata={"Software": None})
            plt.close(figure)
            drawn.append(name)
    return drawn
