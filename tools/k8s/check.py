"""Checks the Kubernetes manifests without a cluster.

Takes    `k8s/`, the table of consumers in `pipeline/core/src/topology.rs` and the settings in `config/dih.toml`.
Gives    every fault with its place, and exit code 1 where there is one; of a clean tree, that each mutation is seen.
Weak at  what only a cluster can tell: images that do not start, policies that a plug-in ignores, charts, a KEDA that
         reads another lag.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mutations
import yaml
from project import read_project
from rules import config, network, scaling, workloads
from schemas import schema_faults

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
# Where `overlays/small` goes another way, by a change of the lines that docs/kubernetes.md names.
VARIANTS = {
    "small, with another S3 server": (
        "small",
        ("../../components/s3-in-chart", "../../components/s3-elsewhere"),
        ("http://seaweedfs-s3.seaweedfs.svc.cluster.local:8333", "https://s3.example.com"),
    )
}


def main():
    project = read_project(ROOT)
    overlays = [path.parent for path in sorted(K8S.glob("overlays/[!.]*/kustomization.yaml"))]
    builds = {folder.name: build(folder) for folder in overlays}
    builds |= {name: build_variant(*variant) for name, variant in VARIANTS.items()}
    faults = []
    for name, documents in builds.items():
        found = faults_of(documents, project)
        print(f"k8s-check: {name}: {len(documents)} objects, {len(found)} faults")
        faults += [f"{name}: {fault}" for fault in found]
    stores = build(K8S / "charts")
    faults += [f"charts: {fault}" for fault in schema_faults(stores) + network.store_faults(stores, builds["small"])]
    faults += [fault for path in sorted(K8S.glob("charts/*.values.yaml")) for fault in value_faults(path)]
    faults += container_file_faults()
    for fault in faults:
        print(f"k8s-check: {fault}", file=sys.stderr)
    if faults:
        return 1
    return mutations.run(builds, lambda documents: faults_of(documents, project))


def faults_of(documents, project):
    found = schema_faults(documents)
    for rules in (workloads, scaling, network, config):
        found += rules.faults(documents, project)
    return found


def build(folder):
    """What `kubectl apply -k` would send. A warning (a deprecated field, say) is a fault too."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"k8s-check: `kubectl kustomize {folder.relative_to(ROOT)}` says:\n{done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def build_variant(overlay, component, endpoint):
    """Builds an overlay as a person would have changed it. The copy lies beside it, for its paths are relative."""
    source = K8S / "overlays" / overlay
    with tempfile.TemporaryDirectory(prefix=".variant-", dir=source.parent) as folder:
        for name, (old, new) in (("kustomization.yaml", component), ("dih.toml", endpoint)):
            text = (source / name).read_text()
            if text.count(old) != 1:
                sys.exit(f"k8s-check: overlays/{overlay}/{name} does not name `{old}` once")
            (Path(folder) / name).write_text(text.replace(old, new))
        return build(Path(folder))


def value_faults(path):
    """Of values only the form is known here, and that docs/kubernetes.md installs the version they are for."""
    text = path.read_text()
    chart = re.search(r"Chart (\S+) (\d+\.\d+\.\d+)", text.replace("\n# ", " "))
    if not chart or not isinstance(yaml.safe_load(text), dict):
        return [f"{path.name}: is no map of values, or names no version of its chart"]
    wanted = f"{chart[1]} --version {chart[2]}"
    told = wanted in (ROOT / "docs" / "kubernetes.md").read_text()
    return [] if told else [f"docs/kubernetes.md does not install `{wanted}`, which {path.name} is for"]


def container_file_faults():
    files = sorted(K8S.glob("Containerfile*"))
    done = subprocess.run(["hadolint", *map(str, files)], capture_output=True, text=True)
    found = [line for line in (done.stdout + done.stderr).splitlines() if line]
    return found or ([f"hadolint ended with {done.returncode}"] if done.returncode else [])


if __name__ == "__main__":
    sys.exit(main())
