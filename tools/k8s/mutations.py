"""Shows that the checks see: each mutation spoils one thing in a built overlay and must be found, by its fault.

Takes    overlays without a fault. Gives 0 when every mutation is found, else 1 and those that are not.
"""

import copy
import re
import sys


def run(builds, faults_of):
    missed = 0
    for what, overlay, spoil, fault in MUTATIONS:
        documents = copy.deepcopy(builds[overlay])
        spoil(documents)
        found = faults_of(documents)
        if not any(re.search(fault, each) for each in found):
            missed += 1
            print(f"k8s-check: not found: {what}; found instead: {found[:3]}", file=sys.stderr)
    print(f"k8s-check: {len(MUTATIONS) - missed} of {len(MUTATIONS)} mutations found")
    return 1 if missed else 0


def get(documents, kind, name):
    return next(d for d in documents if d["kind"] == kind and re.fullmatch(name, d["metadata"]["name"]))


def change(kind, name, path, value):
    """Sets one value deep within one object; a path of keys and numbers."""

    def spoil(documents):
        *way, last = path
        at = get(documents, kind, name)
        for key in way:
            at = at[key]
        at[last] = value

    return spoil


def drop(kind, name, path=()):
    """Takes one value out, or the whole object."""

    def spoil(documents):
        at = get(documents, kind, name)
        if not path:
            return documents.remove(at)
        *way, last = path
        for key in way:
            at = at[key]
        del at[last]

    return spoil


def config(old, new):
    def spoil(documents):
        data = get(documents, "ConfigMap", "dih-config-.*")["data"]
        assert old in data["dih.toml"], old
        data["dih.toml"] = data["dih.toml"].replace(old, new)

    return spoil


def add(document):
    return lambda documents: documents.append(document)


POD = ("spec", "template", "spec")
MAIN = (*POD, "containers", 0)
TRIGGER = ("spec", "triggers", 0, "metadata")
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dih-secrets", "namespace": "dih"}}

# What is spoilt, in which overlay, how, and the fault that must be named.
MUTATIONS = [
    # Fields
    (
        "an unknown field of a pod",
        "kind",
        change("Deployment", "dih-ingest", (*POD, "restartPolice"), "x"),
        "restartPolice",
    ),
    (
        "a wrong type",
        "small",
        change("Deployment", "dih-ingest", ("spec", "revisionHistoryLimit"), "three"),
        "revisionHistory",
    ),
    (
        "an unknown field of KEDA",
        "small",
        change("ScaledObject", "dih-embed", ("spec", "maxReplicas"), 3),
        "maxReplicas",
    ),
    (
        "a wrong type of KEDA",
        "gpu",
        change("ScaledObject", "dih-embed", ("spec", "pollingInterval"), "soon"),
        "pollingInterval",
    ),
    ("an unknown field of a PodMonitor", "small", change("PodMonitor", "dih", ("spec", "ports"), []), "ports"),
    ("an unknown kind", "kind", change("Job", "dih-setup", ("kind",), "Jop"), "Jop|schema"),
    # Scaling
    (
        "an unknown consumer",
        "kind",
        change("ScaledObject", "dih-dedupe", (*TRIGGER, "consumer"), "dedup"),
        "does not know",
    ),
    (
        "the stream of another",
        "small",
        change("ScaledObject", "dih-dedupe", (*TRIGGER, "stream"), "UPLOADS"),
        "it reads IMAGES",
    ),
    (
        "the queue of another",
        "small",
        change("ScaledObject", "dih-dedupe", (*TRIGGER, "consumer"), "verify"),
        "queue of verify",
    ),
    (
        "a queue nobody watches",
        "gpu",
        drop("ScaledObject", "dih-organize", ("spec", "triggers", 1)),
        "organize-cut is watched by 0",
    ),
    (
        "a scaler of nothing",
        "kind",
        change("ScaledObject", "dih-train", ("spec", "scaleTargetRef", "name"), "x"),
        "not there",
    ),
    ("no fallback", "small", drop("ScaledObject", "dih-verify", ("spec", "fallback")), "no `fallback`"),
    (
        "fallback to the most",
        "small",
        change("ScaledObject", "dih-verify", ("spec", "fallback", "replicas"), 4),
        "not modest",
    ),
    (
        "a metric without fallback",
        "gpu",
        change("ScaledObject", "dih-verify", ("spec", "triggers", 0, "metricType"), "Value"),
        "does not know",
    ),
    (
        "one server of three",
        "small",
        change(
            "ScaledObject", "dih-ingest", (*TRIGGER, "natsServerMonitoringEndpoint"), "nats.nats.svc.cluster.local:8222"
        ),
        "headless",
    ),
    ("a service that is not there", "kind", drop("Service", "nats-headless"), "which is not there"),
    ("no window", "kind", drop("ScaledObject", "dih-ingest", ("spec", "advanced")), "no window"),
    # Pods
    ("no startup probe", "small", drop("Deployment", "dih-cluster", (*MAIN, "startupProbe")), "no startupProbe"),
    ("no liveness probe", "kind", drop("StatefulSet", "nats", (*MAIN, "livenessProbe")), "no livenessProbe"),
    (
        "a probe of no port",
        "kind",
        change("Deployment", "dih-train", (*MAIN, "readinessProbe", "httpGet", "port"), "web"),
        "web",
    ),
    ("no requests", "gpu", drop("Deployment", "dih-train", (*MAIN, "resources", "requests")), "requests no CPU"),
    ("no limit of memory", "kind", drop("StatefulSet", "s3", (*MAIN, "resources", "limits")), "no limit of memory"),
    (
        "ends too early",
        "small",
        change("Deployment", "dih-ingest", (*POD, "terminationGracePeriodSeconds"), 20),
        "runner.drain",
    ),
    ("runs as root", "kind", change("StatefulSet", "s3", (*POD, "securityContext", "runAsUser"), 0), "root"),
    ("may run as root", "small", drop("Job", "dih-setup", (*POD, "securityContext", "runAsNonRoot")), "root"),
    (
        "writes to its root",
        "small",
        drop("Deployment", "dih-embed", (*MAIN, "securityContext", "readOnlyRootFilesystem")),
        "writes to its root",
    ),
    (
        "an init container that does",
        "small",
        drop("Deployment", "dih-embed", (*POD, "initContainers", 0, "securityContext", "readOnlyRootFilesystem")),
        "writes to",
    ),
    (
        "keeps capabilities",
        "gpu",
        change("Deployment", "dih-embed", (*MAIN, "securityContext", "capabilities"), {}),
        "capab",
    ),
    (
        "may gain rights",
        "kind",
        change("Job", "dih-setup", (*MAIN, "securityContext", "allowPrivilegeEscalation"), True),
        "gain",
    ),
    ("no seccomp", "kind", drop("StatefulSet", "dih-index", (*POD, "securityContext", "seccompProfile")), "seccomp"),
    ("a token", "small", drop("Deployment", "dih-verify", (*POD, "automountServiceAccountToken")), "token"),
    ("the newest image", "small", change("Deployment", "dih-verify", (*MAIN, "image"), "x/dih:latest"), "exact tag"),
    (
        "an image left as it stands",
        "gpu",
        change("Deployment", "dih-verify", (*MAIN, "image"), "dih-cuda"),
        "exact tag",
    ),
    ("no budget", "small", drop("PodDisruptionBudget", "dih-ingest"), "0 disruption budgets"),
    (
        "a budget for all",
        "small",
        change("PodDisruptionBudget", "dih-ingest", ("spec", "selector"), {}),
        "2 disruption budgets",
    ),
    ("not spread", "small", drop("Deployment", "dih-ingest", (*POD, "topologySpreadConstraints")), "not spread"),
    ("replicas of its own", "kind", change("Deployment", "dih-ingest", ("spec", "replicas"), 2), "the scaler's"),
    ("a stage left out", "small", drop("Deployment", "dih-embed"), "no Deployment for the stage embed"),
    # GPUs
    ("a GPU that is not used", "gpu", config('provider = "cuda"', 'provider = "cpu"'), "has a GPU"),
    (
        "a GPU that is not there",
        "small",
        config("[stores.qdrant]", '[inference]\nprovider = "cuda"\n[stores.qdrant]'),
        "lacks the",
    ),
    ("no toleration", "gpu", drop("Deployment", "dih-train", (*POD, "tolerations")), "tolerate"),
    ("any node", "gpu", drop("Deployment", "dih-verify", (*POD, "nodeSelector")), "without a GPU"),
    # Network
    ("an open namespace", "small", drop("NetworkPolicy", "deny-all"), "refuses nothing"),
    ("a way that is closed", "small", drop("NetworkPolicy", "ask-s3"), "which no policy opens"),
    ("a door that is closed", "kind", drop("NetworkPolicy", "let-s3-be-asked"), "lets nobody in"),
    (
        "a port nobody has",
        "kind",
        change("NetworkPolicy", "let-index-be-asked", ("spec", "ingress", 0, "ports", 0, "port"), 6333),
        "nothing listens",
    ),
    (
        "the whole internet",
        "small, with another S3 server",
        change("NetworkPolicy", "ask-s3", ("spec", "egress", 0, "to", 0, "ipBlock", "cidr"), "0.0.0.0/0"),
        "internet",
    ),
    (
        "a port that no setting uses",
        "small",
        change("NetworkPolicy", "ask-stores", ("spec", "egress", 0, "ports", 0, "port"), 8222),
        "charts/ puts nothing",
    ),
    (
        "a service of no port",
        "kind",
        change("Service", "index", ("spec", "ports", 0, "targetPort"), "web"),
        "no pod has",
    ),
    # Configuration
    ("a setting that is none", "kind", config("bucket =", "bukket ="), "bukket"),
    ("a section that is none", "kind", config("[stores.s3]", "[stores.s4]"), "stores.s4"),
    ("a secret's file that is none", "kind", config("dih/broker_password", "dih/password"), "no key of the secret"),
    ("a password in the URL", "small", config("nats://nats.", "nats://dih:secret@nats."), "holds a password"),
    ("a secret in the repository", "small", add(SECRET), "does not belong"),
    ("a map that is not there", "kind", change("ConfigMap", "nats-config-.*", ("metadata", "name"), "x"), "not there"),
    ("weak pods are let in", "kind", change("Namespace", "dih", ("metadata", "labels"), {}), "enforce"),
]
