"""The points that kubesec v2 gives, rule by rule, for an object that makes pods.

kubesec itself cannot be had from a package registry; its rules are stated here. A point is given once, however many
containers there are; to be strict, all containers must earn it, where kubesec is content with one.
In: an object. Out: points and what is missing. Must not: read files.
"""

from objects import containers, effective, template

HIGH = 10000


def every(pod, test):
    return all(test(container) for container in containers(pod))


def amount(kind, name):
    return lambda pod: every(pod, lambda c: name in c.get("resources", {}).get(kind, {}))


def number_above(field):
    return lambda pod: every(pod, lambda c: (effective(pod, c, field) or 0) > HIGH)


def dropped(pod, test):
    return every(pod, lambda c: test(c.get("securityContext", {}).get("capabilities", {}).get("drop", [])))


# Points, what for, and whether a pod has it.
GOOD = [
    (1, "read-only root filesystem", lambda pod: every(pod, lambda c: effective(pod, c, "readOnlyRootFilesystem") is True)),
    (1, "runs as non-root", lambda pod: every(pod, lambda c: effective(pod, c, "runAsNonRoot") is True)),
    (1, "high user id", number_above("runAsUser")),
    (1, "high group id", number_above("runAsGroup")),
    (1, "drops capabilities", lambda pod: dropped(pod, bool)),
    (1, "drops all capabilities", lambda pod: dropped(pod, lambda drop: "ALL" in drop)),
    (1, "CPU request", amount("requests", "cpu")),
    (1, "CPU limit", amount("limits", "cpu")),
    (1, "memory request", amount("requests", "memory")),
    (1, "memory limit", amount("limits", "memory")),
    (3, "service account", lambda pod: bool(pod.get("serviceAccountName"))),
    (1, "seccomp profile", lambda pod: every(
        pod, lambda c: (effective(pod, c, "seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"))),
    (3, "AppArmor profile", lambda pod: every(pod, lambda c: effective(pod, c, "appArmorProfile") is not None)),
    (1, "no automatic token", lambda pod: pod.get("automountServiceAccountToken") is False),
    (1, "user namespace", lambda pod: pod.get("hostUsers") is False),
]
BAD = [
    (-30, "privileged", lambda c: c.get("securityContext", {}).get("privileged") is True),
    (-30, "CAP_SYS_ADMIN", lambda c: "SYS_ADMIN" in c.get("securityContext", {}).get("capabilities", {}).get("add", [])),
    (-7, "may escalate", lambda c: c.get("securityContext", {}).get("allowPrivilegeEscalation") is not False),
    (-5, "Secret in the environment", lambda c: any("secretKeyRef" in e.get("valueFrom", {}) for e in c.get("env", []))),
]
BAD_PODS = [(-9, f, lambda pod, f=f: pod.get(f) is True) for f in ("hostNetwork", "hostPID", "hostIPC")] + [
    (-9, "the runtime's socket", lambda pod: any(
        v.get("hostPath", {}).get("path", "").endswith(".sock") for v in pod.get("volumes", []))),
    (-3, "host aliases", lambda pod: bool(pod.get("hostAliases"))),
]
MAXIMUM = sum(points for points, _, _ in GOOD)


def score(thing):
    """(points, what is missing or costs points)."""
    _, pod = template(thing)
    total, missing = 0, []
    for points, what, test in GOOD:
        if test(pod):
            total += points
        else:
            missing.append(what)
    for points, what, test in BAD_PODS:
        if test(pod):
            total += points
            missing.append(what)
    for points, what, test in BAD:
        if any(test(container) for container in containers(pod)):
            total += points
            missing.append(what)
    return total, missing
