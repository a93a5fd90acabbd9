"""The configuration file in its map, and the secrets that it names."""

import re
import tomllib

from rules import WORKLOADS, is_ours, of_kind, pod, title

# Keys of `dih-secrets`; docs/kubernetes.md makes it.
SECRET_KEYS = {"broker_password", "broker_ca", "qdrant_api_key", "s3_secret_access_key"}
SECRETS = "/run/secrets/dih/"


def faults(documents, project):
    found = [f"{title(d)}: a secret does not belong into the repository" for d in of_kind(documents, "Secret")]
    maps = {d["metadata"]["name"]: d.get("data", {}) for d in of_kind(documents, "ConfigMap")}
    files = [data["dih.toml"] for data in maps.values() if "dih.toml" in data]
    if len(files) != 1:
        return [*found, f"there are {len(files)} files dih.toml, not one"]
    for workload in of_kind(documents, *WORKLOADS):
        found += [f"{title(workload)}: {fault}" for fault in reference_faults(workload, maps)]
    return found + [f"dih.toml: {fault}" for fault in file_faults(files[0], project)]


def file_faults(text, project):
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [f"is no TOML: {error}"]
    found = []
    for path, value in flat(settings):
        section, _, key = path.rpartition(".")
        if key not in project.settings.get(section, ()):
            found.append(f"`{path}` is no setting that config/dih.toml knows")
        if key.endswith("_file") and (not value.startswith(SECRETS) or value.removeprefix(SECRETS) not in SECRET_KEYS):
            found.append(f"`{path}` is no key of the secret")
        if isinstance(value, str) and re.search(r"://[^/]*:[^/]*@", value):
            found.append(f"`{path}` holds a password")
    drain = settings.get("runner", {}).get("drain")
    if drain is not None:
        found.append(
            "`runner.drain` is changed: teach tools/k8s/rules/workloads.py to read it, and look at grace periods"
        )
    return found


def flat(table, path=()):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def reference_faults(workload, maps):
    found = []
    spec = pod(workload)
    for volume in spec.get("volumes", []):
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            found.append(f"mounts the map {volume['configMap']['name']}, which is not there")
    for container in spec["containers"]:
        for variable in container.get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret and (secret["name"] != "dih-secrets" or secret["key"] not in SECRET_KEYS):
                found.append(f"{variable['name']} is no key of the secret")
    if is_ours(workload) and not any(v.get("secret", {}).get("secretName") == "dih-secrets" for v in spec["volumes"]):
        found.append("does not mount the secret")
    return found
