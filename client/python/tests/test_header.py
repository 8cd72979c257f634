# SPDX-License-Identifier: Apache-2.0
"""kvclient._native against client/kvclient.h: every struct, number and function, as the C compiler sees them."""
from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

import kvclient as kv
from kvclient import _native, schema
from kvclient.events import EventKind

HEADER = ROOT / "client/kvclient.h"
TEXT = HEADER.read_text()


def measured(tmp_path) -> dict[str, int]:
    """What a C program prints about the header: sizes, offsets, sizes of fields, enumerators and macros."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    wanted = []
    for name, struct in _native.STRUCTS.items():
        wanted.append((f"{name}", f"sizeof(struct {name})"))
        for field, *_ in struct._fields_:
            wanted.append((f"{name}.{field}", f"offsetof(struct {name}, {field})"))
            wanted.append((f"{name}.{field} bytes", f"sizeof(((struct {name} *)0)->{field})"))
    for enumerator in re.findall(r"\b(KVC_[A-Z0-9_]+) = \d", TEXT) + re.findall(r"#define (KVC_\w+) \S", TEXT):
        if enumerator != "KVC_API":
            wanted.append((enumerator, enumerator))
    lines = "\n".join(f'printf("%s=%llu\\n", "{name}", (unsigned long long)({value}));' for name, value in wanted)
    source = tmp_path / "measure.c"
    source.write_text(f"#include <stdio.h>\n#include \"{HEADER}\"\nint main(void) {{\n{lines}\nreturn 0;\n}}\n")
    program = tmp_path / "measure"
    subprocess.run([compiler, "-o", str(program), str(source)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True, env={}).stdout
    return {name: int(value) for name, value in (line.split("=") for line in output.splitlines())}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory) -> dict[str, int]:
    return measured(tmp_path_factory.mktemp("header"))


def test_every_struct_is_declared():
    bodies = re.findall(r"^struct (kvc_\w+) \{(.*?)^\};", TEXT, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in bodies} == set(_native.STRUCTS)
    for name, body in bodies:
        body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
        fields = re.findall(r"(\w+)\s*(?:\[[^\]]*\])*;", body)
        assert fields == [field[0] for field in _native.STRUCTS[name]._fields_], name


def test_sizes_and_offsets(numbers):
    for name, struct in _native.STRUCTS.items():
        assert ctypes.sizeof(struct) == numbers[name], name
        for field, *_ in struct._fields_:
            place = getattr(struct, field)
            assert (place.offset, place.size) == \
                (numbers[f"{name}.{field}"], numbers[f"{name}.{field} bytes"]), f"{name}.{field}"


def test_every_function_is_declared():
    declared = re.findall(r"^KVC_API ([^;(]*?)(\w+)\(([^;]*)\);", TEXT, re.MULTILINE | re.DOTALL)
    assert {name for _, name, _ in declared} == set(_native.PROTOTYPES)
    for _, name, arguments in declared:
        count = 0 if arguments.strip() == "void" else arguments.count(",") + 1
        assert count == len(_native.PROTOTYPES[name][1]), name


def kind_of(declaration: str) -> str:
    """What a C parameter or result is to the calling convention."""
    if "*" in declaration:
        return "pointer"
    words = [word for word in re.findall(r"\w+", declaration) if word not in ("const", "struct")]
    return words[0]


def kind_of_ctype(ctype) -> str:
    names = {ctypes.c_int: "int", ctypes.c_uint32: "uint32_t", ctypes.c_int64: "int64_t", ctypes.c_char: "char"}
    if ctype in (ctypes.c_void_p, ctypes.c_char_p) or isinstance(ctype, type(ctypes.POINTER(ctypes.c_int))):
        return "pointer"
    return names.get(ctype, "64 bits")


def test_prototypes():
    for result, name, arguments in re.findall(r"^KVC_API ([^;(]*?)(\w+)\(([^;]*)\);", TEXT, re.MULTILINE | re.DOTALL):
        kinds = [kind_of(result)] + ([] if arguments.strip() == "void" else
                                     [kind_of(argument) for argument in arguments.split(",")])
        kinds = ["64 bits" if kind in ("uint64_t", "size_t") else kind for kind in kinds]
        bound, parameters = _native.PROTOTYPES[name]
        assert [kind_of_ctype(ctype) for ctype in (bound, *parameters)] == kinds, name


def test_enums(numbers):
    assert {f"KVC_{s.name}": s.value for s in kv.Status} == enum_of("kvc_status", numbers)
    assert {f"KVC_FATE_{f.name}": f.value for f in kv.Fate} == enum_of("kvc_fate", numbers)
    assert {f"KVC_VERIFY_{v.name}": v.value for v in kv.Verify} == enum_of("kvc_verify", numbers)
    assert {f"KVC_EVENT_{e.name}": e.value for e in EventKind if e > 0} == enum_of("kvc_event_kind", numbers)
    assert {f"KVC_CODEC_{name.upper()}": n for name, n in schema.CODECS.items()} == enum_of("kvc_codec", numbers)
    assert {f"KVC_{name.upper()}": n for name, n in schema.DTYPES.items()} == enum_of("kvc_dtype", numbers)


def enum_of(name: str, numbers: dict[str, int]) -> dict[str, int]:
    body = re.search(rf"enum {name} \{{(.*?)\}};", TEXT, re.DOTALL)
    assert body is not None
    return {enumerator: numbers[enumerator] for enumerator in re.findall(r"\b(KVC_\w+) = ", body[1])}


@pytest.mark.parametrize("macro", ["KEY_BYTES_MAX", "NAME_BYTES_MAX", "WHY_ELSEWHERE_MAX", "HISTOGRAM_BUCKETS",
                                   "EVENTS_FROM_NOW", "READ_ONLY", "NO_RECONNECT", "NO_SPIN"])
def test_macros(numbers, macro):
    assert getattr(_native, macro) == numbers[f"KVC_{macro}"]


def test_versions_agree():
    project = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())
    assert project is not None
    assert kv.__version__ == project[1]
    assert f'version = "{project[1]}"' in (ROOT / "client/python/pyproject.toml").read_text()
    assert project[1].startswith(_native.VERSION + ".")
    assert _native.library().kvc_version().decode() == project[1]
