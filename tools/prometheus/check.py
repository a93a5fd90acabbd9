"""Whether what watches the pipeline fits the pipeline, and itself. Standard library only.

Takes    the root of the repository: config/prometheus, config/grafana, docs/operating, and of the code the names of
         metrics and the table of streams.
Gives    every fault, a line each, and exit code 1; or one line that says how much was checked.
Weak at  YAML: there is no reader of it in the standard library, so what promtool does not look at is found line by
         line, in the shape that these files have. A file in another shape is reported, not passed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TESTS = ("tests.yaml", "tests-days.yaml")
HISTOGRAM = re.compile(r"(_seconds|_batch_items)$")  # as pipeline/dih/src/probes.rs gives buckets
SUFFIX = re.compile(r"_(bucket|sum|count)$")
SILENT_ON = {"row", "text"}  # panels that query nothing


NO_PROMTOOL = (
    "There is no promtool. Bring it by `tools/setup prometheus`, or install it: apt-get install prometheus; one that lies"
    " elsewhere is named by PROMTOOL=/path/to/promtool"
)


def main(arguments):
    root = Path(arguments[0]) if arguments else REPOSITORY
    promtool = find_promtool()
    if promtool is None:
        print(f"prometheus-check: NOT tried: syntax, and the cases of the alerts. {NO_PROMTOOL}", file=sys.stderr)
    faults, told = check(root, promtool)
    for fault in faults:
        print(f"prometheus-check: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"prometheus-check: {told}")


def find_promtool():
    brought = Path(os.environ.get("DIH_TOOLS") or REPOSITORY / ".tools") / "bin/promtool"
    for candidate in (os.environ.get("PROMTOOL"), brought, shutil.which("promtool")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate).absolute()
    return None


def check(root, promtool):
    """Gives the faults, and a line for when there are none. What costs seconds comes only when all else is well."""
    prometheus = root / "config/prometheus"
    rules, expressions = (prometheus / "rules.yaml").read_text(), {}
    alerts, records = read_rules(rules)
    faults = list(check_alerts(root, alerts))
    cases = read_tests(prometheus)
    faults += check_cases(alerts, cases)
    expressions["rules.yaml"] = rules
    expressions |= {name: (prometheus / name).read_text() for name in TESTS}
    dashboards = sorted((root / "config/grafana").glob("*.json"))
    if not dashboards:
        faults.append("config/grafana holds no dashboard")
    queries, uids, panels, titles = [], {}, 0, set()
    for path in dashboards:
        found = Dashboard(path)
        faults += found.faults
        queries += [(path.name, query) for query in found.queries]
        expressions[path.name] = "\n".join(found.queries)
        panels += found.panels
        titles |= found.titles
        if uids.setdefault(found.uid, path.name) != path.name:
            faults.append(f"{path.name}: uid `{found.uid}` is that of {uids[found.uid]}")
    faults += check_pointers(root, titles)
    faults += check_names(root, expressions, records)
    if promtool:
        faults += check_syntax(promtool, prometheus, queries)
    if promtool and not faults:
        faults += told_by(promtool, prometheus, ["test", "rules", *TESTS])
    told = f"{len(alerts)} alerts, {len(records)} recorded series, {len(cases)} cases, {panels} panels: all fit"
    if promtool is None:
        told += ", as far as can be seen without promtool"
    return faults, told


def read_rules(text):
    """Alert -> its lines, and the names of recorded series. Comments are left out, for they may name anything."""
    alerts, records, lines = {}, set(), None
    for line in uncommented(text):
        if begun := re.match(r"\s*- (alert|record): (\S+)$", line):
            kind, name = begun.groups()
            lines = alerts.setdefault(name, []) if kind == "alert" else []
            if kind == "record":
                records.add(name)
        elif lines is not None:
            lines.append(line)
    return alerts, records


def uncommented(text):
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def check_alerts(root, alerts):
    index = root / "docs/operating/README.md"
    listed = index.read_text() if index.is_file() else ""
    books = {path.name for path in (root / "docs/operating").glob("*.md")} - {"README.md"}
    if not alerts:
        yield "rules.yaml: no alert was found"
    for name, lines in alerts.items():
        fields = dict(re.findall(r"^\s*(summary|description|runbook|severity): (.+)$", "\n".join(lines), re.M))
        for field in ("summary", "description", "runbook", "severity"):
            if field not in fields:
                yield f"rules.yaml: {name} has no {field}"
        if fields.get("severity", "warning") not in ("critical", "warning"):
            yield f"rules.yaml: severity of {name} is neither `critical` nor `warning`"
        path = root / fields.get("runbook", "docs/operating/README.md")
        books.discard(path.name)
        if not path.is_file():
            yield f"rules.yaml: the runbook of {name} is not there: {fields['runbook']}"
        elif f"[{name}]({path.name})" not in listed:
            yield f"docs/operating/README.md: {name} is not in the table"
        elif not path.read_text().startswith(f"# {name}"):
            yield f"{fields['runbook']}: its title is not {name}"
    for book in sorted(books):
        yield f"docs/operating/{book}: no alert leads there"


def check_pointers(root, titles):
    """A page that sends somebody to a panel must find it there."""
    for path in sorted((root / "docs/operating").glob("*.md")):
        for title in re.findall(r"\bpanel \*([^*]+)\*", " ".join(path.read_text().split())):
            if title not in titles:
                yield f"docs/operating/{path.name}: no dashboard has a panel *{title}*"


def read_tests(folder):
    """(alert, whether it fires) of every case."""
    cases = []
    for name in TESTS:
        text = "\n".join(uncommented((folder / name).read_text()))
        for silent, alert, rest in re.findall(r"(\{eval_time[^}]*)?alertname: (\w+)(.*(?:\n.*)?)", text):
            fires = "exp_labels" in rest or re.search(r"exp_alerts:\s*$", rest) is not None
            if not fires and "exp_alerts: []" not in rest:
                raise SystemExit(f"prometheus-check: {name}: after `alertname: {alert}` must come `exp_alerts`")
            cases.append((alert, fires and not silent))
    return cases


def check_cases(alerts, cases):
    for alert in alerts:
        for fires, what in ((True, "fires"), (False, "is silent")):
            if (alert, fires) not in cases:
                yield f"tests: no case in which {alert} {what}"
    for alert in sorted({alert for alert, _ in cases} - set(alerts)):
        yield f"tests: {alert} is in no rule"


def check_names(root, expressions, records):
    """Every metric, recorded series and label value that is named must exist."""
    code = root / "pipeline/core/src"
    metrics = set(re.findall(r'pub const \w+: &str = "(dih_\w+)";', (code / "metrics.rs").read_text()))
    topology = (code / "topology.rs").read_text()
    known = {
        "consumer": set(re.findall(r'consumer!\("([^"]+)"', topology)),
        "stream": set(re.findall(r'pub const \w+: &str = "([A-Z]+)";', topology)),
    }
    if not metrics or not all(known.values()):
        yield "pipeline/core/src: no names of metrics, consumers or streams were found; mend this reader"
    for file, text in expressions.items():
        text = "\n".join(uncommented(text))
        for name in sorted(set(re.findall(r"\bdih_\w+", text))):
            base = SUFFIX.sub("", name)
            if base in metrics and HISTOGRAM.search(base):
                if base == name:
                    yield f"{file}: `{name}` is a histogram; write _bucket, _sum or _count after it"
            elif name not in metrics:
                yield f"{file}: there is no metric `{name}` in pipeline/core/src/metrics.rs"
        for name in sorted(set(re.findall(r"\bdih:[\w:]+", text)) - records):
            yield f"{file}: no rule records `{name}`"
        for label, values in known.items():
            for asked in re.findall(rf'\b{label}[=!]~?"([^"$]+)"', text):
                for value in sorted(set(asked.split("|")) - values - {".*"}):
                    yield f"{file}: there is no {label} `{value}`"


class Dashboard:
    """One dashboard: its faults, and the queries of its panels and variables, with variables filled in."""

    def __init__(self, path):
        self.name, self.faults, self.queries, self.uid = path.name, [], [], path.name
        self.panels, self.titles = 0, set()
        try:
            board = json.loads(path.read_text())
        except ValueError as error:
            self.faults.append(f"{self.name}: is no JSON: {error}")
            return
        self.uid = board.get("uid")
        for field in ("uid", "title", "description", "schemaVersion"):
            self.need(board.get(field), f"no {field}")
        variables = board.get("templating", {}).get("list", [])
        choices = [v["name"] for v in variables if v["type"] == "datasource"]
        self.need(choices == ["datasource"], "no `datasource` variable")
        for variable in variables:
            if variable["type"] == "query":
                self.follows(variable, f"variable {variable['name']}")
                self.take(re.sub(r"^label_values\((.*), *\w+\)$", r"\1", variable["query"]["query"]))
        panels = [inner for panel in board.get("panels", []) for inner in (panel, *panel.get("panels", []))]
        ids = [panel.get("id") for panel in panels]
        self.need(panels and None not in ids and len(set(ids)) == len(ids), "ids of panels are missing or clash")
        for panel in panels:
            self.panel(panel)
        self.overlaps(panels)

    def need(self, holds, fault):
        if not holds:
            self.faults.append(f"{self.name}: {fault}")

    def follows(self, part, what):
        self.need(part.get("datasource", {}).get("uid") == "${datasource}", f"{what} has a fixed datasource")

    def take(self, query):
        query = re.sub(r"\$__(rate_interval|interval|range)", "5m", query)
        self.queries.append(re.sub(r'"\$\{?(\w+)(:regex)?\}?"', '".*"', query))

    def panel(self, panel):
        title = panel.get("title")
        self.panels += 1
        self.titles.add(title)
        self.need(title, f"panel {panel.get('id')} has no title")
        if panel["type"] == "row":
            return
        self.need(panel.get("description"), f"`{title}` has no description")
        if panel["type"] in SILENT_ON:
            return
        self.need(panel.get("fieldConfig", {}).get("defaults", {}).get("unit"), f"`{title}` has no unit")
        self.follows(panel, f"`{title}`")
        targets = panel.get("targets", [])
        refs = [target.get("refId") for target in targets]
        self.need(targets and len(set(refs)) == len(refs), f"`{title}` has no query, or two with one refId")
        for target in targets:
            self.take(target["expr"])

    def overlaps(self, panels):
        taken = {}
        for panel in panels:
            at = panel["gridPos"]
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                other = taken.setdefault(cell, panel["title"])
                if other != panel["title"] or cell[0] >= 24:
                    self.faults.append(f"{self.name}: `{panel['title']}` lies over `{other}` or beyond the edge")
                    return


def check_syntax(promtool, folder, queries):
    """promtool reads the configuration with its rules, and every query of a dashboard as if it were a rule."""
    yield from told_by(promtool, folder, ["check", "config", "prometheus.yaml"])
    rules = [{"record": f"query:{n}", "expr": query, "labels": {"of": of}} for n, (of, query) in enumerate(queries)]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "queries.json"  # JSON is YAML
        path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}, indent=1))
        yield from told_by(promtool, Path(place), ["check", "rules", path.name])


def told_by(promtool, folder, arguments):
    command = [promtool, *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return []
    return [f"promtool {' '.join(arguments)} says:\n{done.stdout.strip()}"]


if __name__ == "__main__":
    main(sys.argv[1:])
