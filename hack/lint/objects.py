"""Objects as the scanners see them.

In: files of manifests. Out: objects, their pods, and look-ups among them. Must not: judge.
"""

import pathlib

import yaml

WORKLOADS = {"Deployment", "DaemonSet", "StatefulSet", "Job"}


def load(path):
    return [thing for thing in yaml.safe_load_all(pathlib.Path(path).read_text()) if thing]


def title(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def of_kind(things, *kinds):
    return [thing for thing in things if thing["kind"] in kinds]


def template(thing):
    """Metadata and spec of the pods that an object makes, or None."""
    if thing["kind"] in WORKLOADS:
        return thing["spec"]["template"]["metadata"], thing["spec"]["template"]["spec"]
    if thing["kind"] == "Pod":
        return thing["metadata"], thing["spec"]
    return None


def workloads(things):
    """(object, pod metadata, pod spec) of each object that makes pods."""
    return [(thing, *template(thing)) for thing in things if template(thing)]


def containers(pod):
    return pod.get("containers", []) + pod.get("initContainers", [])


def effective(pod, container, field):
    """A field of the security context: the container's, else the pod's."""
    own = container.get("securityContext", {})
    return own.get(field, pod.get("securityContext", {}).get(field))


def labels(thing):
    return thing["metadata"].get("labels", {})


def selected(things, selector, namespace):
    """Workloads whose pods match `selector` (labels) in `namespace`."""
    return [thing for thing, metadata, _ in workloads(things)
            if thing["metadata"].get("namespace") == namespace
            and selector.items() <= metadata.get("labels", {}).items()]


def policies_of(things, thing):
    """NetworkPolicies that select an object's pods."""
    metadata, _ = template(thing)
    return [policy for policy in of_kind(things, "NetworkPolicy")
            if policy["metadata"].get("namespace") == thing["metadata"].get("namespace")
            and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= metadata.get("labels", {}).items()]


def budgets_of(things, thing):
    metadata, _ = template(thing)
    return [budget for budget in of_kind(things, "PodDisruptionBudget")
            if budget["metadata"].get("namespace") == thing["metadata"].get("namespace")
            and budget["spec"]["selector"]["matchLabels"].items() <= metadata.get("labels", {}).items()]
