"""The score that Polaris gives a set of objects, check by check, with its own default severities.

Polaris itself cannot be had from a package registry; its checks are stated here. In: all objects of one rendering. Out:
findings (severity, check, object) and the score: successes count double, so do dangers. Must not: read files.
"""

import re

from objects import (budgets_of, containers, effective, labels, of_kind, policies_of, template, title, workloads)

WARNING, DANGER = "warning", "danger"
SENSITIVE = re.compile(r"token|secret|password|bearer|aws_access_key|aws_secret|azure_client|tls_cert", re.IGNORECASE)
DANGEROUS = {"ALL", "SYS_ADMIN", "NET_ADMIN"}
HARDENED = ("NET_RAW", "ALL")
POWERS = ("pods/exec", "pods/attach")


def pods(test):
    """A check of each pod spec."""
    return lambda things: [(thing, test(pod)) for thing, _, pod in workloads(things)]


def each(test, probes=False):
    """A check of each container; checks of probes leave out pods that only run once."""
    return lambda things: [(thing, test(pod, c)) for thing, _, pod in workloads(things)
                           if not (probes and thing["kind"] in ("Pod", "Job")) for c in containers(pod)]


def whole(kind, test):
    return lambda things: [(thing, test(thing, things)) for thing in of_kind(things, *kind)]


def has(kind, name):
    return each(lambda pod, c: name in c.get("resources", {}).get(kind, {}))


def caps(container, which):
    return set(container.get("securityContext", {}).get("capabilities", {}).get(which, []))


def tagged(container):
    image = container["image"]
    return "@" in image or (":" in image.rpartition("/")[2] and not image.endswith(":latest"))


def spread(thing, _):
    return bool(template(thing)[1].get("topologySpreadConstraints"))


def budget(thing, things):
    return bool(budgets_of(things, thing))


def no_block(thing, _):
    return thing["spec"].get("maxUnavailable") not in (0, "0%") and thing["spec"].get("minAvailable") != "100%"


def guarded(thing, things):
    return bool(policies_of(things, thing))


def instance(thing, _):
    return labels(thing).get("app.kubernetes.io/instance") == thing["metadata"]["name"]


def no_power(thing, _):
    return not any(power in rule["resources"] for rule in thing["rules"] for power in (*POWERS, "*"))


def no_admin(thing, _):
    return thing["roleRef"]["name"] != "cluster-admin"


def no_literal(pod, container):
    return not any(SENSITIVE.search(e["name"]) and "value" in e for e in container.get("env", []))


def no_sensitive_data(thing, _):
    return not any(SENSITIVE.search(key) for key in thing.get("data", {}))


def scaled_by(autoscaler):
    return autoscaler["spec"]["scaleTargetRef"]["name"], autoscaler["metadata"].get("namespace")


def room_to_evict(thing, things):
    """A budget that keeps as many pods as an autoscaler may go down to lets none go."""
    least = thing["spec"].get("minAvailable")
    if not isinstance(least, int):
        return True
    mine = {(t["metadata"]["name"], t["metadata"].get("namespace")) for t in of_kind(things, "Deployment")
            if thing in budgets_of(things, t)}
    return all(least < scaler["spec"].get("minReplicas", 1) for scaler in of_kind(things, "HorizontalPodAutoscaler")
               if scaled_by(scaler) in mine)


def host_process(pod):
    contexts = [pod, *containers(pod)]
    return any(c.get("securityContext", {}).get("windowsOptions", {}).get("hostProcess") for c in contexts)


MAKES_PODS = ("Deployment", "DaemonSet", "StatefulSet")
CHECKS = [
    (WARNING, "deploymentMissingReplicas", whole(("Deployment",), lambda t, all: "replicas" not in t["spec"]
                                                 or t["spec"]["replicas"] > 1)),
    (WARNING, "priorityClassNotSet", pods(lambda pod: "priorityClassName" in pod)),
    (DANGER, "tagNotSpecified", each(lambda pod, c: tagged(c))),
    (WARNING, "pullPolicyNotAlways", each(lambda pod, c: c.get("imagePullPolicy") == "Always")),
    (WARNING, "readinessProbeMissing", each(lambda pod, c: "readinessProbe" in c, probes=True)),
    (WARNING, "livenessProbeMissing", each(lambda pod, c: "livenessProbe" in c, probes=True)),
    (WARNING, "metadataAndInstanceMismatched", whole(MAKES_PODS, instance)),
    (WARNING, "missingPodDisruptionBudget", whole(("Deployment",), budget)),
    (WARNING, "pdbDisruptionsIsZero", whole(("PodDisruptionBudget",), no_block)),
    (WARNING, "topologySpreadConstraint", whole(("Deployment",), spread)),
    (WARNING, "hpaMinAvailability", whole(("HorizontalPodAutoscaler",), lambda t, all: t["spec"]["minReplicas"] > 1)),
    (WARNING, "hpaMaxAvailability", whole(("HorizontalPodAutoscaler",), lambda t, all:
                                          t["spec"]["maxReplicas"] > t["spec"].get("minReplicas", 1))),
    (WARNING, "pdbMinAvailableGreaterThanHPAMinReplicas", whole(("PodDisruptionBudget",), room_to_evict)),
    (WARNING, "cpuRequestsMissing", has("requests", "cpu")),
    (WARNING, "cpuLimitsMissing", has("limits", "cpu")),
    (WARNING, "memoryRequestsMissing", has("requests", "memory")),
    (WARNING, "memoryLimitsMissing", has("limits", "memory")),
    (WARNING, "automountServiceAccountToken", pods(lambda pod: pod.get("automountServiceAccountToken") is False)),
    (DANGER, "hostIPCSet", pods(lambda pod: not pod.get("hostIPC"))),
    (DANGER, "hostPIDSet", pods(lambda pod: not pod.get("hostPID"))),
    (DANGER, "hostProcess", pods(lambda pod: not host_process(pod))),
    (WARNING, "hostNetworkSet", pods(lambda pod: not pod.get("hostNetwork"))),
    (WARNING, "hostPathSet", pods(lambda pod: not any("hostPath" in v for v in pod.get("volumes", [])))),
    (WARNING, "hostPortSet", each(lambda pod, c: not any("hostPort" in p for p in c.get("ports", [])))),
    (DANGER, "procMount", each(lambda pod, c: effective(pod, c, "procMount") in (None, "Default"))),
    (WARNING, "linuxHardening", each(lambda pod, c: bool(caps(c, "drop") & set(HARDENED))
                                     or effective(pod, c, "seccompProfile") is not None)),
    (WARNING, "missingNetworkPolicy", whole((*MAKES_PODS, "Pod", "Job"), guarded)),
    (WARNING, "notReadOnlyRootFilesystem", each(lambda pod, c: effective(pod, c, "readOnlyRootFilesystem") is True)),
    (DANGER, "privilegeEscalationAllowed", each(lambda pod, c: effective(pod, c, "allowPrivilegeEscalation") is False)),
    (DANGER, "runAsRootAllowed", each(lambda pod, c: effective(pod, c, "runAsNonRoot") is True
                                      or (effective(pod, c, "runAsUser") or 0) > 0)),
    (DANGER, "runAsPrivileged", each(lambda pod, c: not effective(pod, c, "privileged"))),
    (DANGER, "dangerousCapabilities", each(lambda pod, c: not caps(c, "add") & DANGEROUS)),
    (WARNING, "insecureCapabilities", each(lambda pod, c: "ALL" in caps(c, "drop") and not caps(c, "add"))),
    (DANGER, "sensitiveContainerEnvVar", each(no_literal)),
    (DANGER, "sensitiveConfigmapContent", whole(("ConfigMap",), no_sensitive_data)),
    (DANGER, "clusterrolePodExecAttach", whole(("ClusterRole", "Role"), no_power)),
    (DANGER, "clusterrolebindingClusterAdmin", whole(("ClusterRoleBinding", "RoleBinding"), no_admin)),
    (WARNING, "tlsSettingsMissing", whole(("Ingress",), lambda t, all: bool(t["spec"].get("tls")))),
]


def findings(things):
    """Every (severity, check, object) that does not hold, and how many do."""
    found, held = [], 0
    for severity, name, check in CHECKS:
        for thing, fine in check(things):
            if fine:
                held += 1
            else:
                found.append((severity, name, title(thing)))
    return found, held


def score(found, held):
    """0 to 100, as Polaris counts."""
    warnings = sum(severity == WARNING for severity, *_ in found)
    dangers = len(found) - warnings
    return int(100 * 2 * held / (2 * held + warnings + 2 * dangers))
