# SPDX-License-Identifier: Apache-2.0
"""proto/metrics.def as Prometheus sees it, and what an expression takes from it."""
import re

ROW = re.compile(r'^(FAMILY|VALUE|SPACE_VALUE|HOST_VALUE|HISTOGRAM)\((.*?)\)\s*$', re.MULTILINE | re.DOTALL)
LABEL = re.compile(r'(\w+)=\\"(.*?)\\"')
SELECTOR = re.compile(r'\b((?:kvpaged|process)_\w+)\s*(?:\{([^}]*)\})?')
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')

# What Prometheus adds to every series, and labels whose values are not in the table.
ANY_VALUE = {"job", "instance", "le", "verb", "space", "version", "kind"}


def read(path):
    """Names of series, each with its labels and their values."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    series = {}
    names = []
    for kind, arguments in ROW.findall(text):
        if kind == "FAMILY":
            name, type_ = [part.strip() for part in arguments.split(",")[:2]]
            name = name if name.startswith("process_") else f"kvpaged_{name}"
            names = [name + end for end in ("_bucket", "_sum", "_count")] if type_ == "HISTOGRAM" else [name]
            series.update({n: {} for n in names})
        for label, value in LABEL.findall(arguments):
            for name in names:
                series[name].setdefault(label, set()).add(value)
    return series


def unknown(expression, series):
    """Yields what an expression names that no kvpaged would tell."""
    for name, matchers in SELECTOR.findall(expression):
        if name not in series:
            yield f"there is no {name}: {expression}"
            continue
        for label, operator, pattern in MATCHER.findall(matchers):
            if label in ANY_VALUE:
                continue
            values = series[name].get(label, set())
            wanted = pattern.split("|") if "~" in operator else [pattern]
            for value in wanted:
                if value not in values:
                    yield f'{name} has no {label}="{value}": {expression}'
