#!/usr/bin/env python3
"""Runs peers and `dih` on the same files and writes one table. See README.md beside this file; needs Python 3.11."""

import argparse
import csv
import ctypes
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ONE_THREAD = {name: "1" for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"]}
NOT_RUN = {
    "imagededup CNN": "needs torch, several hundred MB",
    "FiftyOne": "needs a database server and a torch model zoo",
    "NeMo Curator": "its image part needs a GPU",
    "Data-Juicer": "its image deduplicator finds equal hashes only",
    "LightlyStudio": "has no repeat or label check to call from a script",
}


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("photos", nargs="+", type=pathlib.Path, help="folders of photos")
    parse.add_argument("--dih", type=pathlib.Path, required=True, help="the `dih` program")
    parse.add_argument("--out", type=pathlib.Path, required=True, help="a new folder for files, environment and table")
    parse.add_argument("--uploads", type=int, default=2000, help="originals and copies together")
    parse.add_argument("--seed", type=int, default=1)
    args = parse.parse_args()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a peer leaves behind is counted with it
    args.out.mkdir(parents=True, exist_ok=True)
    args.dih = args.dih.resolve()
    python, missing = environment(args.out / "venv")
    rows = []
    for part in [repeats, quality, labels]:
        try:
            rows += part(args, python, missing)
        except subprocess.CalledProcessError as error:
            rows.append({"part": part.__name__, "tool": "all", "error": f"{error.cmd[0]} ended with {error.returncode}"})
    rows += [{"part": "-", "tool": tool, "error": why} for tool, why in {**NOT_RUN, **missing}.items()]
    (args.out / "table.json").write_text(json.dumps(rows, indent=1))
    (args.out / "table.md").write_text(table(rows))
    print(table(rows))


def environment(folder):
    """A virtual environment with all peers that can be installed; the others, with the error's first line."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    missing = {}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, what = line.split(":", 1)
        install = [python, "-m", "pip", "install", "--quiet", "--no-input", "--prefer-binary", *what.split()]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["?"]
            missing[name] = f"not installed: {lines[0]}"
    return python, missing


def measured(command, **env):
    """Runs to the end; CPU seconds of the tree, MiB of its largest process, wall seconds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    log = open(os.devnull, "w") if not os.environ.get("PEERS_LOG") else open(os.environ["PEERS_LOG"], "a")
    child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, env={**os.environ, **ONE_THREAD, **env})
    peak, code = 0, None
    while True:  # the child, and whatever it left behind
        try:
            pid, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            break
        peak = max(peak, used.ru_maxrss)
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    if code:
        raise subprocess.CalledProcessError(code, [str(c) for c in command])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(cpu, 2), "peak_mib": round(peak / 1024), "seconds": round(time.monotonic() - begun, 1)}


def tried(part, tool, work):
    """A row, or rows, of a tool; an error becomes a row that names it."""
    try:
        return work()
    except (subprocess.CalledProcessError, OSError, ValueError, KeyError) as error:
        return [{"part": part, "tool": tool, "error": str(error).splitlines()[0]}]


def dih(args, home, *command, json_lines=False):
    call = [str(args.dih), *map(str, command), "--home", str(home)] + (["--json"] if json_lines else [])
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()] if json_lines else None


def stream(args, files, home):
    """Imports a folder and runs all stages; what that cost, and the verdicts."""
    script = f'"{args.dih}" import "{files}" --home "{home}" && "{args.dih}" run --until-idle --home "{home}"'
    used = measured(["sh", "-c", script])
    return used, dih(args, home, "verdicts", json_lines=True)


def truth(files):
    with open(files / "truth.csv") as rows:
        return list(csv.DictReader(rows))


# --- repeats


def repeats(args, python, missing):
    files = args.out / "repeats"
    if not (files / "truth.csv").exists():
        dih(args, args.out / "scratch", "bench", "repeats", *args.photos, "--uploads", args.uploads, "--seed", args.seed,
            "--write", files)
    rows = truth(files)

    def own():
        used, verdicts = stream(args, files, args.out / "home-repeats")
        said = {v["source"]: v["of_source"] for v in verdicts if v["verdict"] == "duplicate"}
        return scored_repeats("dih", "default", used, said, rows)

    def peer(tool, setting):
        out = args.out / f"{tool}.json"
        used = measured([python, HERE / "peer.py", tool, files / "crowd", out])
        return scored_repeats(tool, setting, used, decided(json.loads(out.read_text()), rows), rows)

    scored = tried("repeats", "dih", own)
    for tool, setting in {"imagededup": "pHash, <= 10 bits", "fastdup": "cosine >= .93"}.items():
        if tool not in missing:
            scored += tried("repeats", tool, lambda tool=tool, setting=setting: peer(tool, setting))
    return scored


def decided(pairs, rows):
    """The nearest earlier file that each is paired with: `pairs` are file, file, distance."""
    place = {row["source"]: n for n, row in enumerate(rows)}
    best = {}
    for a, b, distance in pairs:
        a, b = f"crowd/{a}", f"crowd/{b}"
        later, earlier = (a, b) if place[a] > place[b] else (b, a)
        if a != b and (later not in best or distance < best[later][0]):
            best[later] = (distance, earlier)
    return {later: earlier for later, (_, earlier) in best.items()}


def scored_repeats(tool, setting, used, said, rows):
    place = {row["source"]: n for n, row in enumerate(rows)}
    group = {row["source"]: row["of_source"] or row["source"] for row in rows}
    counts = {}
    for n, row in enumerate(rows):
        name, of = row["source"], said.get(row["source"])
        count = counts.setdefault(row["edit"] or "original", [0, 0, 0])  # of, right, wrong
        right = of is not None and place[of] < n and group[of] == group[name]
        count[0] += 1
        count[1] += right
        count[2] += of is not None and not right
    original = counts.pop("original")
    scored = [{"part": "repeats", "tool": tool, "setting": setting, "what": "all", **used,
               **rates(sum(c[1] for c in counts.values()), original[2] + sum(c[2] for c in counts.values()),
                       sum(c[0] for c in counts.values()))}]
    for edit, (of, right, wrong) in counts.items():
        scored.append({"part": "repeats", "tool": tool, "setting": setting, "what": edit, **rates(right, wrong, of)})
    scored.append({"part": "repeats", "tool": tool, "setting": setting, "what": "originals called duplicates",
                   "wrong": original[2], "of": original[0]})
    return scored


def rates(right, wrong, of):
    recall, precision = right / max(of, 1), right / max(right + wrong, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"recall": round(recall, 4), "precision": round(precision, 4), "f1": round(f1, 4), "of": of, "wrong": wrong}


# --- quality


def quality(args, python, missing):
    if "cleanvision" in missing:
        return []
    files, plain = args.out / "quality", args.out / "repeats"
    originals = [row["source"] for row in truth(plain) if not row["of_source"]]
    measured([python, HERE / "peer.py", "degrade", plain, files, ",".join(originals)])
    rows = truth(files)
    reasons = {"blur": {"blurred"}, "dark": {"too_dark"}, "bright": {"overexposed", "too_bright"}}

    def own():
        used, verdicts = stream(args, files, args.out / "home-quality")
        said = {v["source"]: v["reason"] for v in verdicts if v["verdict"] == "rejected"}
        return scored_quality("dih", used, {k: {s for s, r in said.items() if r in of} for k, of in reasons.items()}, rows)

    def peer():
        out = args.out / "cleanvision.json"
        used = measured([python, HERE / "peer.py", "cleanvision", files / "crowd", out])
        said = {kind: {f"crowd/{name}" for name in names} for kind, names in json.loads(out.read_text()).items()}
        return scored_quality("cleanvision", used, said, rows)

    return tried("quality", "dih", own) + tried("quality", "cleanvision", peer)


def scored_quality(tool, used, said, rows):
    scored = []
    for kind in ["blur", "dark", "bright"]:
        true = {row["source"] for row in rows if row["edit"] == kind}
        right = len(said[kind] & true)
        scored.append({"part": "quality", "tool": tool, "setting": "default", "what": kind, **(used if not scored else {}),
                       **rates(right, len(said[kind]) - right, len(true))})
    return scored


# --- labels


def labels(args, python, missing):
    folder = args.photos[0]
    files, home = args.out / "labels", args.out / "home-labels"
    if not (files / "truth.csv").exists():
        dih(args, args.out / "scratch", "simulate", folder, "--out", files, "--truth", files / "truth.csv", "--originals",
            "--wrong-labels", 0.1, "--repeats", 0, "--retransmissions", 0, "--broken", 0, "--uploads", args.uploads,
            "--seed", args.seed)
    wrong = {row["source"] for row in truth(files) if row["label"] != row["true_label"]}

    def scored(tool, setting, used, held, judged):
        right = len(held & wrong)
        return [{"part": "labels", "tool": tool, "setting": setting, "what": "wrong labels", **used,
                 **rates(right, len(held) - right, len(wrong & judged))}]

    def own():
        used, _ = stream(args, files, home)
        dih(args, home, "datasets", "create", "peers", "--no-shards")
        cut = measured([args.dih, "datasets", "cut", "peers", "--home", home])
        dih(args, home, "datasets", "export", "peers@1", "--format", "parquet", args.out / "labels-export")
        verdicts = dih(args, home, "verdicts", json_lines=True)
        judged = {v["source"] for v in verdicts if v["verdict"] in ("curated", "held")}
        held = {v["source"] for v in verdicts if v["verdict"] == "held"}
        setting = f"default; the cut alone {cut['cpu_s']} CPU-s"
        return scored("dih", setting, {**used, "cpu_s": round(used["cpu_s"] + cut["cpu_s"], 2)}, held, judged)

    def peer():
        out = args.out / "cleanlab.json"
        used = measured([python, HERE / "peer.py", "cleanlab", args.out / "labels-export", out])
        said = json.loads(out.read_text())
        return scored("cleanlab", "default, on dih's vectors (their cost apart)", used, set(said["held"]), set(said["judged"]))

    rows = tried("labels", "dih", own)
    return rows + (tried("labels", "cleanlab", peer) if "cleanlab" not in missing else [])


# --- the table

COLUMNS = ["part", "tool", "what", "recall", "precision", "f1", "of", "wrong", "cpu_s", "peak_mib", "setting"]


def table(rows):
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['part']} | {row['tool']} | {row['error']} |" + " |" * (len(COLUMNS) - 3))
        else:
            lines.append("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
