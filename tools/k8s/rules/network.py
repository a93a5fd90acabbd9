"""Who may talk to whom: nothing by default, every way that the configuration needs, and no other."""

import tomllib
from urllib.parse import urlsplit

from rules import NAME, WORKLOADS, containers, namespace, of_kind, pod_labels, selects, title

PORTS = {"http": 80, "https": 443}
# What charts/ installs: namespace, label and port.
CHARTS = {"nats": 4222, "qdrant": 6334, "seaweedfs": 8333}


def faults(documents, project):
    policies = of_kind(documents, "NetworkPolicy")
    workloads = of_kind(documents, *WORKLOADS)
    found = [f"Namespace/{space}: refuses nothing by default" for space in sorted(open_namespaces(policies, workloads))]
    for policy in policies:
        found += [f"{title(policy)}: {fault}" for fault in policy_faults(policy, workloads)]
    found += service_faults(documents, workloads)
    return found + way_faults(documents, policies, workloads)


def open_namespaces(policies, workloads):
    closed = {
        namespace(p)
        for p in policies
        if not p["spec"]["podSelector"]
        and set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and "ingress" not in p["spec"]
        and "egress" not in p["spec"]
    }
    return {namespace(w) for w in workloads} - closed


def policy_faults(policy, workloads):
    spec = policy["spec"]
    here = [w for w in workloads if namespace(w) == namespace(policy)]
    meant = [w for w in here if selects(spec["podSelector"], pod_labels(w))]
    found = [] if meant else ["means no pod"]
    for rule in spec.get("ingress", []):
        if not rule.get("from") or not rule.get("ports"):
            found.append("lets everybody or every port in")
        for port in rule.get("ports", []):
            if port["port"] not in {number for w in meant for number in numbers(w)}:
                found.append(f"opens the port {port['port']}, at which nothing listens")
    for rule in spec.get("egress", []):
        if not rule.get("to") or not rule.get("ports"):
            found.append("lets out to everybody or every port")
        for peer in rule.get("to", []):
            found += peer_faults(peer, rule.get("ports", []), here)
    return found


def peer_faults(peer, ports, here):
    ports = {port["port"] for port in ports}
    if "ipBlock" in peer:
        return [] if not peer["ipBlock"]["cidr"].endswith("/0") else ["lets out to the whole internet"]
    if "namespaceSelector" in peer:
        space = peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name")
        if space == "kube-system":
            return [] if ports == {53} else ["asks the cluster's own for more than names"]
        known = ports == {CHARTS.get(space)} and peer.get("podSelector", {}).get("matchLabels", {}).get(NAME) == space
        return [] if known else [f"leads to {space} at {sorted(ports)}, where charts/ puts nothing"]
    asked = [w for w in here if selects(peer["podSelector"], pod_labels(w))]
    listening = {number for w in asked for number in numbers(w)}
    return [f"leads to the port {port}, at which nothing listens" for port in sorted(ports - listening)]


def numbers(workload):
    return {port["containerPort"] for c in containers(workload) for port in c.get("ports", [])}


def service_faults(documents, workloads):
    found = []
    for service in of_kind(documents, "Service"):
        asked = [w for w in workloads if namespace(w) == namespace(service)]
        asked = [w for w in asked if selects({"matchLabels": service["spec"]["selector"]}, pod_labels(w))]
        names = {port["name"] for w in asked for c in containers(w) for port in c.get("ports", [])}
        missing = {port["targetPort"] for port in service["spec"]["ports"]} - names
        found += [f"{title(service)}: leads to the port `{port}`, which no pod has" for port in sorted(missing)]
    return found


def way_faults(documents, policies, workloads):
    """Every address of the configuration must be open from every process of ours, and nothing else be."""
    needed = {}
    for map_ in of_kind(documents, "ConfigMap"):
        if "dih.toml" in map_.get("data", {}):
            needed = addresses(map_["data"]["dih.toml"])
    ours = {"matchLabels": {NAME: "dih"}}
    out = [p for p in policies if p["spec"]["podSelector"] == ours and "Egress" in p["spec"]["policyTypes"]]
    rules = [rule for p in out for rule in p["spec"].get("egress", [])]
    opened = {port["port"] for rule in rules for port in rule["ports"]}
    found = []
    for setting, (host, port) in needed.items():
        if port not in opened:
            found.append(f"`{setting}` leads to {host}:{port}, which no policy opens")
        inside = [p for p in host.split(".")[1:2] if host.endswith(".svc.cluster.local")]
        if inside and inside[0] in {namespace(w) for w in workloads} and not lets_in(policies, inside[0], port):
            found.append(f"`{setting}` leads to {host}:{port}, which lets nobody in")
    elsewhere = any("ipBlock" in peer for rule in rules for peer in rule["to"])
    unused = opened - {port for _, port in needed.values()}
    if unused and not elsewhere:
        found.append(f"policies open the ports {sorted(unused)}, which the configuration does not use")
    return found


def lets_in(policies, space, port):
    rules = [r for p in policies if namespace(p) == space for r in p["spec"].get("ingress", [])]
    ours = {"matchLabels": {NAME: "dih"}}
    return any(port in {x["port"] for x in r["ports"]} and {"podSelector": ours} in r["from"] for r in rules)


def addresses(text):
    """setting -> host and port."""
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    stores = settings.get("stores", {})
    urls = {
        "broker.url": settings.get("broker", {}).get("url"),
        "stores.qdrant.url": stores.get("qdrant", {}).get("url"),
        "stores.s3.endpoint": stores.get("s3", {}).get("endpoint"),
    }
    split = {setting: urlsplit(url) for setting, url in urls.items() if url}
    return {setting: (url.hostname, url.port or PORTS.get(url.scheme)) for setting, url in split.items()}


def store_faults(stores, small):
    """The other end: what an overlay leads to must be let in by charts/, and each namespace there be closed else."""
    found = []
    policies = of_kind(stores, "NetworkPolicy")
    for space in (s["metadata"]["name"] for s in of_kind(stores, "Namespace")):
        mine = [p for p in policies if namespace(p) == space and not p["spec"]["podSelector"]]
        rules = [r for p in mine for r in p["spec"].get("ingress", [])]
        opened = {x["port"] for r in rules for x in r.get("ports", []) if from_space(r, "dih")}
        if CHARTS.get(space) not in opened:
            found.append(f"{space} does not let us in at {CHARTS.get(space)}")
    watching = any(
        8222 in {x["port"] for x in r.get("ports", [])} and from_space(r, "keda")
        for p in policies
        if namespace(p) == "nats"
        for r in p["spec"]["ingress"]
    )
    if of_kind(small, "ScaledObject") and not watching:
        found.append("nats does not let KEDA in at 8222")
    return found


def from_space(rule, space):
    names = [
        p.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") for p in rule["from"]
    ]
    return space in names
