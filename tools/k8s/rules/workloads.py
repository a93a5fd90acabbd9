"""How pods run: probes, requests, rights, time to end, budgets, GPUs."""

import re
import tomllib

from rules import (
    NAME,
    STAGE,
    WORKLOADS,
    containers,
    is_ours,
    labels,
    namespace,
    of_kind,
    pod,
    pod_labels,
    selects,
    title,
)

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
SEEING = {"verify", "embed", "train"}
GPU = "nvidia.com/gpu"


def faults(documents, project):
    found = []
    workloads = of_kind(documents, *WORKLOADS)
    for workload in workloads:
        found += [f"{title(workload)}: {fault}" for fault in workload_faults(workload, documents, project)]
    stages = {labels(w).get(STAGE) for w in of_kind(documents, "Deployment") if is_ours(w)}
    found += [f"no Deployment for the stage {stage}" for stage in sorted(project.stages - stages)]
    found += [f"a Deployment for {stage}, which is no stage" for stage in sorted(stages - project.stages)]
    found += [fault for space in of_kind(documents, "Namespace") for fault in namespace_faults(space)]
    return found


def workload_faults(workload, documents, project):
    spec = pod(workload)
    found = pod_faults(spec)
    for container in containers(workload):
        found += [f"{container['name']}: {fault}" for fault in container_faults(container)]
    if workload["kind"] != "Job":
        for container in spec["containers"]:
            found += [f"{container['name']}: {fault}" for fault in probe_faults(container)]
    if is_ours(workload) and workload["kind"] != "Job":
        drain = project.drain_s
        if spec.get("terminationGracePeriodSeconds", 30) <= drain:
            found.append(f"ends within `runner.drain`, {drain} s: work in hand would be cut off")
    if workload["kind"] == "StatefulSet" and workload["spec"].get("podManagementPolicy") != "Parallel":
        found.append("has no `podManagementPolicy: Parallel`: it would not try the correction of what cannot start")
    if workload["kind"] == "Deployment":
        found += deployment_faults(workload, documents)
        found += gpu_faults(workload, documents)
    return found


def pod_faults(spec):
    security = spec.get("securityContext", {})
    wanted = {
        "may run as root": security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0,
        "has no seccomp profile": security.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "is given a token of the cluster": spec.get("automountServiceAccountToken") is False,
        "shares the node's network or processes": not any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")),
        "mounts a folder of the node": not any("hostPath" in volume for volume in spec.get("volumes", [])),
    }
    return [fault for fault, holds in wanted.items() if not holds]


def container_faults(container):
    security = container.get("securityContext", {})
    resources = container.get("resources", {})
    wanted = {
        "may gain rights": security.get("allowPrivilegeEscalation") is False,
        "writes to its root": security.get("readOnlyRootFilesystem") is True,
        "keeps capabilities": security.get("capabilities", {}).get("drop") == ["ALL"]
        and not security["capabilities"].get("add"),
        "is privileged": not security.get("privileged"),
        "may run as root": security.get("runAsNonRoot", True) and security.get("runAsUser", 1) > 0,
        "requests no CPU and memory": {"cpu", "memory"} <= set(resources.get("requests", {})),
        "has no limit of memory": "memory" in resources.get("limits", {}),
        f"has an image without an exact tag: {container['image']}": re.search(
            r":v?\d+\.\d+[\w.-]*$", container["image"]
        ),
    }
    return [fault for fault, holds in wanted.items() if not holds]


def probe_faults(container):
    found = [f"has no {probe}" for probe in PROBES if probe not in container]
    ports = {port["name"] for port in container.get("ports", [])}
    for probe in PROBES:
        for how in ("httpGet", "tcpSocket"):
            port = container.get(probe, {}).get(how, {}).get("port")
            if port is not None and port not in ports:
                found.append(f"{probe} asks the port `{port}`, which the container does not name")
    return found


def deployment_faults(workload, documents):
    found = []
    budgets = [b for b in of_kind(documents, "PodDisruptionBudget") if namespace(b) == namespace(workload)]
    mine = [b for b in budgets if selects(b["spec"]["selector"], pod_labels(workload))]
    if len(mine) != 1:
        found.append(f"is meant by {len(mine)} disruption budgets, not by one")
    spread = pod(workload).get("topologySpreadConstraints", [])
    if {c["topologyKey"] for c in spread} != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
        found.append("is not spread over nodes and zones")
    if any(c["labelSelector"].get("matchLabels") != workload["spec"]["selector"]["matchLabels"] for c in spread):
        found.append("is spread by other labels than its own")
    if "replicas" in workload["spec"]:
        found.append("names `replicas`, which are the scaler's")
    if "$(DIH_STAGE)" in str(pod(workload)["containers"][0].get("args")):
        if pod_labels(workload).get(STAGE) is None or pod_labels(workload).get(NAME) != "dih":
            found.append("takes its stage from a label that it lacks")
    return found


def gpu_faults(workload, documents):
    """A GPU is asked for by all who look at pictures, or by none, as the configuration says."""
    stage = labels(workload).get(STAGE)
    spec = pod(workload)
    resources = [c.get("resources", {}) for c in spec["containers"]]
    has = any(GPU in r.get("limits", {}) for r in resources)
    wants = stage in SEEING and provider(documents) != "cpu"
    if has != wants:
        return [f"{'has a' if has else 'lacks the'} GPU, while `inference.provider` is `{provider(documents)}`"]
    found = []
    if has and not any(t.get("key") == GPU for t in spec.get("tolerations", [])):
        found.append("does not tolerate GPU nodes")
    if has and f"{GPU}.present" not in spec.get("nodeSelector", {}):
        found.append("may land on a node without a GPU")
    return found


def provider(documents):
    for map_ in of_kind(documents, "ConfigMap"):
        if "dih.toml" in map_.get("data", {}):
            try:
                return tomllib.loads(map_["data"]["dih.toml"]).get("inference", {}).get("provider", "cpu")
            except tomllib.TOMLDecodeError:
                return "unreadable"
    return "cpu"


def namespace_faults(space):
    level = labels(space).get("pod-security.kubernetes.io/enforce")
    return [] if level == "restricted" else [f"{title(space)}: does not enforce restricted pods"]
