"""The four parts of the comparison. Each takes a `Bench` and yields rows of the table; one row a tool and setting."""

import csv
import json
import pathlib
import shutil
import statistics
import subprocess
from dataclasses import dataclass, field

import environments
import scores
from measure import measured

HERE = pathlib.Path(__file__).resolve().parent

# Tool of the table: function of peer.py, environment, what it is run with.
PEERS = {
    "floor": ("floor", "floor", "grey decode to at least 256 pixels, blur, percentiles, entropy"),
    "imagededup": ("imagededup", "imagededup", "pHash"),
    "fastdup": ("fastdup", "fastdup", "nearest 2 (default)"),
    "fastdup k=5": ("fastdup_five", "fastdup", "nearest 5"),
    "cleanvision": ("cleanvision", "cleanvision", "all checks (default)"),
    "cleanvision rules": ("cleanvision_rules", "cleanvision", "blurry, dark, light, low information only"),
    "FiftyOne": ("fiftyone", "fiftyone", "vectors of EfficientNet-Lite0 fp32, their CPU included"),
    "Data-Juicer": ("data_juicer", "data-juicer", "image_deduplicator, pHash (default)"),
    "cleanlab": ("cleanlab", "cleanlab", "5-fold linear probe on EfficientNet-Lite0 fp32, CPU of the vectors included"),
}
WITH_MODEL = {"FiftyOne", "cleanlab"}


@dataclass
class Bench:
    """What the parts share."""

    dih: pathlib.Path
    photos: list
    out: pathlib.Path
    model: pathlib.Path
    tools: set  # those to run
    uploads: int = 3000
    rounds: int = 1
    seed: int = 1
    notes: dict = field(default_factory=dict)  # tool: why it did not run
    curves: dict = field(default_factory=dict)  # tool: [limit, recall, precision] of the repeats

    @property
    def log(self):
        return self.out / "log.txt"

    def peer(self, tool, files):
        """Runs a peer on a folder; what it said and what it cost. None where it cannot be installed or fails."""
        function, environment, _ = PEERS[tool]
        said = self.out / "said.json"
        model = [self.model] if tool in WITH_MODEL else []
        try:
            python = environments.python(self.out, environment)
            used = measured([python, HERE / "peer.py", function, files, said, *model], self.log)
        except environments.Missing as why:
            self.notes[tool] = str(why)
        except subprocess.CalledProcessError as error:
            self.notes[tool] = f"ended with {error.returncode}: {last_line(self.log)}"
        else:
            return json.loads(said.read_text()), used
        return None

    def make(self, function, environment, *args):
        """Makes files by a function of peer.py that is no tool."""
        measured([environments.python(self.out, environment), HERE / "peer.py", function, *args], self.log)

    def call(self, *args, home=None):
        """Runs `dih`, not measured; the lines of JSON it says."""
        call = [self.dih, *args, "--home", home or self.out / "home", "--json"]
        done = subprocess.run(list(map(str, call)), check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stream(self, files, home, stages=(), labels=None):
        """Sends a folder to `dih` and runs its stages; what the sending, and what the stages cost."""
        shutil.rmtree(home, ignore_errors=True)
        labels = ["--labels", labels] if labels else []
        sending = measured([self.dih, "import", files, *labels, "--home", home], self.log)
        return sending, measured([self.dih, "run", "--until-idle", *stages, "--home", home], self.log)


def last_line(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:160]


def read(path):
    with open(path) as rows:
        return list(csv.DictReader(rows))


def row(part, tool, setting, used=None, what="", **more):
    kept = {key: used[key] for key in ["cpu_s", "peak_mib"]} if used else {}
    return {"part": part, "tool": tool, "setting": setting, "what": what, **kept, **more}


# --- repeats

# Distances that a peer's pairs are cut at: as it comes, as documented elsewhere, and every one to find the best. FiftyOne's
# are of Euclid, between vectors of length 1: .2 is a cosine of .98, .4 one of .92.
BITS = [0, 2, 4, 6, 8, 10, 12, 14, 16]
COSINES = [round(n / 200, 3) for n in range(0, 31)]
LENGTHS = [round(n / 50, 2) for n in range(0, 41)]
SETTINGS = {
    "imagededup": ({"at most 10 bits (default)": 10}, BITS),
    "fastdup": ({"cosine >= .90 (default)": 0.10, "cosine >= .93": 0.07}, COSINES),
    "fastdup k=5": ({"cosine >= .90, nearest 5": 0.10, "cosine >= .93, nearest 5": 0.07}, COSINES),
    "FiftyOne": ({"distance <= .2 (default)": 0.2, "distance <= .4": 0.4}, LENGTHS),
    "cleanvision": ({"near and exact duplicates (default)": 0}, []),
    "Data-Juicer": ({"equal pHash (default)": 0}, []),
}


def uploads(bench):
    """Originals and edited copies, made once; the truth about them in the order of arrival."""
    files = bench.out / f"repeats-{bench.uploads}-{bench.seed}"
    if not (files / "truth.csv").exists():
        shutil.rmtree(files, ignore_errors=True)
        bench.call("bench", "repeats", *bench.photos, "--uploads", bench.uploads, "--copies", 2, "--seed", bench.seed,
                   "--write", files)
    return files, read(files / "truth.csv")


def repeats(bench):
    files, truth = uploads(bench)
    order = {row["source"]: n for n, row in enumerate(truth)}
    if "dih" in bench.tools:
        home = bench.out / "home-repeats"
        _, used = bench.stream(files, home)
        verdicts = bench.call("verdicts", home=home)
        said = {v["source"]: v["of_source"] for v in verdicts if v["verdict"] == "duplicate"}
        score = scores.repeats(said, truth)
        bench.curves["dih"] = [["default", score["all"]["recall"], score["all"]["precision"]]]
        yield from rows_of_repeats("dih", "default", used, score)
    for tool, (settings, limits) in SETTINGS.items():
        if tool not in bench.tools or not (ran := bench.peer(tool, files / "crowd")):
            continue
        pairs = [[f"crowd/{a}", f"crowd/{b}", distance] for a, b, distance in ran[0]["pairs"]]
        at = lambda limit: scores.repeats(scores.repeats_said(pairs, limit, order), truth)
        for setting, limit in settings.items():
            yield from rows_of_repeats(tool, setting, ran[1], at(limit))
        if limits:
            (limit, _), curve = scores.best_limit(limits, lambda limit: at(limit)["all"])
            bench.curves[tool] = [[limit, score["recall"], score["precision"]] for limit, score in curve]
            yield from rows_of_repeats(tool, f"best F1 in hindsight (distance <= {limit})", ran[1], at(limit))


def rows_of_repeats(tool, setting, used, score):
    originals = score.pop("originals")
    score["all"]["originals_wrong"] = f"{originals['wrong']} of {originals['of']}"
    yield row("repeats", tool, setting, used, "all", **score.pop("all"))
    for edit in sorted(score):
        yield row("repeats", tool, setting, None, edit, **score[edit])


# --- quality

REASONS = {"blur": {"blurred"}, "dark": {"too_dark"}, "bright": {"overexposed"}, "empty": {"low_information"}}
KINDS = ["blur", "dark", "bright"]


def quality(bench):
    plain, truth = uploads(bench)
    files = bench.out / f"quality-{bench.uploads}-{bench.seed}"
    if not (files / "truth.csv").exists():
        bench.make("degrade", "floor", plain, files, listed(bench, [r["source"] for r in truth if not r["edit"]]))
    truth = read(files / "truth.csv")
    if "dih" in bench.tools:
        home = bench.out / "home-quality"
        _, used = bench.stream(files, home)
        rejected = [v for v in bench.call("verdicts", home=home) if v["verdict"] == "rejected"]
        said = {kind: {v["source"] for v in rejected if v["reason"] in reasons} for kind, reasons in REASONS.items()}
        yield from rows_of_quality("dih", "default", used, said, truth)
    for tool in ["cleanvision", "cleanvision rules"]:
        if tool not in bench.tools or not (ran := bench.peer(tool, files / "crowd")):
            continue
        flags = ran[0]["flagged"]
        said = {kind: {f"crowd/{name}" for name, (flag, _) in flags[kind].items() if flag} for kind in flags}
        yield from rows_of_quality(tool, PEERS[tool][2], ran[1], said, truth)
        if tool == "cleanvision":
            said = {kind: best_flags(flags[kind], kind, truth) for kind in KINDS}
            yield from rows_of_quality(tool, "each threshold best in hindsight", None, said, truth)


def rows_of_quality(tool, setting, used, said, truth):
    """By kind: photos with this damage and untouched ones, flagged for it. Whether others are, too, is not asked."""
    names = lambda *edits: {r["source"] for r in truth if r["edit"] in edits}
    every = set().union(*said.values())
    yield row("quality", tool, setting, used, "any damage", **scores.flagged(every, names(*KINDS), names("", *KINDS)))
    for kind in KINDS:
        yield row("quality", tool, setting, None, kind, **scores.flagged(said[kind], names(kind), names("", kind)))


def best_flags(flags, kind, truth):
    """The files below the score with the best F1 against untouched photos."""
    wanted = {r["source"] for r in truth if r["edit"] == kind}
    judged = wanted | {r["source"] for r in truth if not r["edit"]}
    below = lambda limit: {f"crowd/{name}" for name, (_, score) in flags.items() if score <= limit}
    limits = sorted({score for _, score in flags.values()})[:: max(len(flags) // 200, 1)]
    (limit, _), _ = scores.best_limit(limits, lambda limit: scores.flagged(below(limit), wanted, judged))
    return below(limit)


def listed(bench, sources):
    path = bench.out / "sources.json"
    path.write_text(json.dumps(sources))
    return path


# --- labels


def labels(bench):
    """The first folder of photos holds one folder a label; a tenth of the labels are made wrong."""
    files = bench.out / "labels"
    if not (files / "uniform" / "truth.csv").exists():
        bench.make("flips", "cleanlab", labelled(bench.photos[0]), files, bench.model)
    for kind in ["uniform", "confusable"]:
        yield from labels_of(bench, kind, files / kind)


def labelled(folder):
    """The folder itself, or the one below it whose folders are labels: the training part where there is one."""
    return folder / "train" if (folder / "train").is_dir() else folder


def labels_of(bench, kind, files):
    photos, truth = files / "photos", read(files / "truth.csv")
    if not photos.exists():
        photos.symlink_to(labelled(bench.photos[0]).resolve(), target_is_directory=True)
    wrong = {r["source"] for r in truth if r["label"] != r["true_label"]}
    judged, what = {r["source"] for r in truth}, f"10 % {kind} flips"
    both = files / "judged.json"  # photos that dih neither refused nor called a repeat: what both tools are scored on
    if "dih" in bench.tools:
        home = bench.out / f"home-labels-{kind}"
        _, used = bench.stream(labelled(bench.photos[0]), home, labels=files / "labels.csv")
        bench.call("datasets", "create", "peers", "--no-shards", home=home)
        cut = measured([bench.dih, "datasets", "cut", "peers", "--home", home], bench.log)
        used = {"cpu_s": round(used["cpu_s"] + cut["cpu_s"], 2), "peak_mib": max(used["peak_mib"], cut["peak_mib"])}
        verdicts = bench.call("verdicts", home=home)
        held = {v["source"] for v in verdicts if v["verdict"] == "held"}
        judged = {v["source"] for v in verdicts if v["verdict"] in ("curated", "held")}
        both.write_text(json.dumps(sorted(judged)))
        setting = f"default; the cut alone {cut['cpu_s']} s"
        yield row("labels", "dih", setting, used, what, **scores.flagged(held, wrong, judged))
    elif both.exists():
        judged = set(json.loads(both.read_text()))
    if "cleanlab" not in bench.tools or not (ran := bench.peer("cleanlab", files)):
        return
    held, suspect = ran[0]["held"], sorted(ran[0]["quality"], key=ran[0]["quality"].get)
    scored = {by: scores.flagged(set(said), wrong, judged) for by, said in held.items()}
    ranked = scores.average_precision([s for s in suspect if s in judged], wrong)
    yield row("labels", "cleanlab", "prune_by_noise_rate (default)", ran[1], what, **scored["prune_by_noise_rate"],
              average_precision=ranked)
    best = max(scored, key=lambda by: scored[by]["f1"])
    yield row("labels", "cleanlab", f"{best}: best of its filters in hindsight", None, what, **scored[best])
    (count, score), _ = scores.best_limit(range(1, len(suspect), 5),
                                          lambda n: scores.flagged(set(suspect[:n]), wrong, judged))
    yield row("labels", "cleanlab", f"lowest {count} self-confidences: best cut in hindsight", None, what, **score)


# --- cost


COST_TOOLS = ["floor", "imagededup", "Data-Juicer", "cleanvision rules", "cleanvision", "fastdup", "FiftyOne"]
LARGE_TOOLS = ["floor", "cleanvision rules", "cleanvision", "fastdup"]
TAKING = ["ingest", "dedupe"]
SETTING_OF_DIH = {"dih ingest + dedupe": "no model; the rules of verify cannot be run apart", "dih": "all stages"}
FEW = 4  # files of the run that tells what the start costs


def cost(bench):
    """Every photo as it is, each tool on a few of them first: so much is the start. Also for 12 megapixels."""
    every = bench.out / "plain"
    if not (every / "labels.csv").exists():
        gather(bench.photos, every)
    yield from cost_of(bench, "cost", every, COST_TOOLS)
    large = bench.out / "large"
    if not (large / "labels.csv").exists():
        sources = [r["file"] for r in read(every / "labels.csv")]
        bench.make("large", "floor", every, large, listed(bench, sources))
    yield from cost_of(bench, "cost, 12 MP", large, LARGE_TOOLS)


def gather(folders, to):
    """All photos in one folder, for no peer looks into several."""
    (to / "crowd").mkdir(parents=True, exist_ok=True)
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    names = [f"crowd/{n:06}.jpg" for n in range(len(found))]
    for path, name in zip(found, names):
        shutil.copyfile(path, to / name)
    (to / "labels.csv").write_text("file,label\n" + "".join(f"{name},photo\n" for name in names))


def cost_of(bench, part, files, tools):
    """Medians over the rounds; in a round the tools take turns, so that what else the machine does hits all alike."""
    few, count = bench.out / f"few-{files.name}", len(read(files / "labels.csv"))
    if not few.exists():
        subset(files, few, FEW)
    ways = {tool: peer_runs(bench, tool) for tool in tools if tool in bench.tools}
    if "dih" in bench.tools:
        ways |= {"dih ingest + dedupe": dih_runs(bench, TAKING), "dih": dih_runs(bench, [])}
    start, runs = {}, {tool: [] for tool in ways}
    for tool, way in ways.items():
        # Twice, for the first run compiles what it imports.
        start[tool] = ((way(few) and way(few)) or {}).get("cpu_s")
    for _ in range(bench.rounds):
        for tool in [tool for tool in ways if start[tool] is not None and None not in runs[tool]]:
            runs[tool].append(ways[tool](files))
    for tool, used in runs.items():
        if used and None not in used:
            yield cost_row(part, tool, start[tool], used, count)


def cost_row(part, tool, start, runs, count):
    setting = SETTING_OF_DIH[tool] if tool in SETTING_OF_DIH else PEERS[tool][2]
    middle = lambda key: round(statistics.median(used[key] for used in runs), 2)
    used = {"cpu_s": middle("cpu_s"), "peak_mib": middle("peak_mib")}
    each = 1000 * (used["cpu_s"] - start) / (count - FEW)
    more = {"broker_s": middle("behind_s")} if tool in SETTING_OF_DIH else {}
    spread = f"{min(used['cpu_s'] for used in runs)} to {max(used['cpu_s'] for used in runs)}"
    return row(part, tool, setting, used, files=count, start_s=start, ms_each=round(each, 3), spread=spread, **more)


def peer_runs(bench, tool):
    return lambda files: (bench.peer(tool, files / "crowd") or [None, None])[1]


def dih_runs(bench, stages):
    return lambda files: bench.stream(files, bench.out / "home-cost", stages)[1]


def subset(files, to, count):
    (to / "crowd").mkdir(parents=True)
    rows = read(files / "labels.csv")[:count]
    for entry in rows:
        shutil.copyfile(files / entry["file"], to / entry["file"])
    (to / "labels.csv").write_text("file,label\n" + "".join(f"{entry['file']},photo\n" for entry in rows))
