"""Checks the Kubernetes manifests without a cluster.

Takes    `k8s/`, the table of consumers in `pipeline/core/src/topology.rs`, the settings in `config/dih.toml`, the
         broker of a hub in `config/nats`, `docs/kubernetes.md`, and nats-server where `tools/setup` has brought it.
Gives    every fault with its place, and exit code 1 where there is one; of a clean tree, that each mutation is seen.
Weak at  what only a cluster can tell: images that do not start, policies that a plug-in ignores, charts, a KEDA that
         reads another lag.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mutations
import nats_conf
import yaml
from project import read_project
from rules import broker, config, network, of_kind, scaling, workloads
from schemas import schema_faults

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
NATS_SERVER = Path(os.environ.get("DIH_TOOLS") or ROOT / ".tools") / "bin" / "nats-server"
PAGE = ROOT / "docs" / "kubernetes.md"
# What each part of the page must do, in this order: nothing is used before it is made.
STEPS = {
    "One node": (
        "kubectl apply -f k8s/base/namespace.yaml",
        "-n dih create secret generic dih-secrets",
        "-n dih create secret generic dih-devices",
        "kubectl apply -k k8s/overlays/kind",
        "-n dih wait --for=condition=complete",
    ),
    "Some nodes": (
        "kubectl apply -k k8s/charts && kubectl apply -f k8s/base/namespace.yaml",
        "tools/certs certs nats.nats.svc.cluster.local",
        "-n nats create secret tls nats-tls",
        "-n dih create secret generic dih-secrets",
        "--from-file=broker_ca=certs/ca.pem",
        "-n nats create secret generic dih-secrets --from-literal=broker_password",
        "-n qdrant create secret generic dih-secrets --from-literal=qdrant_api_key",
        "-n nats create secret generic dih-devices",
        "helm upgrade --install nats nats/nats",
        "helm upgrade --install qdrant qdrant/qdrant",
        "-n seaweedfs create secret generic seaweedfs-s3",
        "helm upgrade --install seaweedfs seaweedfs/seaweedfs",
        "kubectl apply -k k8s/overlays/small",
        "-n dih wait --for=condition=complete",
    ),
    "Devices": (
        "dih device add cam1",
        "dih device conf > devices.conf && kubectl",
        "create secret generic dih-devices",
    ),
}
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
    builds["charts"] = build(K8S / "charts") + read_values()

    def faults_of(name, documents):
        return (
            chart_faults(documents, builds["small"], project)
            if name == "charts"
            else overlay_faults(documents, project)
        )

    faults = []
    for name, documents in builds.items():
        found = faults_of(name, documents)
        print(f"k8s-check: {name}: {len(documents)} objects, {len(found)} faults")
        faults += [f"{name}: {fault}" for fault in found]
    faults += [fault for path in value_files() for fault in value_faults(path)]
    faults += page_faults() + server_faults(builds) + container_file_faults()
    for fault in faults:
        print(f"k8s-check: {fault}", file=sys.stderr)
    if faults:
        return 1
    return mutations.run(builds, faults_of)


def overlay_faults(documents, project):
    found = schema_faults(documents)
    for rules in (workloads, scaling, network, broker, config):
        found += rules.faults(documents, project)
    return found


def chart_faults(documents, small, project):
    objects = [document for document in documents if document["kind"] != "Values"]
    return schema_faults(objects) + network.store_faults(objects, small) + broker.chart_faults(documents, project)


def value_files():
    return sorted(K8S.glob("charts/*.values.yaml"))


def read_values():
    """Values of charts beside the objects, so that both are checked and spoilt in one way."""
    return [
        {"kind": "Values", "metadata": {"name": path.name.split(".")[0]}, "values": yaml.safe_load(path.read_text())}
        for path in value_files()
    ]


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
    told = wanted in PAGE.read_text()
    return [] if told else [f"docs/kubernetes.md does not install `{wanted}`, which {path.name} is for"]


def page_faults():
    """Of the page that a person follows: its steps in order, and no file that is not there."""
    text = PAGE.read_text()
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    found = []
    for name, steps in STEPS.items():
        at = 0
        for step in steps:
            here = parts.get(name, "").find(step, at)
            if here < 0:
                found.append(f"docs/kubernetes.md: {name}: no `{step}`, or too early")
            at = max(at, here)
    files = {name.rstrip("./") for name in re.findall(r"(?<![\w./])(?:k8s|tools|config|examples)/[\w./-]+", text)}
    made = ("examples/python/.venv",)  # by the person, as the page of the examples says
    missing = [name for name in sorted(files) if not name.startswith(made) and not (ROOT / name).exists()]
    return found + [f"docs/kubernetes.md: there is no `{name}`" for name in missing]


def server_faults(builds):
    """Whether nats-server itself takes the settings, those of TLS left out: it would ask for the certificate."""
    if not NATS_SERVER.is_file():
        print("k8s-check: no nats-server, so what it says of its files was not asked; `tools/setup` brings one")
        return []
    values = next(d["values"] for d in of_kind(builds["charts"], "Values") if d["metadata"]["name"] == "nats")
    chart = nats_conf.of_chart(values)
    chart = {k: v for k, v in chart.items() if k != "tls"} | {
        "mqtt": {k: v for k, v in chart["mqtt"].items() if k != "tls"}
    }
    maps = of_kind(builds["kind"], "ConfigMap")
    texts = {
        "stores-inside/nats.conf": next(m["data"]["nats.conf"] for m in maps if "nats.conf" in m["data"]),
        "charts/nats.values.yaml": nats_conf.written(chart),
    }
    return [f"{name}: nats-server says: {said}" for name, text in texts.items() for said in server_says(text)]


def server_says(text):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("nats-devices/devices.conf", "users: []\n"), ("nats/nats.conf", text)):
            path = Path(folder, name)
            path.parent.mkdir()
            path.write_text(content)
        environment = {"DIH_BROKER_PASSWORD": "d0", "SERVER_NAME": "nats-0"}
        done = subprocess.run([NATS_SERVER, "-t", "-c", path], env=environment, capture_output=True, text=True)
        return [] if done.returncode == 0 else [(done.stdout + done.stderr).strip().replace(folder, "")]


def container_file_faults():
    files = sorted(K8S.glob("Containerfile*"))
    done = subprocess.run(["hadolint", *map(str, files)], capture_output=True, text=True)
    found = [line for line in (done.stdout + done.stderr).splitlines() if line]
    return found or ([f"hadolint ended with {done.returncode}"] if done.returncode else [])


if __name__ == "__main__":
    sys.exit(main())
