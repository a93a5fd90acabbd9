"""Whether the checks notice: breaks a copy of rules, pages and dashboards, one thing at a time.

Takes    what check.py takes, which must be without fault.
Gives    a line for each break that nobody noticed, and exit code 1.
Keeps    nothing; all is done in temporary folders.
Weak at  thresholds in recorded series (only what an alert says itself is turned round).
"""

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check

RULES = "config/prometheus/rules.yaml"
TESTS = "config/prometheus/tests.yaml"
INDEX = "docs/operating/README.md"
STAGES, MODELS = "config/grafana/stages.json", "config/grafana/models.json"
PARTS = ("config/prometheus", "config/grafana", "docs/operating")
CODE = ("pipeline/core/src/metrics.rs", "pipeline/core/src/topology.rs")


def main(arguments):
    root = Path(arguments[0]) if arguments else check.REPOSITORY
    promtool = check.find_promtool()
    if promtool is None:
        sys.exit(f"prometheus-check: {check.NO_PROMTOOL}")
    breaks = [*BY_HAND, *of_alerts((root / RULES).read_text())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = pool.map(lambda change: is_noticed(root, promtool, *change[1:]), breaks)
        unnoticed = [change[0] for change, seen in zip(breaks, noticed, strict=True) if not seen]
    for what in unnoticed:
        print(f"prometheus-check: nobody noticed: {what}", file=sys.stderr)
    if unnoticed:
        sys.exit(1)
    print(f"prometheus-check: all of {len(breaks)} breaks were noticed")


# What is broken, the file, what stands there (None: the file itself), what comes in its place, what must be said of it.
BY_HAND = [
    ("a renamed metric in a rule", RULES, "dih_stage_lag_items)", "dih_stage_lag)", "no metric `dih_stage_lag`"),
    ("a renamed metric in the code", CODE[0], '"dih_verdicts_total"', '"dih_verdict_total"', "no metric `dih_verd"),
    ("a histogram without suffix", RULES, "dih_store_call_seconds_count[", "dih_store_call_seconds[", "is a histogram"),
    ("a renamed recorded series", RULES, "record: dih:stage_lag_s", "record: dih:stage_late_s", "no rule records"),
    ("a renamed consumer", CODE[1], 'consumer!("verify"', 'consumer!("check"', "no consumer `verify`"),
    ("a dropped runbook", "docs/operating/lag-old.md", None, None, "the runbook of DihLagOld is not there"),
    ("an alert without runbook", RULES, "  runbook: docs/operating/lag-old.md\n", "\n", "DihLagOld has no runbook"),
    ("a runbook that is not in the index", INDEX, "[DihLagOld](", "[DihLag](", "not in the table"),
    ("a page that no alert leads to", RULES, "operating/lag-old.md", "operating/lag.md", "no alert leads there"),
    ("a page that names no panel", STAGES, '"title": "Failed calls"', '"title": "Failures"', "no dashboard has"),
    ("a case that is gone", TESTS, "alertname: DihJobsWait\n", "alertname: DihLagOld\n", "in which DihJobsWait"),
    ("an alert of other words", RULES, "falls behind", "is late", "FAILED"),
    ("an alert of other severity", RULES, "severity: warning", "severity: critical", "FAILED"),
    ("a rule that is no PromQL", RULES, "max by (namespace, stream) (", "max by (namespace stream) (", "check config"),
    ("a query that is no PromQL", MODELS, "sum by (consumer) (", "sum by (consumer) ((", "check rules"),
    ("a dashboard that is no JSON", MODELS, "[", "", "is no JSON"),
    ("a panel without unit", MODELS, '"unit": "s", ', "", "has no unit"),
    ("a panel without description", MODELS, '"description": "Calls', '"note": "Calls', "no description"),
    ("ids that clash", MODELS, '"id": 2,', '"id": 1,', "clash"),
    ("panels that overlap", MODELS, '"x": 8, "y": 0', '"x": 7, "y": 0', "lies over"),
    ("a counter whose birth is not seen", RULES, "unless dih_stage_dead", "and dih_stage_dead", "FAILED"),
    ("lag that is added up", RULES, "max by (namespace, consumer) (dih", "sum by (namespace, consumer) (dih", "FAILED"),
    ("a hand-back that counts as done", RULES, 'outcome!~"retried|handed_back|', 'outcome!~"retried|', "FAILED"),
]


def of_alerts(rules):
    """Of every alert each comparison turned round, each bound moved, its wait made long, its condition dropped."""
    for block in re.findall(r"      - alert: .*?(?=\n\n|\n      - |\Z)", rules, re.S):
        name = re.match(r"\s*- alert: (\w+)", block).group(1)
        before = re.search(r"        expr: .*?(?=\n        (?:for|labels):)", block, re.S).group()
        whole = [("a turned", r" > ", " < "), ("an excluding", r"\bunless\b", "and"), ("a dropped", r"==", "!=")]
        for what, old, new in whole:
            for n, hit in enumerate(re.finditer(old, before), 1):
                yield turned(f"{what} `{hit.group().strip()}` ({n}) of {name}", block, before, hit, new)
        for n, hit in enumerate(re.finditer(r"(?<=> )[\d.]*[1-9][\d.]*", before), 1):
            for factor in (0.1, 10):
                new = f"{float(hit.group()) * factor:g}"
                yield turned(f"bound {n} of {name} times {factor}", block, before, hit, new)
        if wait := re.search(r"for: (\d+m)", block):
            yield (f"a wait of days of {name}", RULES, block, block.replace(wait.group(), "for: 9d"), "FAILED")


def turned(what, block, before, hit, new):
    after = before[: hit.start()] + new + before[hit.end() :]
    return what, RULES, block, block.replace(before, after), "FAILED"


def is_noticed(root, promtool, file, old, new, said):
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        for part in PARTS:
            shutil.copytree(root / part, copy / part)
        for source in CODE:
            (copy / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / source, copy / source)
        path = copy / file
        if old is None:
            path.unlink()
        else:
            text = path.read_text()
            if old not in text:
                sys.exit(f"prometheus-check: {file} no longer holds `{old}`; correct mutations.py")
            path.write_text(text.replace(old, new, 1))
        alert = re.search(r"alert: (\w+)", new or "")
        faults = tried(copy, promtool, alert.group(1)) if alert else check.check(copy, promtool)[0]
        return any(said in fault for fault in faults)


def tried(copy, promtool, alert):
    """What the cases of this alert alone say, for time."""
    folder = copy / "config/prometheus"
    if faults := check.told_by(promtool, folder, ["check", "config", "prometheus.yaml"]):
        sys.exit(f"prometheus-check: a break must be a rule still; correct mutations.py: {faults[0]}")
    files = []
    for name in check.TESTS:
        head, *cases = (folder / name).read_text().split("\n  - name: ")
        mine = [case for case in cases if case.startswith(f"{alert} ")]
        if mine:
            (folder / name).write_text("\n  - name: ".join([head, *mine]))
            files.append(name)
    return check.told_by(promtool, folder, ["test", "rules", *files])


if __name__ == "__main__":
    main(sys.argv[1:])
