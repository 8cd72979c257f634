# SPDX-License-Identifier: Apache-2.0
"""What a codec does to values: errors on normal data beside what no code can beat, and data that wants to break it."""
import math

import numpy as np

import kvclient

SHAPE = (1, 32, 128, 96)  # batch, heads, tokens, channels
CODECS = ("f16", "bf16", "q8", "t8", "t8g32", "t8g16", "q6", "t6", "t6g32", "t6g16", "q5", "t5", "t5g32", "t5g16",
          "q4", "t4", "t4g32", "t4g16")
TINY = 1e-3  # where all values are smaller, errors are compared with this: f16 scales resolve no less than 2^-24
MEAN_ABS = math.sqrt(2 / math.pi)  # of |x|, x normal with deviation 1


def bound(bits):
    """The least mean-abs and RMS error of any code of so many bits a value, for independent normal values."""
    return {"mean_abs": math.sqrt(2 * math.pi * math.e) * 2 ** -bits / (2 * math.e) / MEAN_ABS, "rms": 2 ** -bits}


def bits_for(mean_abs):
    """The other way round: bits that no code can do with less than, for this mean-abs error."""
    return math.log2(math.sqrt(2 * math.pi * math.e) / (2 * math.e) / MEAN_ABS / mean_abs)


class Passage:
    """Arrays through a space of the daemon."""

    def __init__(self, client, codec, heads, tokens, channels):
        self.schema = kvclient.Schema("evaluation", 1, heads, channels, dtype="f32", codec_k=codec,
                                      block_tokens=tokens, page_heads=1)
        self.client, self.name = client, f"evaluation-{codec}-{heads}x{tokens}x{channels}"
        self.space = client.space(self.name, self.schema)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.space.close()
        self.client.drop_space(self.name)

    def __call__(self, k, v):
        """What comes back, and the bytes that were kept."""
        self.space.append([kvclient.Append(b"it", k, v)])[0].raise_for_status()
        back_k, back_v = np.empty_like(k), np.empty_like(v)
        self.space.fetch([b"it"], out=(back_k, back_v)).raise_for_status()
        stored = self.client.stats().spaces[self.name].stored_bytes
        self.space.delete([b"it"])
        return back_k, back_v, stored


def _errors(x, y):
    difference = x.astype(np.float64) - y
    return {"mean_abs": float(np.abs(difference).mean() / np.abs(x).mean()),
            "rms": float(np.sqrt((difference ** 2).mean() / (x.astype(np.float64) ** 2).mean()))}


def _bits(client, codec, heads, tokens, channels, values, which):
    """Bits a value of K or of V: of a space that has a raw tensor beside it, whose bytes are known."""
    k, v = (codec, "f32") if which == "k" else ("f32", codec)
    schema = kvclient.Schema("evaluation", 1, heads, channels, dtype="f32", codec_k=k, codec_v=v,
                             block_tokens=tokens, page_heads=1)
    name = f"evaluation-bits-{k}-{v}"
    space = client.space(name, schema)
    space.append([kvclient.Append(b"it", values, values)])[0].raise_for_status()
    stored = client.stats().spaces[name].stored_bytes
    space.close()
    client.drop_space(name)
    return 8 * (stored - values.nbytes) / values.size


def measure(client, results, progress):
    """Fills results["errors"][codec]."""
    random = np.random.default_rng(2024)
    k, v = (random.standard_normal(SHAPE, dtype=np.float32) for _ in range(2))
    _batch, heads, tokens, channels = SHAPE
    for codec in progress.missing(CODECS, lambda codec: results.has("errors", codec)):
        with Passage(client, codec, heads, tokens, channels) as passage:
            back_k, back_v, _stored = passage(k, v)
        bits = {which: _bits(client, codec, heads, tokens, channels, k, which) for which in "kv"}
        results.put({"k": _errors(k, back_k) | {"bits": bits["k"], "bound": bound(bits["k"])},
                     "v": _errors(v, back_v) | {"bits": bits["v"], "bound": bound(bits["v"])}}, "errors", codec)


def _adversarial(random):
    """Data by name, of shape (1, 1, 128, 64), that a codec must take."""
    shape = (1, 1, 128, 64)
    normal = random.standard_normal(shape, dtype=np.float32)
    lonely = np.zeros(shape, np.float32)
    lonely[0, 0, 77, 13] = 65504
    wide = normal.copy()
    wide[:, :, :, ::16] *= 1000
    signs = np.where(random.random(shape) < 0.5, -65504, 65504).astype(np.float32)
    return {"zeros": np.zeros(shape, np.float32), "negative zeros": np.full(shape, -0.0, np.float32),
            "a constant that f16 does not have": np.full(shape, 1 / 3, np.float32), "one value of 65504": lonely,
            "65504 and -65504": signs, "f32 subnormals": normal * np.float32(1e-40),
            "f16 subnormals": normal * np.float32(1e-7), "channels 1000 times as wide": wide,
            "off zero by 1000": normal + 1000, "one token 10000 times as large": np.concatenate(
                [normal[:, :, :127], normal[:, :, 127:] * 10000], 2),
            "from 1e-7 to 1e4 in each token": normal * np.logspace(-7, 4, 64, dtype=np.float32),
            "alternating": np.tile(np.float32([[1], [-1]]), (64, 64)).reshape(shape)}


def _refused(client, codec, value):
    data = np.zeros((1, 1, 128, 64), np.float32)
    data[0, 0, 5, 6] = value
    with Passage(client, codec, 1, 128, 64) as passage:
        outcome = passage.space.append([kvclient.Append(b"bad", data, data)])[0]
        there = passage.space.match([b"bad"])
    return not outcome.ok and there == 0


def measure_adversarial(client, results, progress):
    """Fills results["adversarial"][codec]: finite results, errors beside the largest value, what is refused."""
    for codec in progress.missing(CODECS, lambda codec: results.has("adversarial", codec)):
        rows = {}
        with Passage(client, codec, 1, 128, 64) as passage:
            for name, data in _adversarial(np.random.default_rng(5)).items():
                back_k, back_v, _stored = passage(data, data)
                largest = max(float(np.abs(data).max()), TINY)
                rows[name] = {"finite": bool(np.isfinite(back_k).all() and np.isfinite(back_v).all()),
                              "worst_k": float(np.abs(back_k.astype(np.float64) - data).max() / largest),
                              "worst_v": float(np.abs(back_v.astype(np.float64) - data).max() / largest)}
        refused = {name: _refused(client, codec, value) for name, value in
                   {"NaN": np.nan, "infinity": np.inf, "-infinity": -np.inf}.items()}
        results.put({"taken": rows, "refused": refused}, "adversarial", codec)
