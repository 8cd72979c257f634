#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of Prometheus and the dashboard of Grafana against promtool and against proto/metrics.def.

Usage: test-prometheus.py ROOT
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import metrics
import tap

try:
    import yaml
except ImportError:
    yaml = None

ROOT = sys.argv[1]
DIRECTORY = os.path.join(ROOT, "deploy/prometheus")
RULES = os.path.join(DIRECTORY, "kvpaged.rules.yml")
TESTS = os.path.join(DIRECTORY, "kvpaged.rules.test.yml")
DASHBOARD = os.path.join(ROOT, "deploy/grafana/kvpaged.json")
SERIES = metrics.read(os.path.join(ROOT, "proto/metrics.def"))
RECORDED = re.compile(r"\b(instance\w*:kvpaged_\w+(?::\w+)?)")


def load(path):
    if yaml is None:
        raise tap.Skip("there is no python3-yaml")
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def rules():
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def promtool(*arguments):
    if not shutil.which("promtool"):
        raise tap.Skip("there is no promtool (package prometheus)")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        yield done.stdout + done.stderr


def check_rules():
    """promtool check rules"""
    yield from promtool("check", "rules", RULES)


def test_rules():
    """promtool test rules: each alert in cases in which it fires and in which it does not"""
    yield from promtool("test", "rules", TESTS)


def check_example():
    """promtool check config: the example of a configuration"""
    yield from promtool("check", "config", os.path.join(DIRECTORY, "scrape.example.yml"))


def alerts_are_tested():
    """every alert has a case in which it fires and one in which it does not"""
    cases = [case for test in load(TESTS)["tests"] for case in test.get("alert_rule_test", ())]
    for rule in rules():
        if "alert" in rule:
            mine = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == rule["alert"]]
            if True not in mine or False not in mine:
                yield f"{rule['alert']}: {'never fires' if True not in mine else 'always fires'} in the tests"


def alerts_are_described():
    """every alert has a severity, a summary, a description and a place in docs/operations.md"""
    for rule in rules():
        if "alert" not in rule:
            continue
        for key in ("summary", "description"):
            if not rule.get("annotations", {}).get(key):
                yield f"{rule['alert']}: no {key}"
        if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
            yield f"{rule['alert']}: the severity is neither critical nor warning"
        if rule["annotations"].get("runbook") != f"docs/operations.md#{rule['alert'].lower()}":
            yield f"{rule['alert']}: the runbook is not its own"


def runbooks_exist():
    """docs/operations.md has a heading for every alert"""
    path = os.path.join(ROOT, "docs/operations.md")
    if not os.path.exists(path):
        raise tap.Skip("there is no docs/operations.md yet")
    with open(path, encoding="utf-8") as file:
        headings = {line.lstrip("#").strip().lower() for line in file if line.startswith("#")}
    for rule in rules():
        if "alert" in rule and rule["alert"].lower() not in headings:
            yield f"{rule['alert']} has no heading"


def rules_name_metrics():
    """every metric and label in the rules is one of kvpaged's, every record exists"""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        yield from metrics.unknown(RECORDED.sub("", rule["expr"]), SERIES)
        for name in RECORDED.findall(rule["expr"]):
            if name not in recorded:
                yield f"nothing records {name}"


def dashboard():
    with open(DASHBOARD, encoding="utf-8") as file:
        return json.load(file)


def expressions():
    """(title, expression) of all panels and annotations"""
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def overlap(a, b):
    return all(a[at] < b[at] + b[size] and b[at] < a[at] + a[size] for at, size in (("x", "w"), ("y", "h")))


def dashboard_is_whole():
    """the dashboard has what Grafana wants of one"""
    board = dashboard()
    for key in ("title", "uid", "schemaVersion", "time", "templating", "panels", "annotations"):
        if not board.get(key):
            yield f"no {key}"
    variables = {v["name"]: v for v in board["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource" or "instance" not in variables:
        yield "the variables datasource and instance are missing"
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"
    for number, panel in enumerate(board["panels"]):
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']}: reaches over the edge"
        yield from (f"{panel['title']} lies over {other['title']}" for other in board["panels"][:number]
                    if overlap(place, other["gridPos"]))
        if panel["type"] == "row":
            continue
        if not panel["targets"] or not panel["title"] or "unit" not in panel["fieldConfig"]["defaults"]:
            yield f"{panel['title']}: no title, unit or targets"
        for thing in (panel, *panel["targets"]):
            if thing["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{panel['title']}: another data source"


def dashboard_rows():
    """the dashboard has a row for each concern"""
    titles = " ".join(p["title"] for p in dashboard()["panels"] if p["type"] == "row").lower()
    for concern in ("traffic", "latency", "memory", "hit rate", "sessions", "quotas", "loop", "process"):
        if concern not in titles:
            yield f"no row about {concern}"


def dashboard_parses():
    """every expression of the dashboard parses"""
    if yaml is None:
        raise tap.Skip("there is no python3-yaml")
    made = [{"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
            for n, (_, expression) in enumerate(expressions())]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}, file)
        file.flush()
        yield from promtool("check", "rules", file.name)


def dashboard_names_metrics():
    """every metric and label on the dashboard is one of kvpaged's, and of the instance that is chosen"""
    for title, expression in expressions():
        yield from (f"{title}: {fault}" for fault in metrics.unknown(expression, SERIES))
        if expression.count('instance=~"$instance"') != len(metrics.SELECTOR.findall(expression)):
            yield f"{title}: not of the chosen instance: {expression}"


if __name__ == "__main__":
    sys.exit(tap.run([check_rules, test_rules, check_example, alerts_are_tested, alerts_are_described, runbooks_exist,
                      rules_name_metrics, dashboard_is_whole, dashboard_rows, dashboard_parses,
                      dashboard_names_metrics]))
