"""Draws the dashboards of config/grafana as pictures: for the documentation, and to see whether every panel shows something.

Takes    the dashboards, and a Prometheus that has watched a run. A variable stands for all its values.
Gives    OUT/<dashboard>.svg, and on standard output every query that found nothing. A query that fails ends it all.
Keeps    nothing. The same answers give the same bytes.
Weak at  what Grafana can do and these dashboards do not ask for. A kind of panel or a unit that is not known ends it too.
"""

import argparse
import io
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import namedtuple
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from panels import CELL, COLUMNS, GAP, HEAD, KINDS, NORMAL, WIDTH, Box, text

DASHBOARDS = Path(__file__).resolve().parent.parent.parent / "config/grafana"
POINTS = 60  # of a line, about; more would only make a picture larger

matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "dih"}  # text as text, and the same ids each time
matplotlib.rcParams |= {"text.parse_math": False, "font.sans-serif": ["DejaVu Sans"], "lines.solid_capstyle": "butt"}

Series = namedtuple("Series", "name labels values")


class Failed(Exception):
    """Says what went wrong, and where."""


def main(wanted):
    step = max(wanted.scrape, wanted.minutes * 60 // POINTS // wanted.scrape * wanted.scrape)
    prometheus = Prometheus(wanted.prometheus, wanted.end, wanted.minutes, step, wanted.scrape)
    silent = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        silent += [f"{path.stem}: {fault}" for fault in draw(board, prometheus, wanted.out / f"{path.stem}.svg")]
    print("\n".join(silent) or "every query found something")


def arguments():
    parser = argparse.ArgumentParser(prog="draw-dashboards", description="Draws the dashboards of config/grafana.")
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="default %(default)s")
    parser.add_argument("--minutes", type=int, default=30, help="how long a time they show, default %(default)s")
    parser.add_argument("--end", type=int, default=int(time.time()), help="when it ends, in seconds of Unix; default: now")
    parser.add_argument("--scrape", type=int, default=15, help="seconds between scrapes, default %(default)s")
    return parser.parse_args()


def draw(board, prometheus, path):
    """Writes one picture. Gives what found nothing, a line each."""
    variables = {v["name"]: v["allValue"] for v in board["templating"]["list"] if "allValue" in v}
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    figure, silent = Figure(figsize=(WIDTH, rows * CELL + HEAD + 3 * GAP)), []
    heading(figure, board["title"], prometheus.clock)
    for panel in board["panels"]:
        where, answers = f"{board['title']}: `{panel['title']}`", []
        for target in panel.get("targets", []):
            try:
                found = prometheus.series(target, variables)
            except Failed as e:
                raise Failed(f"{where}: {e}") from None
            answers += found
            if not found:
                silent.append(f"`{panel['title']}` has no data for {target['expr']}")
        try:
            place(figure, panel, answers, prometheus.clock)
        except KeyError as e:
            raise Failed(f"{where}: no kind of panel, unit or setting {e} is known here, or it is missing") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(slim(figure))
    return silent


def heading(figure, title, clock):
    whole = Box(figure, {"x": 0, "y": 0, "w": COLUMNS, "h": 1})
    begin, end = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(t)) for t in (clock[0], clock[-1]))
    whole.text(0.05, -HEAD / 2, title, size=12, weight="bold")
    whole.text(whole.width - 0.05, -HEAD / 2, f"{begin} to {end} UTC", ha="right", size=NORMAL)


def place(figure, panel, series, clock):
    """Draws one panel where the grid of its dashboard has it."""
    box = Box(figure, panel["gridPos"])
    if panel["type"] == "row":
        box.text(0.05, box.height / 2, panel["title"], size=NORMAL + 1, weight="bold")
        return
    box.frame(panel["title"])
    if panel["type"] == "text":
        text(box, panel)
    elif series:
        KINDS[panel["type"]](box, panel, series, clock)
    else:
        said = panel["fieldConfig"]["defaults"].get("noValue", "no data")
        box.text(box.width / 2, (box.height + HEAD) / 2, said, size=NORMAL + 2, colour="#8a8a8a", ha="center")


def slim(figure):
    """The figure as SVG, less what a reader does not need: two fifths of the bytes are left."""
    out = io.StringIO()
    figure.savefig(out, format="svg", facecolor="#f4f5f5", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    font = "font-family: 'DejaVu Sans', sans-serif"
    text = text.replace(f"{font}; ", "").replace("</style>", f" text{{{font}}}</style>")
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' transform="rotate\(-0[^"]*"|(?<=<g) id="\w+"', "", text)
    text = re.sub(r' style="[^"]*"', lambda found: re.sub(r"([:;]) ", r"\1", found[0]), text)
    text = re.sub(r' (d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), text)
    text = re.sub(r"(L [-\d.]+ [-\d.]+ \n)+", lambda run: "L " + run[0].replace("L ", "").replace("\n", ""), text)
    return re.sub(r"\n\s*", "\n", text)


class Prometheus:
    """Asks one server about one span of time."""

    def __init__(self, url, end, minutes, step, scrape):
        self.url, self.step = url.rstrip("/"), step
        self.end = end // step * step
        self.clock = np.arange(self.end - minutes * 60 // step * step, self.end + 1, step)
        self.rate = max(step + scrape, 4 * scrape)  # as Grafana reckons $__rate_interval

    def series(self, target, variables):
        query = target["expr"].replace("$__rate_interval", f"{self.rate}s")
        for name, value in variables.items():
            query = re.sub(rf"\${name}\b|\${{{name}(:\w+)?}}", lambda _, value=value: value, query)
        if target.get("instant"):
            found = sorted(self.ask("query", query=query, time=self.end), key=lambda one: sorted(one["metric"].items()))
            points = [[(self.end, one["value"][1])] for one in found]
        else:
            found = self.ask("query_range", query=query, start=self.clock[0], end=self.end, step=self.step)
            points = [one["values"] for one in found]
        metrics = [one["metric"] for one in found]
        series = [Series(named(target, m), m, self.placed(p)) for m, p in zip(metrics, points)]
        return [one for one in series if np.isfinite(one.values).any()]

    def placed(self, points):
        """One value for each time of the clock, NaN where there is none."""
        values = np.full(len(self.clock), np.nan)
        for at, value in points:
            values[round((float(at) - self.clock[0]) / self.step)] = float(value)
        return np.where(np.isfinite(values), values, np.nan)

    def ask(self, what, **parameters):
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=60) as f:
                return json.load(f)["data"]["result"]
        except urllib.error.HTTPError as e:
            raise Failed(f"{e.read().decode(errors='replace')}\n{parameters['query']}") from None
        except (OSError, ValueError, KeyError) as e:
            raise Failed(f"{self.url} does not answer as a Prometheus does: {e}") from None


def named(target, labels):
    form = target.get("legendFormat") or ", ".join(f"{{{{{name}}}}}" for name in labels if name != "__name__")
    return re.sub(r"{{\s*(\w+)\s*}}", lambda m: labels.get(m[1], ""), form)


if __name__ == "__main__":
    try:
        main(arguments())
    except (Failed, OSError) as e:
        sys.exit(f"draw-dashboards: {e}")
