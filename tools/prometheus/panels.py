"""How a panel looks: its kinds, its units, its place in the picture. Only what the dashboards of this project ask for."""

import itertools
import time

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle, Wedge
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

WIDTH, COLUMNS, CELL, GAP = 11.7, 24, 0.34, 0.05  # inches; a picture is 1,123 pixels wide
HEAD, LINE, SMALL, NORMAL = 0.3, 0.155, 8, 9  # inches of a title and of a line of text; points
COLOURS = (
    "#73bf69 #f2cc0c #5794f2 #ff9830 #f2495c #b877d9 #37872d #1f60c4 #8ab8ff #c4162a #8f3bb8 #e0b400 #96d98d #fa6400 #ffa6b0"
    " #447ebc #56a64b #ca95e5 #806eb7 #99440a #3f6833 #2f575e #64b0c8 #967302 #e0752d #58140c #052b51 #511749"
).split()
STEPS = {"green": "#37872d", "orange": "#e07400", "red": "#c4162a"}
SCALES = {  # unit -> (size, suffix), smallest first
    "short": [(1, ""), (1e3, " K"), (1e6, " Mil")],
    "cps": [(1, " c/s"), (1e3, "K c/s")],
    "percentunit": [(0.01, "%")],
    "s": [(1e-6, " µs"), (1e-3, " ms"), (1, " s"), (60, " min"), (3600, " h")],
    "bytes": [(1, " B"), (2**10, " KiB"), (2**20, " MiB"), (2**30, " GiB"), (2**40, " TiB")],
}
NICE_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)


class Box:
    """The place of one panel. Lengths are inches from its top left corner."""

    def __init__(self, figure, at):
        self.figure, unit = figure, WIDTH / COLUMNS
        self.left, self.top = at["x"] * unit + GAP, at["y"] * CELL + HEAD + 2 * GAP
        self.width, self.height = at["w"] * unit - 2 * GAP, at["h"] * CELL - 2 * GAP

    def across(self, left, top, right, bottom):
        """A rectangle inside of these margins, in shares of the figure."""
        width, height = self.figure.get_size_inches()
        x, y = self.left + left, height - self.top - self.height + bottom
        return x / width, y / height, (self.width - left - right) / width, (self.height - top - bottom) / height

    def frame(self, title):
        x, y, *size = self.across(0, 0, 0, 0)
        self.figure.add_artist(Rectangle((x, y), *size, facecolor="white", edgecolor="#d0d0d0", linewidth=0.6, zorder=-1))
        self.text(0.1, 0.14, title, size=NORMAL, weight="bold")

    def axes(self, left=0.1, top=HEAD, right=0.1, bottom=0.08):
        return self.figure.add_axes(self.across(left, top, right, bottom))

    def text(self, x, y, words, size=SMALL, colour="#333333", **more):
        width, height = self.figure.get_size_inches()
        at = (self.left + x) / width, 1 - (self.top + y) / height
        self.figure.text(*at, words, size=size, color=colour, va="center", **more)

    def swatch(self, x, y, colour, width=0.09, height=0.09):
        left, bottom, *size = self.across(x, y - height / 2, self.width - x - width, self.height - y - height / 2)
        self.figure.add_artist(Rectangle((left, bottom), *size, facecolor=colour))


def lines(box, panel, series, clock):
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    axes = box.axes(left=0.66, right=0.25, bottom=0.3 + legend(box, series))
    total = np.zeros(len(clock))
    for colour, one in zip(itertools.cycle(COLOURS), series):
        values = one.values
        if custom["stacking"]["mode"] == "normal":
            below, total = total, total + np.nan_to_num(values)
            values = np.where(np.isnan(values), np.nan, total)
            axes.fill_between(clock, below, values, color=colour, alpha=custom["fillOpacity"] / 100, linewidth=0)
        kept = bends(values)
        axes.plot(clock[kept], values[kept], color=colour, linewidth=custom["lineWidth"])
    every = np.concatenate([total, *(one.values for one in series)])
    graduate(axes, every[np.isfinite(every)], defaults, "scaleDistribution" in custom)
    date(axes, clock)
    axes.tick_params(bottom=False, left=False, labelcolor="#555555", labelsize=SMALL)
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.spines[:].set_visible(False)


def bends(values):
    """Which points a line needs: not those between two of the same value, which would only make a picture larger."""
    kept = np.ones(len(values), bool)
    kept[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
    return kept


def date(axes, clock):
    """The horizontal axis: as many round times of the day, in UTC, as there is room for."""
    room = axes.get_position().width * WIDTH / 0.6
    minutes = next((m for m in NICE_MINUTES if (clock[-1] - clock[0]) / 60 / m <= room), NICE_MINUTES[-1])
    ticks = [t for t in range(int(clock[0]), int(clock[-1]) + 1) if t % (60 * minutes) == 0]
    axes.set_xticks(ticks, [time.strftime("%H:%M", time.gmtime(t)) for t in ticks])
    axes.set_xlim(clock[0], clock[-1])


def graduate(axes, values, defaults, logarithmic):
    """The vertical axis: its limits, and a few round numbers with their unit."""
    if logarithmic:
        decades = np.log10(values[values > 0]) if (values > 0).any() else np.zeros(1)
        low = np.floor(decades.min())
        high = max(np.ceil(decades.max()), low + 1)
        ticks = 10.0 ** np.arange(low, high + 1)
        axes.set_yscale("log")
        axes.set_ylim(ticks[0], ticks[-1])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        low = defaults.get("min", values.min())
        high = defaults.get("max", values.max() * 1.05 if values.max() > low else low + 1)
        size, _ = scale(high, defaults["unit"])
        ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low / size, high / size) * size
        axes.set_ylim(low, high)
        ticks = [t for t in ticks if low <= t <= high * 1.001]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(lambda value, _: told(value, defaults["unit"]))


def legend(box, series):
    """Names side by side at the foot, in as many rows as it takes. Gives the height that they take."""
    rows, x = [[]], 0.12
    for colour, one in zip(itertools.cycle(COLOURS), series):
        wide = 0.14 + measured(one.name) + 0.12
        if x + wide > box.width and rows[-1]:
            rows, x = [*rows, []], 0.12
        rows[-1].append((x, colour, one.name))
        x += wide
    for up, row in enumerate(reversed(rows)):
        for x, colour, name in row:
            box.swatch(x, box.height - 0.12 - up * LINE, colour)
            box.text(x + 0.14, box.height - 0.12 - up * LINE, name)
    return len(rows) * LINE


def stat(box, panel, series, clock):
    defaults = panel["fieldConfig"]["defaults"]
    colour = coloured(latest(series[0]), defaults)
    axes = box.axes(top=box.height * 0.6, left=0, right=0, bottom=0)
    axes.fill_between(clock, 0, series[0].values, color=colour, alpha=0.15, linewidth=0)
    axes.plot(clock, series[0].values, color=colour, linewidth=0.8)
    axes.set_xlim(clock[0], clock[-1])
    axes.set_ylim(0, max(np.nanmax(series[0].values) * 1.05, 1e-9))
    axes.set_axis_off()
    value = told(latest(series[0]), defaults["unit"])
    box.text(box.width / 2, box.height * 0.47, value, size=20, colour=colour, ha="center", weight="bold")


def gauge(box, panel, series, _):
    defaults = panel["fieldConfig"]["defaults"]
    low, high, each = defaults["min"], defaults["max"], box.width / len(series)
    for at, one in enumerate(series):
        axes = box.axes(left=at * each + 0.1, right=(len(series) - 1 - at) * each + 0.1)
        value, colour = min(max(latest(one), low), high), coloured(latest(one), defaults)

        def arc(begin, end, colour, radius=0.92, width=0.25):
            angles = [210 - 240 * (v - low) / (high - low) for v in (end, begin)]
            axes.add_patch(Wedge((0, 0), radius, *angles, width=width, color=colour))

        arc(low, high, "#e8e8e8")
        arc(low, value, colour)
        steps = [*((s["value"] or low, STEPS[s["color"]]) for s in defaults["thresholds"]["steps"]), (high, None)]
        for (begin, own), (end, _) in itertools.pairwise(steps):
            arc(begin, end, own, 1, 0.05)
        axes.text(0, -0.1, told(latest(one), defaults["unit"]), size=16, weight="bold", ha="center", color=colour)
        axes.text(0, -0.7, one.name, size=SMALL, ha="center")
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        axes.set_axis_off()


def pie(box, panel, series, _):
    values = [latest(one) for one in series]
    side = min(box.width * 0.45, box.height - HEAD - 0.2)
    axes = box.axes(left=0.1, right=box.width - side - 0.1)
    axes.pie(values, colors=COLOURS, radius=1, wedgeprops={"width": 0.45, "edgecolor": "white", "linewidth": 0.8})
    top = (box.height + HEAD - len(series) * 1.3 * LINE) / 2
    for at, (colour, one) in enumerate(zip(itertools.cycle(COLOURS), series)):
        y = top + (at + 0.5) * 1.3 * LINE
        box.swatch(side + 0.3, y, colour)
        box.text(side + 0.46, y, one.name)
        box.text(box.width - 0.6, y, told(latest(one), panel["fieldConfig"]["defaults"]["unit"]), ha="right")
        box.text(box.width - 0.15, y, f"{latest(one) / sum(values):.1%}", ha="right")


def bars(box, panel, series, _):
    defaults = panel["fieldConfig"]["defaults"]
    series = sorted(series, key=latest, reverse=True)
    names = max(measured(one.name) for one in series) + 0.25
    room, high = box.width - names - 0.6, max(latest(series[0]), 1e-9)
    each = min((box.height - HEAD - 0.1) / len(series), 0.3)
    for at, one in enumerate(series):
        y, length = HEAD + (at + 0.5) * each, latest(one) / high * room
        box.text(names - 0.1, y, one.name, ha="right")
        box.swatch(names, y, "#eeeeee", room, each * 0.7)
        box.swatch(names, y, coloured(latest(one), defaults), length, each * 0.7)
        box.text(box.width - 0.1, y, told(latest(one), defaults["unit"]), ha="right")


def table(box, panel, series, _):
    hidden = {name for t in panel.get("transformations", []) for name in t["options"]["excludeByName"]}
    columns = sorted({name for one in series for name in one.labels} - hidden)
    rows = [columns, *([one.labels.get(c, "") for c in columns] for one in series)]
    for at, row in enumerate(rows[: int((box.height - HEAD) / (1.3 * LINE))]):
        for column, words in enumerate(row):
            weight = "bold" if at == 0 else "normal"
            x = 0.1 + column * (box.width - 0.2) / len(columns)
            box.text(x, HEAD + (at + 0.5) * 1.3 * LINE, words, weight=weight)


def text(box, panel):
    rows = [""]
    for word in panel["options"]["content"].replace("`", "").split():
        longer = f"{rows[-1]} {word}".strip()
        rows = [*rows[:-1], longer] if measured(longer, NORMAL) < box.width - 0.2 else [*rows, word]
    for at, row in enumerate(rows):
        box.text(0.1, HEAD + (at + 0.5) * 1.1 * LINE, row, size=NORMAL)


KINDS = {"timeseries": lines, "stat": stat, "gauge": gauge, "piechart": pie, "bargauge": bars, "table": table}




def latest(series):
    return series.values[np.isfinite(series.values)][-1]


def coloured(value, defaults):
    steps = defaults.get("thresholds", {}).get("steps", [{"color": "green", "value": None}])
    return STEPS[[s["color"] for s in steps if s["value"] is None or value >= s["value"]][-1]]


def scale(value, unit):
    return [s for s in SCALES[unit] if abs(value) >= s[0] * 0.9995 or s == SCALES[unit][0]][-1]


def told(value, unit):
    size, suffix = scale(value, unit) if value else (1, SCALES[unit][len(SCALES[unit]) // 2 if unit == "s" else 0][1])
    value = value / size
    return f"{value:.0f}{suffix}" if abs(value) >= 100 else f"{value:.3g}{suffix}"


def measured(words, size=SMALL):
    return text_to_path.get_text_width_height_descent(words, FontProperties(size=size), False)[0] / 72
