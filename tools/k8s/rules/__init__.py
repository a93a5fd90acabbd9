"""What this project promises of its manifests, one file a subject. Each gives `faults(documents, project)`."""


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def title(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def namespace(document):
    return document["metadata"].get("namespace", "default")


def labels(document):
    return document["metadata"].get("labels", {})


def pod(workload):
    return workload["spec"]["template"]["spec"]


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"].get("labels", {})


def containers(workload):
    return pod(workload).get("initContainers", []) + pod(workload)["containers"]


def selects(selector, wanted):
    """Whether a selector by labels takes these; an empty one takes all."""
    return set(selector.get("matchLabels", {}).items()) <= set(wanted.items())


WORKLOADS = ("Deployment", "StatefulSet", "Job")
STAGE = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"


def is_ours(workload):
    return pod_labels(workload).get(NAME) == "dih"
