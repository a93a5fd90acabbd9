"""Scalers against the table of consumers: each watches one that there is, and never means the most by mistake."""

from rules import STAGE, is_ours, labels, of_kind, title


def faults(documents, project):
    found, watched = [], []
    deployments = {d["metadata"]["name"]: d for d in of_kind(documents, "Deployment")}
    scaled = of_kind(documents, "ScaledObject")
    for scaler in scaled:
        target = deployments.get(scaler["spec"]["scaleTargetRef"]["name"])
        if target is None:
            found.append(f"{title(scaler)}: scales a Deployment that is not there")
            continue
        stage = labels(target).get(STAGE)
        for trigger in scaler["spec"]["triggers"]:
            watched.append(trigger["metadata"].get("consumer"))
            found += [f"{title(scaler)}: {fault}" for fault in trigger_faults(trigger, stage, documents, project)]
        found += [f"{title(scaler)}: {fault}" for fault in bounds_faults(scaler["spec"])]
    for consumer in project.consumers:
        if watched.count(consumer) != 1:
            found.append(f"the consumer {consumer} is watched by {watched.count(consumer)} scalers, not by one")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scaled]
    for name, deployment in deployments.items():
        if is_ours(deployment) and targets.count(name) != 1:
            found.append(f"{title(deployment)}: is scaled by {targets.count(name)} scalers, not by one")
    return found


def trigger_faults(trigger, stage, documents, project):
    metadata = trigger["metadata"]
    if trigger["type"] != "nats-jetstream":
        return [f"the trigger `{trigger['type']}` is not known to these rules"]
    consumer = metadata.get("consumer")
    if consumer not in project.consumers:
        return [f"watches the consumer `{consumer}`, which topology.rs does not know"]
    stream, of_stage = project.consumers[consumer]
    found = []
    if metadata.get("stream") != stream:
        found.append(f"looks for the consumer {consumer} in `{metadata.get('stream')}`; it reads {stream}")
    if of_stage != stage:
        found.append(f"scales {stage} by the queue of {of_stage}")
    if metadata.get("account") != project.account:
        found.append(f"reads the account `{metadata.get('account')}`; the streams are in {project.account}")
    if int(metadata.get("lagThreshold", 0)) < 1:
        found.append("has no `lagThreshold`")
    # Fallback knows no other kind.
    if trigger.get("metricType", "AverageValue") != "AverageValue":
        found.append("has a metric that `fallback` does not know")
    return found + endpoint_faults(metadata.get("natsServerMonitoringEndpoint", ""), documents)


def endpoint_faults(endpoint, documents):
    """It must lead to every server by itself: a headless service, which charts/ or this overlay brings."""
    host, _, port = endpoint.partition(":")
    parts = host.split(".")
    if (
        port != "8222"
        or len(parts) != 5
        or parts[2:] != ["svc", "cluster", "local"]
        or not parts[0].endswith("-headless")
    ):
        return [f"asks `{endpoint}`, which is no headless service with port 8222"]
    name, space = parts[:2]
    if space == "nats":
        return []
    services = [s for s in of_kind(documents, "Service") if s["metadata"]["name"] == name]
    services = [s for s in services if s["metadata"].get("namespace") == space and s["spec"].get("clusterIP") == "None"]
    known = any(p["port"] == 8222 for s in services for p in s["spec"]["ports"])
    return [] if known else [f"asks `{endpoint}`, which is not there"]


def bounds_faults(spec):
    found = []
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    fallback = spec.get("fallback")
    if fallback is None:
        found.append("has no `fallback`: a monitor that is away would be read as it comes")
    elif not least <= fallback["replicas"] <= most or (fallback["replicas"] == most and most > 1):
        found.append(f"falls back to {fallback['replicas']} replicas of {least} to {most}: not modest")
    if not least <= most:
        found.append(f"scales from {least} to {most}")
    behaviour = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    for way in ("scaleUp", "scaleDown"):
        if not behaviour.get(way, {}).get("stabilizationWindowSeconds") or not behaviour[way].get("policies"):
            found.append(f"has no window and steps for {way}")
    return found
