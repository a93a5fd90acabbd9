"""One peer, in a process and an environment of its own: `peer.py TOOL FILES OUT [MODEL]`. Run by run.py.

Takes a folder of files. Writes what the tool says as JSON: `pairs` of files with a distance, or `flagged` files with a
score, or what `labels` are doubted. Nothing is scored here; each tool is called as its documentation says.
"""

import contextlib
import csv
import importlib.abc
import importlib.machinery
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import types


def floor(files, out):
    """No tool: the least that quality rules can cost. Grey decode of at least 256 pixels, and four measures of it."""
    import cv2
    import numpy
    import simplejpeg

    cv2.setNumThreads(1)
    measured = 0
    for path in photos(files):
        grey = simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", fastdct=True, min_width=256, min_height=256)[:, :, 0]
        share = numpy.bincount(grey.ravel(), minlength=256) / grey.size
        blur = cv2.Laplacian(grey, cv2.CV_32F).var()
        percentiles = numpy.searchsorted(numpy.cumsum(share), [0.01, 0.05, 0.95, 0.99])
        some = share[share > 0]
        entropy = -(some * numpy.log2(some)).sum()
        measured += bool(numpy.isfinite(blur) and numpy.isfinite(entropy) and len(percentiles) == 4)
    write(out, {"measured": measured})


def imagededup(files, out):
    """Pairs by pHash, up to 16 bits; one process, as the default is one a core. Documented: at most 10 bits."""
    without_torch()
    from imagededup.methods import PHash

    hasher = PHash()
    hashes = hasher.encode_images(image_dir=files, num_enc_workers=0)
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=16, scores=True, num_dist_workers=0)
    write(out, {"pairs": [[a, b, int(bits)] for a, others in found.items() for b, bits in others]})


def data_juicer(files, out):
    """Files whose pHash is the same: the operator `image_deduplicator` at its defaults, which keeps the first of them."""
    without_torch()
    os.environ["DATA_JUICER_CACHE_HOME"] = os.environ["HF_HOME"] = tempfile.mkdtemp()
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.image_deduplicator import ImageDeduplicator
    from data_juicer.utils.constant import HashKeys

    operator = ImageDeduplicator(method="phash")
    samples = NestedDataset.from_list([{"images": [str(path)]} for path in photos(files)])
    hashed = samples.map(operator.compute_hash, num_proc=1)
    kept, _ = operator.process(hashed)
    groups = {}
    for images, key in zip(hashed["images"], hashed[HashKeys.imagehash]):
        groups.setdefault(key, []).append(pathlib.Path(images[0]).name)
    assert len(kept) == len(groups), "one of each hash is kept"
    write(out, {"pairs": all_pairs(groups.values())})


def fastdup(files, out):
    """Pairs by the cosine of its own vectors, each with its nearest two: the defaults, but one thread."""
    fastdup_pairs(files, out)


def fastdup_five(files, out):
    """The same with the nearest five."""
    fastdup_pairs(files, out, nearest_neighbors_k=5)


def fastdup_pairs(files, out, **options):
    import fastdup

    with tempfile.TemporaryDirectory() as work:
        run = fastdup.create(work_dir=work, input_dir=str(files))
        run.run(threshold=0.85, num_threads=1, overwrite=True, print_summary=False, **options)
        found = run.similarity()
    # Without a pair the table has no columns.
    rows = found[["filename_from", "filename_to", "distance"]].itertuples(index=False) if len(found) else []
    write(out, {"pairs": [[pathlib.Path(a).name, pathlib.Path(b).name, 1 - float(cosine)] for a, b, cosine in rows]})


def cleanvision(files, out):
    """All its checks at their defaults."""
    cleanvision_of(files, out, None)


def cleanvision_rules(files, out):
    """Its checks for blurred, dark and light photos and such without information only."""
    cleanvision_of(files, out, {"blurry": {}, "dark": {}, "light": {}, "low_information": {}})


def cleanvision_of(files, out, checks):
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(files))
    lab.find_issues(checks, n_jobs=1, verbose=False)
    name = lambda path: pathlib.Path(path).name
    said = {}
    for kind, issue in {"blur": "blurry", "dark": "dark", "bright": "light", "empty": "low_information"}.items():
        flags, scores = lab.issues[f"is_{issue}_issue"], lab.issues[f"{issue}_score"]
        said[kind] = {name(path): [bool(flags[path]), float(scores[path])] for path in lab.issues.index}
    pairs = []
    for kind in ["exact_duplicates", "near_duplicates"]:
        if kind in lab.info:
            pairs += all_pairs([name(path) for path in group] for group in lab.info[kind]["sets"])
    write(out, {"flagged": said, "pairs": pairs})


def fiftyone(files, out, model):
    """Pairs by the distance of vectors of EfficientNet-Lite0 (fp32, of length 1), which it is given: its zoo needs torch."""
    with tempfile.TemporaryDirectory() as home, database(home) as uri:
        os.environ |= {"HOME": home, "FIFTYONE_DATABASE_URI": uri, "FIFTYONE_DATABASE_VALIDATION": "0"}
        os.environ |= {"FIFTYONE_DO_NOT_TRACK": "1"}
        import fiftyone
        import fiftyone.brain

        paths = photos(files)
        given = vectors(paths, model)
        given /= (given**2).sum(axis=1, keepdims=True) ** 0.5
        dataset = fiftyone.Dataset("peers")
        dataset.add_samples([fiftyone.Sample(filepath=str(path)) for path in paths])
        name = dict(zip(dataset.values("id"), [path.name for path in paths]))
        index = fiftyone.brain.compute_near_duplicates(dataset, embeddings=given)
        pairs = {}
        # What repeats one file is paired with no other, so each threshold shows other pairs.
        for tenth in range(1, 9):
            index.find_duplicates(thresh=tenth / 10)
            for one, others in index.neighbors_map.items():
                pairs |= {(name[one], name[other]): float(far) for other, far in others}
        write(out, {"pairs": [[one, other, far] for (one, other), far in pairs.items()]})


@contextlib.contextmanager
def database(home):
    """The MongoDB of FiftyOne's own package, which FiftyOne would start itself but gives a minute only."""
    program = pathlib.Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages/fiftyone/db/bin/mongod")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (pathlib.Path(home) / "db").mkdir()
    place = ["--dbpath", f"{home}/db", "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"]
    server = subprocess.Popen([program, *place], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    raise SystemExit(f"mongod ended with {server.returncode}")
                time.sleep(0.2)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def vectors(paths, model):
    """As the model was trained: the middle square of 224/256, bicubic, (byte - 127) / 128. One after the other."""
    import numpy
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    made = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        side = int(min(picture.size) * 224 / 256)
        left, top = ((length - side) // 2 for length in picture.size)
        square = picture.resize((224, 224), Image.BICUBIC, box=(left, top, left + side, top + side))
        pixels = (numpy.asarray(square, dtype=numpy.float32) - 127) / 128
        made.append(session.run(["embedding"], {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0][0])
    return numpy.stack(made)


def flips(files, out, model):
    """No tool: a tenth of the labels made wrong, uniformly and as a model confuses them. `files` has one folder a label."""
    import numpy

    paths = photos(files)
    names, true = numpy.unique([path.parent.name for path in paths], return_inverse=True)
    chances = probe(vectors(paths, model), true)
    confused = numpy.stack([chances[true == label].mean(axis=0) for label in range(len(names))])
    for kind, weights in {"uniform": numpy.ones_like(confused), "confusable": confused}.items():
        weights = weights * (1 - numpy.eye(len(names)))
        draw = numpy.random.default_rng(1)
        given = true.copy()
        for n in draw.choice(len(paths), len(paths) // 10, replace=False):
            given[n] = draw.choice(len(names), p=weights[true[n]] / weights[true[n]].sum())
        folder = pathlib.Path(out) / kind
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "labels.csv", "w") as labels, open(folder / "truth.csv", "w") as truth:
            labels, truth = csv.writer(labels), csv.writer(truth)
            labels.writerow(["file", "label"])
            truth.writerow(["source", "label", "true_label"])
            for path, wrong, right in zip(paths, given, true):
                source = str(path.relative_to(files))
                labels.writerow([source, names[wrong]])
                truth.writerow([source, names[wrong], names[right]])


def cleanlab(files, out, model):
    """Labels that are called wrong, by each of its filters and ranked, from a cross-validated probe on such vectors."""
    import numpy
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with open(pathlib.Path(files) / "labels.csv") as rows:
        rows = list(csv.DictReader(rows))
    paths = [pathlib.Path(files) / "photos" / row["file"] for row in rows]
    given = numpy.unique([row["label"] for row in rows], return_inverse=True)[1]
    chances = probe(vectors(paths, model), given)
    sources = [row["file"] for row in rows]
    filters = ["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"]
    filters += ["low_normalized_margin", "low_self_confidence"]
    held = {}
    for by in filters:
        wrong = find_label_issues(given, chances, filter_by=by, n_jobs=1)
        held[by] = [source for source, is_wrong in zip(sources, wrong) if is_wrong]
    scores = get_label_quality_scores(given, chances, method="self_confidence")
    write(out, {"held": held, "quality": dict(zip(sources, map(float, scores)))})


def probe(rows, labels):
    """Chances of each label by a linear probe, from the four fifths that a row is not in."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(5, shuffle=True, random_state=1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.01))
    return cross_val_predict(classifier, rows, labels, cv=folds, method="predict_proba")


def degrade(plain, out, sources):
    """No tool: the photos, a quarter each blurred, darkened, brightened and as they are, and the truth."""
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
        for n, source in enumerate(json.loads(pathlib.Path(sources).read_text())):
            kind = ["", *change][n % 4]
            picture = Image.open(pathlib.Path(plain) / source).convert("RGB")
            name = f"crowd/{n:06}.jpg"
            (change[kind](picture) if kind else picture).save(out / name, quality=90)
            labels.writerow([name, "photo"])
            truth.writerow([name, kind])


def large(plain, out, sources):
    """No tool: 60 pictures of 4000 x 3000 pixels, each of 12 photos side by side, with the grain of a phone: 3 to 5 MB."""
    import cv2
    import numpy

    draw = numpy.random.default_rng(1)
    files = json.loads(pathlib.Path(sources).read_text())
    out, strength = pathlib.Path(out), 2.0
    (out / "crowd").mkdir(parents=True, exist_ok=True)
    with open(out / "labels.csv", "w") as labels:
        labels = csv.writer(labels)
        labels.writerow(["file", "label"])
        for n in range(60):
            tiles = [cv2.imread(str(pathlib.Path(plain) / files[i])) for i in draw.choice(len(files), 12, replace=False)]
            tiles = [cv2.resize(tile, (1000, 1000), interpolation=cv2.INTER_CUBIC) for tile in tiles]
            picture = numpy.vstack([numpy.hstack(tiles[row * 4 : row * 4 + 4]) for row in range(3)]).astype(numpy.float32)
            grain = draw.standard_normal((3000, 4000, 1), dtype=numpy.float32)
            for _ in range(20):
                grained = (picture + strength * grain).clip(0, 255).astype(numpy.uint8)
                encoded = cv2.imencode(".jpg", grained, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
                if 3_000_000 <= len(encoded) <= 5_000_000:
                    break
                strength *= 1.2 if len(encoded) < 3_000_000 else 0.85
            name = f"crowd/{n:06}.jpg"
            (out / name).write_bytes(encoded)
            labels.writerow([name, "photo"])


def photos(folder):
    endings = {".jpg", ".jpeg", ".png", ".webp"}
    return sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in endings)


def all_pairs(groups):
    return [[a, b, 0] for group in map(list, groups) for a in group for b in group if a != b]


def without_torch():
    """imagededup imports torch for its CNN even where only its hashes are used: here it finds empty modules."""
    sys.meta_path.insert(0, Hollow())


class Hollow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of torch, and whatever is asked of it."""

    def find_spec(self, name, path=None, target=None):
        own = name.split(".")[0] in ("torch", "torchvision")
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if own else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: Nothing.__getattr__(Nothing, name)
        return module

    def exec_module(self, module):
        pass


class Nothing(type):
    """A class without content that has any attribute, each a class like itself, and takes any arguments."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name, (), {"__init__": lambda self, *args, **options: None})


def write(out, value):
    pathlib.Path(out).write_text(json.dumps(value))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
