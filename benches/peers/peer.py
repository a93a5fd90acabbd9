"""One peer, in a process of its own: `peer.py TOOL INPUT OUTPUT`. Run by run.py, in its virtual environment."""

import csv
import json
import pathlib
import sys
import tempfile
import types


def imagededup(files, out):
    """Pairs of files whose pHash differs by at most 10 bits."""
    for name in ["torch", "torch.utils", "torch.utils.data", "torchvision", "torchvision.transforms"]:
        sys.modules[name] = Anything(name)  # only its CNN uses them
    from imagededup.methods import PHash

    hasher = PHash()
    hashes = hasher.encode_images(image_dir=files, num_enc_workers=0)
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=10, scores=True, num_dist_workers=0)
    write(out, [[a, b, distance] for a, others in found.items() for b, distance in others])


class Anything(types.ModuleType):
    """A module that has whatever is asked of it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def fastdup(files, out):
    """Pairs of files whose vectors have a cosine of at least .93."""
    import fastdup

    with tempfile.TemporaryDirectory() as work:
        run = fastdup.create(work_dir=work, input_dir=files)
        run.run(ccthreshold=0.93, threshold=0.93, num_threads=1, overwrite=True, print_summary=False)
        pairs = run.similarity()
    name = lambda path: pathlib.Path(path).name
    write(out, [[name(r.filename_from), name(r.filename_to), 1 - float(r.distance)] for r in pairs.itertuples()])


def cleanvision(files, out):
    """Files that are called blurry, dark or too light."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=files)
    lab.find_issues({"blurry": {}, "dark": {}, "light": {}}, n_jobs=1, verbose=False)
    kinds = {"blur": "is_blurry_issue", "dark": "is_dark_issue", "bright": "is_light_issue"}
    said = {kind: [pathlib.Path(i).name for i in lab.issues.index[lab.issues[column]]] for kind, column in kinds.items()}
    write(out, said)


def cleanlab(export, out):
    """Files whose label is called wrong, by self-confidence of a cross-validated probe on the vectors."""
    import numpy
    import pyarrow.parquet
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    rows = []
    for path in sorted(pathlib.Path(export).rglob("*.parquet")):
        if path.name in ("manifest.parquet", "held.parquet"):
            rows += pyarrow.parquet.read_table(path).to_pylist()
    vectors = numpy.array([row["vector"] for row in rows], dtype=numpy.float32)
    names, given = numpy.unique([label_of(row) for row in rows], return_inverse=True)
    chances = cross_val_predict(LogisticRegression(max_iter=400), vectors, given, cv=5, method="predict_proba", n_jobs=1)
    issues = find_label_issues(given, chances, n_jobs=1)
    sources = [row["source"] for row in rows]
    write(out, {"judged": sources, "held": [s for s, wrong in zip(sources, issues) if wrong]})


def label_of(row):
    label = row.get("labels", row.get("label"))
    return label[0] if isinstance(label, list) else label


def degrade(plain, out, originals):
    """Writes the originals, a quarter of them each blurred, darkened, brightened and as they are, and the truth."""
    from PIL import Image, ImageFilter

    change = {
        "blur": lambda p: p.filter(ImageFilter.GaussianBlur(max(p.size) / 100)),
        "dark": lambda p: p.point(lambda v: v * 0.15),
        "bright": lambda p: p.point(lambda v: min(255, 180 + v * 0.4)),
    }
    out = pathlib.Path(out)
    (out / "crowd").mkdir(parents=True, exist_ok=True)
    with open(out / "labels.csv", "w") as labels, open(out / "truth.csv", "w") as truth:
        labels, truth = csv.writer(labels), csv.writer(truth)
        labels.writerow(["file", "label"])
        truth.writerow(["source", "edit"])
        for n, source in enumerate(originals.split(",")):
            kind = ["", *change][n % 4]
            picture = Image.open(pathlib.Path(plain) / source).convert("RGB")
            name = f"crowd/{n:06}.jpg"
            (change[kind](picture) if kind else picture).save(out / name, quality=90)
            labels.writerow([name, "photo"])
            truth.writerow([name, kind])


def write(out, value):
    pathlib.Path(out).write_text(json.dumps(value))


if __name__ == "__main__":
    {"imagededup": imagededup, "fastdup": fastdup, "cleanvision": cleanvision, "cleanlab": cleanlab, "degrade": degrade}[
        sys.argv[1]
    ](*sys.argv[2:])
