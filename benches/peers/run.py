#!/usr/bin/env python3
"""Runs peers and `dih` on the same files and writes one table. See README.md beside this file; needs Python 3.11."""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import time

import environments
import measure
import parts
import report

PARTS = {"repeats": parts.repeats, "quality": parts.quality, "labels": parts.labels, "cost": parts.cost}
CUDA = "needs torch, whose only wheel for Linux on PyPI brings CUDA, some GB; "
NOT_RUN = {
    "imagededup CNN": CUDA + "its weights are fetched from a hub",
    "FiftyOne's own model": CUDA + "its model zoo is fetched from a hub; the vectors are computed by ONNX Runtime instead",
    "NeMo Curator 1.4.0": CUDA + "its removal of repeated images runs on a GPU (extra `image-cuda12`: DALI, cuML)",
    "LightlyStudio 1.2.0": CUDA + "its model (MobileCLIP) is fetched when it first runs; from a script it gives each "
                           "photo's distance to a chosen set, no pairs of repeats",
    "dih verify without a model": "the rules cannot be run apart from the label's classifier, so `ingest + dedupe` stands "
                                  "for it: what the rules look at is measured there, comparing it costs next to nothing",
}


def main():
    args = arguments()
    measure.adopt_orphans()
    args.out.mkdir(parents=True, exist_ok=True)
    tools = set(args.tools.split(",")) if args.tools else {"dih", *parts.PEERS}
    unknown = tools - {"dih", *parts.PEERS}
    if unknown:
        raise SystemExit(f"no such tool: {', '.join(unknown)}; there are: dih, {', '.join(parts.PEERS)}")
    bench = parts.Bench(args.dih.resolve(), args.photos, args.out.resolve(), args.model.resolve(), tools,
                        args.uploads, args.rounds, args.seed)
    kept = earlier(args.out)
    bench.curves = kept["curves"]
    begun = time.strftime("%Y-%m-%d %H:%M")
    rows = []
    for name in args.parts.split(","):
        try:
            for row in PARTS[name](bench):
                rows.append({**row, "run": begun})
                print(f"{name}: {row['tool']}, {row['setting']} {row['what']}", flush=True)
        except (subprocess.CalledProcessError, environments.Missing) as error:
            bench.notes[f"part {name}"] = f"{error}: {parts.last_line(bench.log)}"
        # After each part, for the whole may take an hour.
        table = report.write(args.out, merged(kept["rows"], rows), notes(kept, bench), bench.curves, header(args, begun))
    print(table)


def merged(kept, rows):
    """The rows of this run, and those of tools that it left out, in the order of the table."""
    ran = {(row["part"], row["tool"]) for row in rows}
    order = ["dih", "dih ingest + dedupe", *parts.PEERS]
    place = lambda row: (row["part"], row["what"] if row["part"] == "labels" else "", order.index(row["tool"]))
    return sorted([row for row in kept if (row["part"], row["tool"]) not in ran] + rows, key=place)


def notes(kept, bench):
    before = {tool: why for tool, why in kept["not run"].items() if tool in parts.PEERS and tool not in bench.tools}
    return {**NOT_RUN, **before, **bench.notes}


def arguments():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("photos", nargs="+", type=pathlib.Path, help="folders of photos; the first has one folder a label")
    parse.add_argument("--dih", type=pathlib.Path, required=True, help="the `dih` program")
    parse.add_argument("--out", type=pathlib.Path, required=True, help="folder for environments, files and table; reused")
    parse.add_argument("--model", type=pathlib.Path, default=pathlib.Path(".tools/models/efficientnet-lite0.onnx"),
                       help="EfficientNet-Lite0 (fp32), which FiftyOne and cleanlab are given vectors of")
    parse.add_argument("--uploads", type=int, default=3000, help="files of the repeats part, a third of them originals")
    parse.add_argument("--rounds", type=int, default=3, help="of the cost part; medians are taken")
    parse.add_argument("--parts", default=",".join(PARTS), help="only these parts, separated by commas")
    parse.add_argument("--tools", default="", help="only these tools; the others' rows of the last table are kept")
    parse.add_argument("--seed", type=int, default=1)
    return parse.parse_args()


def earlier(out):
    path = out / "table.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": [], "not run": {}, "curves": {}}


def header(args, begun):
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (f"Run of {begun}, {cores} cores, {platform.machine()}, load at the end {load:.1f}; {args.uploads} uploads, "
            f"{args.rounds} rounds of cost. Versions: {versions()}.")


def versions():
    names = {"imagededup": "imagededup", "fastdup": "fastdup", "cleanvision": "cleanvision", "fiftyone": "fiftyone",
             "cleanlab": "cleanlab", "data-juicer": "py-data-juicer"}
    found = []
    for lock, package in names.items():
        lines = (environments.LOCKS / f"{lock}.txt").read_text().splitlines()
        found += [line.split(" ")[0].replace("==", " ") for line in lines if line.startswith(f"{package}==")]
    return ", ".join(found)


if __name__ == "__main__":
    main()
