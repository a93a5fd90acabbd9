"""Fields and types of every object, by the schemas of Kubernetes, KEDA and the Prometheus operator.

Takes    objects. Gives one fault a wrong, missing or unknown field; an unknown kind is a fault, not a warning.
"""

import functools
import json
import warnings

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

KUBERNETES = "1.37"
# Read once, not once an object.
utils.schema_contents = functools.cache(utils.schema_contents)


def schema_faults(documents):
    return [f"{name(document)}: {fault}" for document in documents for fault in faults_of(document)]


def name(document):
    return f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"


def faults_of(document):
    group = document.get("apiVersion", "").split("/")[0]
    own = {"keda.sh": keda, "monitoring.coreos.com": prometheus_operator}.get(group)
    if own:
        validator = own().get(document["kind"])
        if validator is None:
            return [f"no schema of {document['kind']}"]
        return [told(error) for error in validator.iter_errors(document)]
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except jsonschema.ValidationError as error:
        return [told(error)]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def told(error):
    error = jsonschema.exceptions.best_match([error])
    return f"{'.'.join(map(str, error.absolute_path)) or 'the object'}: {error.message[:200]}"


@functools.cache
def keda():
    from cloudcoil.models.keda import v1alpha1

    return {"ScaledObject": strict(v1alpha1.ScaledObject)}


@functools.cache
def prometheus_operator():
    from cloudcoil.models.prometheus_operator import v1

    return {"PodMonitor": strict(v1.PodMonitor)}


def strict(model):
    """The schema of a model, which by itself lets unknown fields through, and null where a field may be left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = model.model_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        if "properties" in part:
            part.setdefault("additionalProperties", False)
        for value in part.get("properties", {}).values():
            if "anyOf" in value:
                value["anyOf"] = [option for option in value["anyOf"] if option != {"type": "null"}]
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))
