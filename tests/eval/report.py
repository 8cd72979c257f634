# SPDX-License-Identifier: Apache-2.0
"""From results to evaluation.md. summarise() makes the numbers, markdown() only writes them down."""
import statistics

import errors
import forced
import greedy
import names
import timing
from results import of_same_texts

MIB = 1 << 20

# What the numbers are held against: of the least, or of the most that is allowed.
GOALS = {"greedy": {"q8/q8": 0.99, "t8/t8g32": 0.99, "q6/q6": 0.99, "t6/t6g16": 0.99},
         "acceptable": {"q6/q6": 0.95, "t6/t6g16": 0.95}, "follow": {"q6/q6": 0.995},
         "increase": {"q8/q8": 0.001, "q6/q6": 0.005}, "compress_ms": 1.0, "decompress_ms": 5.0, "overhead": 0.03}

def _same(reference, stage):
    """The stage's rows about the reference's texts, by cache; caches without any are left out."""
    found = {name: of_same_texts(reference, stage[name]) for name in sorted(stage, key=names.place)}
    return {name: rows for name, rows in found.items() if rows}


def summarise(results):
    """Everything that the report says, from what was measured."""
    out = {"facts": results.stage("facts").get("run", {}), "errors": results.stage("errors"),
           "adversarial": results.stage("adversarial"), "pages": results.stage("pages"),
           "memory": results.stage("memory")}
    out["bits_for"] = {str(percent): errors.bits_for(percent / 100) for percent in (1, 2)}
    windows = next(iter(results.stage("forced").values()), {})
    out["forced"] = {name: forced.sums(rows) for name, rows in _same(windows, results.stage("forced")).items()}
    out["sources"] = {}
    for row in windows.values():
        out["sources"][row["source"]] = out["sources"].get(row["source"], 0) + row["tokens"]
    exact = results.stage("greedy").get("exact", {})
    out["greedy"] = {name: greedy.sums(exact, rows) for name, rows in _same(exact, results.stage("greedy")).items()
                     if name != "exact"}
    out["prompts"] = {}
    for row in exact.values():
        out["prompts"].setdefault(row["kind"], []).append(row["prompt_tokens"])
    out["tokens"] = max((len(row["tokens"]) for row in exact.values()), default=0)
    out["follow"] = {name: greedy.follow_sums(exact, rows)
                     for name, rows in _same(exact, results.stage("follow")).items()}
    _summarise_times(results, out)
    return out


def _summarise_times(results, out):
    rounds = list(results.stage("overhead").values())
    if rounds:
        out["overhead"] = {which: timing.ratios(rounds, "kvpaged", "own", which) for which in ("wall", "cpu")}
        out["overhead"] |= {"rounds": len(rounds), "prompt": rounds[0]["prompt"], "tokens": rounds[0]["tokens"]}
    rounds = list(results.stage("first_token").values())
    if rounds:
        out["first_token"] = {name: statistics.median(row[name] for row in rounds)
                              for name in ("prompt", "cached", "computed", "with_cache", "loading")}
        out["first_token"] |= {"rounds": len(rounds), "ratio": timing.ratios(rounds, "computed", "with_cache")}


def _table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] +
                     ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def _percent(value, digits=2):
    return f"{100 * value:.{digits}f} %"


def _verdict(met):
    return "met" if met else "**missed**"


def _picture(drawn, name, text):
    return f"![{text}](evaluation/{name}.png)\n" if name in drawn else ""


def _part_errors(summary, drawn):
    rows = []
    for codec, piece in summary["errors"].items():
        row = [f"`{codec}`"]
        for which in "kv":
            entry = piece[which]
            row += [f"{entry['bits']:.3f}", _percent(entry["mean_abs"], 3), _percent(entry["bound"]["mean_abs"], 3),
                    _percent(entry["rms"], 3),
                    "below 1 %" if entry["mean_abs"] < 0.01 else "below 2 %" if entry["mean_abs"] < 0.02 else "no"]
        rows.append(row)
    head = ["codec"] + [f"{which}: {name}" for which in "KV"
                        for name in ("bits a value", "mean-abs error", "its bound", "RMS error", "target")]
    found = [(piece[which]["bits"], piece[which]["mean_abs"], f"`{codec}` for {which.upper()}")
             for codec, piece in summary["errors"].items() for which in "kv"]
    lines = [_table(head, rows)]
    for percent in (2, 1):
        fitting = sorted(entry for entry in found if entry[1] < percent / 100)
        if fitting:
            bits, error, name = fitting[0]
            lines.append(f"Below {percent} % with the fewest bits: {name}, {_percent(error, 3)} with {bits:.2f} bits. "
                         f"No code of whatever kind can do it with less than "
                         f"{summary['bits_for'][str(percent)]:.2f}.\n")
    pair = [summary["errors"].get(codec, {}).get(which) for codec, which in (("t6", "k"), ("t6g16", "v"))]
    if all(pair):
        bits, error = (sum(entry[name] for entry in pair) / 2 for name in ("bits", "mean_abs"))
        fits = [codec for codec, piece in summary["errors"].items() if piece["k"]["bits"] <= 6.5 and
                piece["k"]["mean_abs"] < 0.02]
        lines.append(f"K in `t6` and V in `t6g16` have {_percent(error, 3)} together, with {bits:.3f} bits. Of K "
                     f"alone, {', '.join(fits) or 'no codec'} is below 2 % within 6.5 bits.\n")
    return "\n".join([
        "## Errors of values\n",
        "`randn(1, 32, 128, 96)`, two of them, one as K and one as V: stored, and read back. *Mean-abs* is the mean of "
        "|x - y| by the mean of |x|; the bound is what rate-distortion theory allows a code of as many bits. The "
        "target was 1 %, 2 % being acceptable.\n",
        *lines,
        f"At 6.0 bits the bound is {_percent(errors.bound(6)['mean_abs'], 3)}: **1 % with six bits is impossible** on "
        "such data.\n", _picture(drawn, "errors", "error against bits, with the bound")])


def _greedy_verdict(name, equal):
    goal, acceptable = GOALS["greedy"].get(name), GOALS["acceptable"].get(name)
    if goal is None:
        return ""
    if acceptable is None:
        return f"{_percent(goal, 0)}: {_verdict(equal >= goal)}"
    word = "acceptable" if acceptable <= equal < goal else _verdict(equal >= goal)
    return f"{_percent(goal, 0)}, acceptable {_percent(acceptable, 0)}: {word}"


def _part_greedy(summary, drawn):
    rows, kinds = [], list(summary["prompts"])
    for name, piece in summary["greedy"].items():
        first = piece["first_differences"]
        rows.append([names.words(name), piece["prompts"], _percent(piece["equal"]), _percent(piece["whole"], 1),
                     first[0] if first else "-", int(statistics.median(first)) if first else "-",
                     _percent(piece["choices_equal"], 3),
                     f"{statistics.median(piece['margins_there']):.3f}" if first else "-",
                     _greedy_verdict(name, piece["equal"])])
    head = ["codec", "prompts", "tokens equal", "generations equal throughout", "first difference: earliest", "median",
            "choices equal up to there", "margin there, median", "target"]
    by_kind = [[names.words(name)] + [_percent(piece["kinds"][kind]["equal"], 1) if kind in piece["kinds"] else "-"
                                  for kind in kinds] for name, piece in summary["greedy"].items()]
    described = ", ".join(f"{len(lengths)} {kind} ({min(lengths)} to {max(lengths)} tokens)"
                          for kind, lengths in summary["prompts"].items())
    return "\n".join([
        "## Greedy generations\n",
        f"{summary['tokens']} tokens behind each of {sum(map(len, summary['prompts'].values()))} prompts: {described}. "
        "Each run goes on with its own choices and is compared with the run that has the model's own cache. *Margin*: "
        "by how much the exact run's choice was ahead of its second best where the two first differ, in logits.\n",
        _table(head, rows), "Tokens equal by kind of prompt:\n", _table(["codec"] + kinds, by_kind),
        "One choice that falls the other way makes another text of everything behind it, so this measure says more "
        "about how often the model is undecided than about the codec; the next one does not have that. Besides, the "
        "codes of a layer depend on the last bits of what the layers before it computed: alone and in a batch the same "
        "prompt has errors of the same size that are not the same errors, and may differ at another token. A few "
        "prompts more or less are no difference between codecs.\n",
        _picture(drawn, "greedy", "share of generations that are still the same, by position")])


def _part_forced(summary, drawn):
    rows = []
    for name, piece in summary["follow"].items():
        goal = GOALS["follow"].get(name)
        margins = piece["margins_there"]
        rows.append([names.words(name), f"{piece['choices']:,}", piece["different"], _percent(piece["same_choice"], 3),
                     f"{statistics.median(margins):.3f}" if margins else "-", f"{margins[-1]:.3f}" if margins else "-",
                     f"{_percent(goal, 1)}: {_verdict(piece['same_choice'] >= goal)}" if goal else ""])
    parts = ["## The same choices, behind the same tokens\n"]
    if rows:
        parts += ["The exact run's generations are given, and every choice is compared in its place. *Margin*: by how "
                  "much the exact choice was ahead of the second best where they differ, in logits.\n",
                  _table(["codec", "choices", "different", "same", "margin, median", "largest", "target"], rows)]
    rows = []
    for name, piece in summary["forced"].items():
        goal = GOALS["increase"].get(name)
        rows.append([names.words(name), f"{piece['tokens']:,}", f"{piece['perplexity']:.4f}",
                     f"{100 * piece['increase']:+.4f} %", _percent(piece["same_choice"], 3), f"{piece['kl']:.2e}",
                     f"{_percent(goal, 1)}: {_verdict(piece['increase'] < goal)}" if goal else ""])
    if rows:
        exact = next(iter(summary["forced"].values()))["perplexity_exact"]
        parts += ["## Perplexity of real text\n",
                  f"Windows of {forced.WINDOW} tokens; perplexity with the model's own cache: {exact:.4f}. *Same*: the "
                  "most likely token is the same. *KL*: mean divergence of the distribution from the exact one, in "
                  "nats. On text that the model did not write it is undecided more often than on its own, so *same* is "
                  "lower than above.\n",
                  _table(["codec", "tokens", "perplexity", "increase", "same", "KL", "target"], rows),
                  "The texts, with the tokens that were predicted: " +
                  ", ".join(f"{name} ({tokens:,})" for name, tokens in summary["sources"].items()) + ".\n",
                  _picture(drawn, "perplexity", "increase of perplexity")]
    return "\n".join(parts)


def _part_memory(summary, drawn):
    own = summary["memory"].get("own", {})
    rows = []
    for size, exact in own.items():
        for codec, pieces in summary["memory"].items():
            if codec == "own" or size not in pieces:
                continue
            piece = pieces[size]
            daemon = piece["stored"] + piece["overhead"]
            weights = exact["weights"]
            rows.append([size, f"`{codec}`", f"{exact['process'] / MIB:.1f}", f"{piece['process'] / MIB:.1f}",
                         f"{piece['working_set'] / MIB:.1f}", f"{daemon / MIB:.1f}",
                         f"{piece['f32'] / daemon:.2f} x",
                         f"{(weights + exact['process']) / MIB:.0f}", f"{(weights + daemon) / MIB:.0f}"])
    head = ["tokens x conversations", "codec", "the model's own cache, MiB", "this cache: left in the process, MiB",
            "while one is in use, MiB", "in the daemon, MiB", "against f32", "weights + own cache, MiB",
            "weights + daemon, MiB"]
    weights = next(iter(own.values()))["weights"] / MIB if own else 0
    return "\n".join([
        "## Memory\n",
        f"Conversations that are kept: all in the process, in the model's own cache (f32); or in the daemon, the "
        f"process having at most one of them as its working set. Of the process: growth of anonymous resident memory "
        f"(RssAnon) beyond the model, what its allocator keeps included; the weights are "
        f"{weights:.0f} MiB in f32. In the daemon: bytes of pages with all overhead, as it counts "
        "them (its tables, which do not depend on what is stored, left out).\n",
        _table(head, rows),
        "A model of transformers attends to dense tensors, so the conversation in use takes what it always took, and "
        "what is saved are all the others. kvworker attends to packed pages and has no such working set "
        "([performance.md](performance.md)).\n", _picture(drawn, "memory", "memory by tokens kept")])


def _part_times(summary, drawn):
    parts = ["## Time\n"]
    if summary["pages"]:
        rows = []
        for codec, piece in summary["pages"].items():
            fits = piece["compress"]["median_ms"] < GOALS["compress_ms"] and \
                piece["decompress"]["median_ms"] < GOALS["decompress_ms"]
            rows.append([f"`{codec}`", piece["pages"], f"{piece['page_bytes']:,}",
                         f"{piece['compress']['median_ms']:.4f}",
                         f"{piece['compress']['worst_ms']:.4f}", f"{piece['decompress']['median_ms']:.4f}",
                         f"{piece['decompress']['worst_ms']:.4f}", _verdict(fits)])
        first = next(iter(summary["pages"].values()))
        parts += [f"A page, of {first['compress']['n']} blocks of 128 tokens that were stored and fetched "
                  "through the Python package: encoding, requests and copies are in. Targets: 1 ms to compress, 5 ms "
                  "to decompress.\n",
                  _table(["codec", "pages of a block", "bytes of a page", "compress, ms, median", "worst",
                          "decompress, ms, median", "worst", "targets"], rows)]
    if "overhead" in summary:
        piece = summary["overhead"]
        parts += [f"Generation of {piece['tokens']} tokens behind {piece['prompt']}, all finished blocks being stored, "
                  f"against the model's own cache, in {piece['rounds']} rounds of both: "
                  f"{piece['wall']['median']:.3f} x by the clock ({piece['wall']['least']:.3f} to "
                  f"{piece['wall']['greatest']:.3f}), {piece['cpu']['median']:.3f} x in CPU time of the process "
                  f"({piece['cpu']['least']:.3f} to {piece['cpu']['greatest']:.3f}). Target: 1.03 x: "
                  f"{_verdict(piece['wall']['median'] <= 1 + GOALS['overhead'])} by the clock, "
                  f"{_verdict(piece['cpu']['median'] <= 1 + GOALS['overhead'])} in CPU time.\n"]
    if "first_token" in summary:
        piece = summary["first_token"]
        parts += [f"First token behind a prompt of {piece['prompt']:.0f} tokens, of which {piece['cached']:.0f} are "
                  f"cached, medians of {piece['rounds']} rounds: computed {piece['computed']:.2f} s; with the cache "
                  f"{piece['with_cache']:.3f} s, {piece['loading']:.3f} s of them loading. "
                  f"{piece['ratio']['median']:.1f} x ({piece['ratio']['least']:.1f} to "
                  f"{piece['ratio']['greatest']:.1f}).\n", _picture(drawn, "first-token", "time to the first token")]
    return "\n".join(parts)


def _part_adversarial(summary, _drawn):
    rows, finite, refused = [], True, True
    for codec, piece in summary["adversarial"].items():
        finite = finite and all(row["finite"] for row in piece["taken"].values())
        refused = refused and all(piece["refused"].values())
        worst = [max((row[f"worst_{which}"], name) for name, row in piece["taken"].items()) for which in "kv"]
        rows.append([f"`{codec}`"] + [text for value, name in worst for text in (_percent(value), name)])
    kinds = next(iter(summary["adversarial"].values()))["taken"]
    runs = [piece["finite"] for piece in summary["forced"].values()]
    return "\n".join([
        "## Adversarial data\n",
        f"{len(kinds)} kinds of data in each codec: {', '.join(kinds)}. All that came back was "
        f"{'finite' if finite else '**not finite**'}; NaN and infinity were "
        f"{'refused, with nothing stored' if refused else '**not refused**'}, in all codecs. All logits of "
        f"all runs above were {'finite' if all(runs) else '**not finite**'}.\n",
        "The worst error of any value, by the largest magnitude of the data:\n",
        _table(["codec", "K", "with", "V", "with"], rows)])


STAGES = {"greedy": "greedy generations", "follow": "the same choices", "forced": "perplexity"}


def _not_whole(summary):
    """What the plan has and the results do not, or not for all prompts or windows."""
    found = []
    for stage, caches in summary["facts"].get("planned", {}).items():
        what = "windows" if stage == "forced" else "prompts"
        planned = summary["facts"].get("planned_" + what, 0)
        for name in caches:
            measured = summary[stage].get(name, {}).get(what, 0)
            if measured < planned:
                some = f" for {planned - measured} of the {planned} {what}" if measured else ""
                found.append(f"{STAGES[stage]} with {names.words(name)}{some}")
    return found


PARTS = (("errors", _part_errors), ("greedy", _part_greedy), ("forced", _part_forced), ("memory", _part_memory),
         ("pages", _part_times), ("adversarial", _part_adversarial))


def markdown(summary, drawn):
    facts = summary["facts"]
    command = "tests/eval/run.sh" + (" --quick" if facts.get("quick") else "")
    head = f"""# Evaluation on a model

```
{command}
```

wrote this page, [evaluation/results.json](evaluation/results.json) and the pictures. The model is {facts.get('model')};
torch {facts.get('torch')}, transformers {facts.get('transformers')}, Python {facts.get('python')}, kvpaged
{facts.get('kvpaged')} ({facts.get('commit')} when the last stage ran);
{facts.get('processors')} processors, {facts.get('processor')},
{facts.get('threads')} thread.

The codec is the daemon's: the model runs in transformers with `KvpagedCache(simulate=True)`, which stores every whole
block of 128 tokens in a private daemon and gives the model what it reads back, layer by layer, before any token attends
to it, the block's own tokens included. That is stricter than what a served model meets, whose newest block is exact
until it is whole. The tokens behind the last whole block are exact. `f32` is the control: a codec that changes nothing,
through the same code.
"""
    missing = [name for name, _part in PARTS if not summary[name]] + _not_whole(summary)
    parts = [part(summary, drawn) for name, part in PARTS if summary[name]]
    if missing:
        parts.append(f"Not measured: {'; '.join(missing)}.\n")
    return head + "\n" + "\n".join(part.rstrip() + "\n" for part in parts)
