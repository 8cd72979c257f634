# SPDX-License-Identifier: Apache-2.0
"""What a pair of codecs, K/V, is called, and where it stands in tables and pictures."""

ORDER = ("q8", "t8", "q6", "t6", "q4", "t4")


def place(pair):
    """A sort key, whatever was measured first: what changes both, then K alone, V alone, and the control; codecs that
    ORDER does not have come last."""
    k, _, v = pair.partition("/")
    codec = v if k == "f32" else k
    return (v == "f32") + 2 * (k == "f32"), ORDER.index(codec) if codec in ORDER else len(ORDER), pair


def words(pair):
    k, _, v = pair.partition("/")
    if k == v:
        return k
    if "f32" in (k, v):
        return f"V {v} alone" if k == "f32" else f"K {k} alone"
    return f"K {k}, V {v}"
