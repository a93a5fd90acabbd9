"""Shows that the checks see: each mutation spoils one thing in a built overlay and must be found, by its fault.

Takes    overlays and charts/ without a fault. Gives 0 when every mutation is found, else 1 and those that are not.
"""

import copy
import re
import sys


def run(builds, faults_of):
    missed = 0
    for what, overlay, spoil, fault in MUTATIONS:
        documents = copy.deepcopy(builds[overlay])
        spoil(documents)
        found = faults_of(overlay, documents)
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


def append(kind, name, path, value):
    def spoil(documents):
        at = get(documents, kind, name)
        for key in path:
            at = at[key]
        at.append(value)

    return spoil


def config(old, new):
    def spoil(documents):
        data = get(documents, "ConfigMap", "dih-config-.*")["data"]
        assert old in data["dih.toml"], old
        data["dih.toml"] = data["dih.toml"].replace(old, new)

    return spoil


def broker(old, new):
    """In the broker's file of `kind`."""

    def spoil(documents):
        data = get(documents, "ConfigMap", "nats-config-.*")["data"]
        assert old in data["nats.conf"], old
        data["nats.conf"] = data["nats.conf"].replace(old, new)

    return spoil


def values(path, value):
    """In the values of the chart of NATS."""
    return change("Values", "nats", ("values", *path), value)


def add(document):
    return lambda documents: documents.append(document)


POD = ("spec", "template", "spec")
MAIN = (*POD, "containers", 0)
TRIGGER = ("spec", "triggers", 0, "metadata")
ACCOUNTS = ("values", "config", "merge", "accounts")
NATS_TLS = ("values", "config", "nats", "tls", "merge")
MONITOR = {"name": "monitor", "port": 8222, "targetPort": "monitor"}
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
    (
        "a correction that is not tried",
        "kind",
        drop("StatefulSet", "dih-index", ("spec", "podManagementPolicy")),
        "podManagementPolicy",
    ),
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
    ("a password in the URL", "small", config("tls://nats.", "tls://dih:secret@nats."), "holds a password"),
    ("a secret in the repository", "small", add(SECRET), "does not belong"),
    ("a map that is not there", "kind", change("ConfigMap", "nats-config-.*", ("metadata", "name"), "x"), "not there"),
    ("weak pods are let in", "kind", change("Namespace", "dih", ("metadata", "labels"), {}), "enforce"),
    # Devices
    (
        "our user in no account",
        "kind",
        broker("accounts {", "authorization { users: [{ user: dih }] }\naccounts {"),
        "outside",
    ),
    ("the account of the hub without its user", "kind", broker("user: dih,", "user: did,"), "HUB.users"),
    ("a password in the file", "kind", broker("$DIH_BROKER_PASSWORD", "secret"), "password"),
    ("our user over MQTT", "kind", broker('["STANDARD"]', '["STANDARD", "MQTT"]'), "allowed_connection_types"),
    ("the streams to devices", "kind", broker('stream: "dih.v1.answer.>"', 'stream: "dih.v1.>"'), "exports"),
    ("a service less", "kind", broker('      { service: "dih.v1.link.*", accounts: [DEVICES] }\n', ""), "exports"),
    ("an export to everybody", "kind", broker('"dih.v1.raw.*.*", accounts: [DEVICES]', '"dih.v1.raw.*.*"'), "exports"),
    (
        "the whole disk to devices",
        "kind",
        broker("{ max_file: 64MB, max_mem: 0, max_streams: 5 }", ": enabled"),
        "jetstream",
    ),
    ("smaller photos", "kind", broker("max_payload: 8MB", "max_payload: 1MB"), "max_payload"),
    ("no name of the server", "kind", broker("server_name: nats-0\n", ""), "server_name"),
    ("no MQTT", "kind", broker("mqtt {\n  listen: 0.0.0.0:1883\n}", ""), "`mqtt`"),
    ("MQTT at another port", "kind", broker(":1883", ":1884"), "does not name"),
    ("no devices", "kind", broker('include "../nats-devices/devices.conf"', ""), "include"),
    ("devices from nowhere", "kind", broker("../nats-devices", "../devices"), "no folder is mounted"),
    ("a file that is none", "kind", broker("HUB {", "HUB }"), "nats.conf"),
    (
        "devices from another secret",
        "kind",
        change("StatefulSet", "nats", (*POD, "volumes", 1, "secret", "secretName"), "dih-secrets"),
        "no secret `dih-devices`",
    ),
    (
        "devices that never change",
        "kind",
        change("StatefulSet", "nats", (*MAIN, "volumeMounts", 2, "subPath"), "devices.conf"),
        "no folder is mounted",
    ),
    (
        "a laptop open to its network",
        "kind",
        change("Service", "nats", ("spec", "type"), "NodePort"),
        "open to the outside",
    ),
    ("TLS to a broker without", "kind", config("nats://nats.", "tls://nats."), "has no TLS"),
    ("no TLS to the broker", "small", config("tls://nats.", "nats://nats."), "is plain"),
    ("plain text allowed", "gpu", config("[broker]", "[broker]\nallow_plaintext = true"), "is plain"),
    ("a CA that nobody knows", "small", config("ca_file = ", "#ca_file = "), "ca_file"),
    (
        "the account of before",
        "small",
        change("ScaledObject", "dih-ingest", (*TRIGGER, "account"), "$G"),
        "streams are in HUB",
    ),
    ("the chart: no account for the hub", "charts", drop("Values", "nats", (*ACCOUNTS, "HUB")), "accounts.HUB"),
    ("the chart: no user in it", "charts", change("Values", "nats", (*ACCOUNTS, "HUB", "users"), []), "HUB.users"),
    (
        "the chart: a device account with the stream of uploads",
        "charts",
        change(
            "Values", "nats", (*ACCOUNTS, "HUB", "exports", 0), {"stream": "dih.v1.upload.*", "accounts": ["DEVICES"]}
        ),
        "exports",
    ),
    ("the chart: no import", "charts", drop("Values", "nats", (*ACCOUNTS, "DEVICES", "imports", 3)), "imports"),
    (
        "the chart: a third account",
        "charts",
        change("Values", "nats", (*ACCOUNTS, "GUESTS"), {"users": [{"user": "guest", "password": "guest"}]}),
        "GUESTS",
    ),
    (
        "the chart: the users of before",
        "charts",
        values(("config", "merge", "authorization"), {"users": [{"user": "dih"}]}),
        "outside",
    ),
    ("the chart: smaller photos", "charts", values(("config", "merge", "max_payload"), "<< 1MB >>"), "max_payload"),
    ("the chart: no MQTT", "charts", values(("config", "mqtt", "enabled"), False), "mqtt"),
    ("the chart: MQTT without TLS", "charts", values(("config", "mqtt", "tls", "enabled"), False), "mqtt without TLS"),
    ("the chart: NATS without TLS", "charts", values(("config", "nats", "tls", "enabled"), False), "nats without TLS"),
    (
        "the chart: another certificate",
        "charts",
        values(("config", "nats", "tls", "secretName"), "tls"),
        "nats without TLS",
    ),
    ("the chart: TLS after a greeting", "charts", drop("Values", "nats", (*NATS_TLS, "handshake_first")), "tls.conf"),
    ("the chart: nobody reloads", "charts", values(("reloader", "enabled"), False), "reloader"),
    ("the chart: no mount", "charts", values(("container", "patch"), []), "no folder is mounted"),
    ("the chart: no volume", "charts", values(("podTemplate", "patch"), []), "no secret"),
    (
        "the chart: a mount that is not watched",
        "charts",
        values(("container", "patch", 0, "value", "mountPath"), "/devices"),
        "no folder is mounted",
    ),
    (
        "the way in: one port more",
        "charts",
        append("Service", "devices", ("spec", "ports"), MONITOR),
        "opens .* to the outside",
    ),
    ("the way in: another port", "charts", change("Service", "devices", ("spec", "ports", 0, "port"), 443), "opens"),
    (
        "the way in: the monitor",
        "charts",
        change("NetworkPolicy", "let-devices-in", ("spec", "ingress", 0, "ports", 0, "port"), 8222),
        "port 8222 of nats to everybody",
    ),
    ("the way in: closed", "charts", drop("NetworkPolicy", "let-devices-in"), "no policy lets devices in"),
    (
        "the way in: every port",
        "charts",
        drop("NetworkPolicy", "let-devices-in", ("spec", "ingress", 0, "ports")),
        "port all",
    ),
    (
        "the way in: to Qdrant",
        "charts",
        change("NetworkPolicy", "let-devices-in", ("metadata", "namespace"), "qdrant"),
        "of qdrant to everybody",
    ),
    (
        "the way in: of another store",
        "charts",
        add(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "x", "namespace": "qdrant"},
                "spec": {"type": "NodePort", "ports": []},
            }
        ),
        "not `devices` alone",
    ),
]
