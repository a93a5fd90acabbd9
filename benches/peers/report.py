"""Writes the table (Markdown and JSON) and two plots (SVG, no library). Pure, but for writing the files."""

import json

SCORE = ["recall", "precision", "f1", "of", "wrong"]
COLUMNS = {
    "repeats": ["tool", "setting", "what", *SCORE, "originals_wrong", "cpu_s", "peak_mib"],
    "quality": ["tool", "setting", "what", *SCORE, "cpu_s", "peak_mib"],
    "labels": ["tool", "setting", "what", *SCORE, "average_precision", "cpu_s", "peak_mib"],
    "cost": ["tool", "setting", "files", "cpu_s", "spread", "start_s", "broker_s", "ms_each", "over_floor", "of_fastdup",
             "peak_mib"],
}
HEADS = {
    "what": "of what", "of": "true ones", "wrong": "false alarms", "originals_wrong": "originals called repeats",
    "cpu_s": "CPU-s", "peak_mib": "peak MiB", "average_precision": "average precision", "spread": "CPU-s, least to most",
    "start_s": "start CPU-s", "broker_s": "of it broker", "ms_each": "CPU-ms a file without the start",
    "over_floor": "x floor", "of_fastdup": "x fastdup", "f1": "F1",
}


def write(out, rows, notes, curves, header):
    ratios(rows)
    table = {"header": header, "rows": rows, "not run": notes, "curves": curves}
    (out / "table.json").write_text(json.dumps(table, indent=1))
    text = markdown(rows, notes, header)
    (out / "table.md").write_text(text)
    if curves:
        (out / "peers-repeats.svg").write_text(precision_over_recall(curves))
    cost = [r for r in rows if r["part"] == "cost"]
    if cost:
        (out / "peers-cost.svg").write_text(bars(cost, [r for r in rows if r["part"] == "cost, 12 MP"]))
    return text


def ratios(rows):
    """Cost a file as a multiple of the floor and of fastdup, where these ran in the same run."""
    for part in {r["part"] for r in rows if r["part"].startswith("cost")}:
        of = {r["tool"]: r for r in rows if r["part"] == part}
        for row in of.values():
            for key, base in {"over_floor": "floor", "of_fastdup": "fastdup"}.items():
                row.pop(key, None)
                if base in of and of[base]["run"] == row["run"]:
                    row[key] = round(row["ms_each"] / of[base]["ms_each"], 2)


def markdown(rows, notes, header):
    lines = [header, ""]
    runs = {r["run"] for r in rows}
    for part in ["repeats", "quality", "labels", "cost", "cost, 12 MP"]:
        own = [r for r in rows if r["part"] == part]
        if own:
            columns = [c for c in COLUMNS[part.split(",")[0]] if any(r.get(c) not in (None, "") for r in own)]
            lines += [f"**{part}**", "", line(HEADS.get(c, c) for c in columns), line("---" for _ in columns)]
            for r in own:
                late = " (earlier run)" if len(runs) > 1 and r["run"] != max(runs) else ""
                lines.append(line(shown(r.get(c)) + (late if c == "tool" else "") for c in columns))
            lines.append("")
    if notes:
        lines += ["**not run**", "", line(["tool", "reason"]), line(["---", "---"])]
        lines += [line([tool, why.replace("|", "/")]) for tool, why in sorted(notes.items())] + [""]
    return "\n".join(lines)


def line(cells):
    return "| " + " | ".join(cells) + " |"


def shown(value):
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


# --- plots

COLOURS = ["#1b6ca8", "#c8553d", "#3c8d53", "#8a5a9e", "#b8860b", "#5f6b73", "#d46a9f"]
STYLE = '<style>text{font:12px sans-serif;fill:#333}.axis{stroke:#999}.grid{stroke:#ddd}</style>'


def precision_over_recall(curves):
    """One line a peer over all its limits, one point for what has a single setting."""
    left, top, width, height, low = 60, 20, 420, 320, 0.5
    x = lambda recall: left + width * (max(recall, low) - low) / (1 - low)
    y = lambda precision: top + height * (1 - (max(precision, low) - low) / (1 - low))
    parts = []
    for n in range(6):
        at = low + n * (1 - low) / 5
        parts.append(f'<line class="grid" x1="{x(at):.0f}" y1="{top}" x2="{x(at):.0f}" y2="{top + height}"/>'
                     f'<line class="grid" x1="{left}" y1="{y(at):.0f}" x2="{left + width}" y2="{y(at):.0f}"/>'
                     f'<text x="{x(at) - 8:.0f}" y="{top + height + 18}">{at:.1f}</text>'
                     f'<text x="{left - 30}" y="{y(at) + 4:.0f}">{at:.1f}</text>')
    for n, (tool, curve) in enumerate(sorted(curves.items())):
        colour, points = COLOURS[n % len(COLOURS)], sorted((r, p) for _, r, p in curve if r >= low and p >= low)
        path = " ".join(f"{x(r):.1f},{y(p):.1f}" for r, p in points)
        if len(points) > 1:
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(p):.1f}" r="{5 if len(points) == 1 else 2.5}" fill="{colour}"/>'
                  for r, p in points]
        parts.append(f'<rect x="{left + 14}" y="{top + height - 24 - 18 * n}" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{left + 32}" y="{top + height - 14 - 18 * n}">{tool}</text>')
    parts.append(f'<text x="{left + width / 2 - 90:.0f}" y="{top + height + 38}">recall of edited copies, all edits</text>'
                 f'<text transform="translate(16,{top + height / 2 + 30:.0f}) rotate(-90)">precision</text>')
    return svg(left + width + 20, top + height + 50, parts)


def bars(small, large):
    """CPU milliseconds a file."""
    left, width, high, parts, at = 160, 360, 22, [], 30
    for title, rows in {"photos as they are": small, "12 megapixels": large}.items():
        if not rows:
            continue
        rows = sorted((r for r in rows if r["ms_each"] > 0), key=lambda r: r["ms_each"])
        parts.append(f'<text x="10" y="{at - 8}" font-weight="bold">CPU-ms a file, {title}</text>')
        most = rows[-1]["ms_each"]
        for r in rows:
            long = width * r["ms_each"] / most
            colour = COLOURS[0] if r["tool"].startswith("dih") else COLOURS[5]
            parts.append(f'<text x="10" y="{at + 15}">{r["tool"]}</text>'
                         f'<rect x="{left}" y="{at + 3}" width="{long:.0f}" height="16" fill="{colour}"/>'
                         f'<text x="{left + long + 6:.0f}" y="{at + 15}">{shown(float(r["ms_each"]))}</text>')
            at += high
        at += 40
    return svg(left + width + 80, at - 20, parts)


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} '
            f'{height:.0f}">{STYLE}<rect width="100%" height="100%" fill="white"/>' + "\n".join(parts) + "</svg>\n")
