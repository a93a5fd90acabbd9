"""The brokers against `config/nats/hub.conf`: the same accounts, devices from a secret, TLS towards devices.

In `kind` the broker is a file in a map, elsewhere it is values for a chart; both become the same nested maps first.
"""

import os.path
import tomllib

import nats_conf
from rules import containers, namespace, of_kind, pod, title

SECRET = "dih-devices"
TLS_SECRET = "nats-tls"
DEVICES = {"nats": 4222, "mqtt": 8883}
# Only of these does the chart tell its reloader.
WATCHED = "/etc/"


def faults(documents, project):
    """Of an overlay: its own broker, where it has one, and how the hub reaches a broker."""
    found = [
        f"{title(s)}: is open to the outside"
        for s in of_kind(documents, "Service")
        if s["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]
    brokers = [s for s in of_kind(documents, "StatefulSet") if s["metadata"]["name"] == "nats"]
    for broker in brokers:
        found += [f"{title(broker)}: {fault}" for fault in own_faults(broker, documents, project)]
    return found + hub_faults(documents, inside=bool(brokers))


def own_faults(broker, documents, project):
    texts = [d["data"]["nats.conf"] for d in of_kind(documents, "ConfigMap") if "nats.conf" in d.get("data", {})]
    if len(texts) != 1:
        return [f"has {len(texts)} files nats.conf, not one"]
    try:
        settings = nats_conf.read(texts[0])
    except (ValueError, IndexError) as error:
        return [f"nats.conf: {error}"]
    container = containers(broker)[0]
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    folder = next((mounts[v["name"]]["mountPath"] for v in pod(broker)["volumes"] if "configMap" in v), "")
    found = setting_faults(settings, project)
    found += mount_faults(settings, folder, container["volumeMounts"], pod(broker)["volumes"])
    listening = {str(p["containerPort"]) for p in container["ports"]}
    mqtt = settings.get("mqtt", {}).get("listen", "").rpartition(":")[2]
    return found if mqtt in listening else [*found, f"speaks MQTT at `{mqtt}`, which the container does not name"]


def setting_faults(settings, project):
    """What must hold of every broker of a hub."""
    hub, found = project.hub, []
    for name in ("max_payload", "accounts"):
        found += difference(name, settings.get(name), hub[name])
    found += [
        f"has no `{name}`, which MQTT asks for" for name in ("server_name", "mqtt", "jetstream") if name not in settings
    ]
    if "authorization" in settings:
        found.append("has users outside of the accounts")
    return found


def difference(path, have, want):
    """Where two settings part, by their path. An included file is another one in each place."""
    if path.endswith(".include"):
        return [] if have else [f"`{path}` is missing"]
    if isinstance(want, dict) and isinstance(have, dict):
        found = []
        for key in [*want, *(k for k in have if k not in want)]:
            found += difference(f"{path}.{key}", have.get(key), want.get(key))
        return found
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return [f for i, (h, w) in enumerate(zip(have, want, strict=True)) for f in difference(f"{path}[{i}]", h, w)]
    return [] if have == want else [f"`{path}` is {have}, while config/nats/hub.conf says {want}"]


def mount_faults(settings, folder, mounts, volumes):
    """The file of the devices must lie where it is included from, whole, so that a change arrives."""
    include = settings.get("accounts", {}).get("DEVICES", {}).get("include", "")
    place, name = os.path.split(os.path.normpath(os.path.join(folder, include)))
    if name != "devices.conf":
        return [f"includes `{include}` for devices, where `devices.conf` is what the secret holds"]
    here = [m for m in mounts if m["mountPath"] == place]
    if len(here) != 1 or "subPath" in here[0]:
        return [f"includes {place}/{name}, where no folder is mounted"]
    secrets = [v.get("secret", {}) for v in volumes if v["name"] == here[0]["name"]]
    found = [] if place.startswith(WATCHED) else [f"mounts the devices at {place}, where the reloader does not look"]
    if [s.get("secretName") for s in secrets] != [SECRET]:
        found.append(f"mounts no secret `{SECRET}` at {place}")
    return found


def hub_faults(documents, inside):
    """The hub's own way to the broker."""
    for map_ in of_kind(documents, "ConfigMap"):
        if "dih.toml" not in map_.get("data", {}):
            continue
        try:
            broker = tomllib.loads(map_["data"]["dih.toml"]).get("broker", {})
        except tomllib.TOMLDecodeError:
            return []
        plain = broker.get("url", "").startswith("nats://")
        if not inside and (plain or broker.get("allow_plaintext")):
            return ["dih.toml: `broker.url` is plain, and the broker of the charts speaks TLS"]
        if not inside and "ca_file" not in broker:
            return ["dih.toml: `broker.ca_file` is missing, and no public CA signs a name of the cluster"]
        if inside and not plain:
            return ["dih.toml: `broker.url` is not plain, and the broker beside it has no TLS"]
    return []


def chart_faults(documents, project):
    """Of charts/: the values of NATS, the service for devices and the policies."""
    values = next((d["values"] for d in of_kind(documents, "Values") if d["metadata"]["name"] == "nats"), None)
    if values is None:
        return ["no values for nats"]
    settings = nats_conf.read(nats_conf.written(nats_conf.of_chart(values)))
    found = [f"nats.values.yaml: {fault}" for fault in setting_faults(settings, project)]
    mounts = [o["value"] for o in values.get("container", {}).get("patch", []) if o["path"] == "/volumeMounts/-"]
    volumes = [o["value"] for o in values.get("podTemplate", {}).get("patch", []) if o["path"] == "/spec/volumes/-"]
    found += [f"nats.values.yaml: {fault}" for fault in mount_faults(settings, nats_conf.FOLDER, mounts, volumes)]
    if not values.get("reloader", {}).get("enabled", True):
        found.append("nats.values.yaml: nobody tells the servers of new devices: `reloader` is off")
    for name in DEVICES:
        tls = values.get("config", {}).get(name, {}).get("tls", {})
        if not tls.get("enabled") or tls.get("secretName") != TLS_SECRET:
            found.append(f"nats.values.yaml: speaks {name} without TLS of the secret `{TLS_SECRET}`")
    tls = {key: value for key, value in settings.get("tls", {}).items() if not key.endswith("_file")}
    found += (
        [f"nats.values.yaml: `tls` is {tls}, not {project.tls} as in config/nats/tls.conf"]
        if tls != project.tls
        else []
    )
    return found + door_faults(documents)


def door_faults(documents):
    """Devices reach NATS and MQTT, and nothing else of any namespace."""
    found = []
    doors = [s for s in of_kind(documents, "Service") if s["spec"].get("type", "ClusterIP") != "ClusterIP"]
    if [(s["metadata"]["name"], namespace(s)) for s in doors] != [("devices", "nats")]:
        found.append(f"the services {[title(s) for s in doors]} are open to the outside, not `devices` alone")
    for door in doors:
        opened = {p["targetPort"]: p["port"] for p in door["spec"]["ports"]}
        if opened != DEVICES:
            found.append(f"{title(door)}: opens {opened} to the outside, not {DEVICES}")
    open_to_all = set()
    for policy in of_kind(documents, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if not rule.get("from") or any(
                "ipBlock" in peer or peer == {"namespaceSelector": {}} for peer in rule["from"]
            ):
                open_to_all |= {(namespace(policy), p["port"]) for p in rule.get("ports", [{"port": "all"}])}
    wanted = {("nats", port) for port in DEVICES.values()} if doors else set()
    for space, port in sorted(open_to_all - wanted, key=str):
        found.append(f"policies open the port {port} of {space} to everybody")
    for space, port in sorted(wanted - open_to_all, key=str):
        found.append(f"no policy lets devices in at the port {port} of {space}")
    return found
