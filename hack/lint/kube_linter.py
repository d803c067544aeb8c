"""What kube-linter reports over a set of objects with all its built-in checks that concern them.

kube-linter itself cannot be had from a package registry; its checks are stated here under its own names.
In: all objects of one rendering. Out: reports (check, object). Must not: read files, or know what is justified.
"""

import re

from objects import (budgets_of, containers, effective, labels, of_kind, policies_of, selected, template, title, workloads)

SECRET_NAME = re.compile("secret", re.IGNORECASE)
SENSITIVE_HOST = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
# kinds whose pods live on
LASTING = ("Deployment", "DaemonSet", "StatefulSet")
SECRET_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "*"}
KNOWN_VERSIONS = {"apps/v1", "v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1",
                  "autoscaling/v2", "batch/v1", "admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1",
                  "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "coordination.k8s.io/v1"}


def per_container(test, *kinds):
    """A check that each container must hold."""
    def check(things):
        return [title(thing) for thing, _, pod in workloads(things) if not kinds or thing["kind"] in kinds
                for container in containers(pod) if not test(pod, container)]
    return check


def per_pod(test, *kinds):
    def check(things):
        return [title(thing) for thing, _, pod in workloads(things)
                if (not kinds or thing["kind"] in kinds) and not test(pod)]
    return check


def per_object(test, *kinds):
    def check(things):
        return [title(thing) for thing in of_kind(things, *kinds) if not test(thing, things)]
    return check


def port_declared(probe):
    def test(_, container):
        action = container.get(probe, {})
        port = (action.get("httpGet") or action.get("tcpSocket") or action.get("grpc") or {}).get("port")
        ports = container.get("ports", [])
        return port is None or port in [p["containerPort"] for p in ports] + [p.get("name") for p in ports]
    return test


def amounts(name):
    return lambda pod, c: all(name in c.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))


def envs(test):
    return lambda pod, c: not any(test(env) for env in c.get("env", []))


def host_paths(pod):
    return [volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume]


def writable_host_mount(pod):
    names = {volume["name"] for volume in pod.get("volumes", []) if "hostPath" in volume}
    return any(mount["name"] in names and not mount.get("readOnly")
               for container in containers(pod) for mount in container.get("volumeMounts", []))


def anti_affinity(thing, _):
    if thing["spec"].get("replicas", 1) < 2:
        return True
    wanted = template(thing)[1].get("affinity", {}).get("podAntiAffinity", {})
    return bool(wanted.get("preferredDuringSchedulingIgnoredDuringExecution")
                or wanted.get("requiredDuringSchedulingIgnoredDuringExecution"))


def finds_pods(kind_selector):
    def test(thing, things):
        selector = kind_selector(thing)
        return not selector or bool(selected(things, selector, thing["metadata"].get("namespace")))
    return test


def target_ports(thing, things):
    names = set()
    for workload in selected(things, thing["spec"].get("selector", {}), thing["metadata"].get("namespace")):
        for container in containers(template(workload)[1]):
            for port in container.get("ports", []):
                names |= {port["containerPort"], port.get("name")}
    return all(port.get("targetPort", port["port"]) in names for port in thing["spec"]["ports"])


def account_exists(thing, things):
    name = template(thing)[1].get("serviceAccountName", "default")
    return name == "default" or any(account["metadata"]["name"] == name for account in of_kind(things, "ServiceAccount"))


def selector_matches(thing, _):
    return thing["spec"]["selector"]["matchLabels"].items() <= template(thing)[0].get("labels", {}).items()


def dangling_peer(thing, things):
    """Peers without a namespace selector mean pods of the policy's own namespace."""
    for rule in thing["spec"].get("ingress", []) + thing["spec"].get("egress", []):
        for peer in rule.get("from", []) + rule.get("to", []):
            labels = peer.get("podSelector", {}).get("matchLabels")
            if labels and "namespaceSelector" not in peer:
                if not selected(things, labels, thing["metadata"].get("namespace")):
                    return False
    return True


def rolling(thing, _):
    strategy = thing["spec"].get("strategy", thing["spec"].get("updateStrategy", {}))
    return "rollingUpdate" in strategy or strategy.get("type") == "RollingUpdate"


def rules(test):
    return lambda thing, _: not any(test(rule) for rule in thing["rules"])


def secret_power(rule):
    return "secrets" in rule["resources"] and SECRET_VERBS & set(rule["verbs"])


def pod_maker(rule):
    return {"pods", "deployments"} & set(rule["resources"]) and "create" in rule["verbs"]


def replicas(thing, _):
    return thing["spec"].get("replicas", 1) >= 3


def hpa_exists(thing, things):
    target = thing["spec"]["scaleTargetRef"]
    return any(t["kind"] == target["kind"] and t["metadata"]["name"] == target["name"] for t in things)


def sorted_names(pod, container):
    names = [env["name"] for env in container.get("env", [])]
    return len(names) == len(set(names))


def sorted_keys(value):
    if isinstance(value, list):
        return all(map(sorted_keys, value))
    return not isinstance(value, dict) or (list(value) == sorted(value) and all(map(sorted_keys, value.values())))


def backends_exist(thing, things):
    spec, namespace = thing["spec"], thing["metadata"].get("namespace")
    paths = [path for rule in spec.get("rules", []) for path in rule.get("http", {}).get("paths", [])]
    backends = [path["backend"] for path in paths] + ([spec["defaultBackend"]] if "defaultBackend" in spec else [])
    services = {service["metadata"]["name"] for service in of_kind(things, "Service")
                if service["metadata"].get("namespace") == namespace}
    return all(backend["service"]["name"] in services for backend in backends if "service" in backend)


def monitors_services(thing, things):
    wanted = thing["spec"]["selector"].get("matchLabels", {})
    return any(wanted.items() <= labels(service).items() for service in of_kind(things, "Service"))


DEFAULT = {
    "duplicate-env-var": per_container(sorted_names),
    "dangling-service": per_object(finds_pods(lambda t: t["spec"].get("selector")), "Service"),
    "deprecated-service-account-field": per_pod(lambda pod: "serviceAccount" not in pod),
    "docker-sock": per_pod(lambda pod: not any(path.endswith(".sock") for path in host_paths(pod))),
    "drop-net-raw-capability": per_container(lambda pod, c: {"ALL", "NET_RAW"} & set(
        c.get("securityContext", {}).get("capabilities", {}).get("drop", []))),
    "env-var-secret": per_container(envs(lambda e: SECRET_NAME.search(e["name"]) and "value" in e)),
    "host-ipc": per_pod(lambda pod: not pod.get("hostIPC")),
    "host-network": per_pod(lambda pod: not pod.get("hostNetwork")),
    "host-pid": per_pod(lambda pod: not pod.get("hostPID")),
    "invalid-target-ports": per_object(target_ports, "Service"),
    "job-ttl-seconds-after-finished": per_object(lambda t, _: "ttlSecondsAfterFinished" in t["spec"], "Job"),
    "latest-tag": per_container(lambda pod, c: not c["image"].endswith(":latest")),
    "liveness-port": per_container(port_declared("livenessProbe")),
    "readiness-port": per_container(port_declared("readinessProbe")),
    "startup-port": per_container(port_declared("startupProbe")),
    "mismatching-selector": per_object(selector_matches, *LASTING),
    "no-anti-affinity": per_object(anti_affinity, "Deployment", "StatefulSet"),
    "no-extensions-v1beta": lambda things: [title(t) for t in things if t["apiVersion"] not in KNOWN_VERSIONS],
    "no-read-only-root-fs": per_container(lambda pod, c: effective(pod, c, "readOnlyRootFilesystem") is True),
    "non-existent-service-account": per_object(account_exists, *LASTING, "Pod", "Job"),
    "pdb-max-unavailable": per_object(lambda t, _: t["spec"].get("maxUnavailable") not in (0, "0%"),
                                      "PodDisruptionBudget"),
    "pdb-min-available": per_object(lambda t, _: t["spec"].get("minAvailable") != "100%", "PodDisruptionBudget"),
    "pdb-unhealthy-pod-eviction-policy": per_object(lambda t, _: "unhealthyPodEvictionPolicy" in t["spec"],
                                                    "PodDisruptionBudget"),
    "privilege-escalation-container": per_container(
        lambda pod, c: effective(pod, c, "allowPrivilegeEscalation") is False),
    "privileged-container": per_container(lambda pod, c: not effective(pod, c, "privileged")),
    "run-as-non-root": per_container(lambda pod, c: effective(pod, c, "runAsNonRoot") is True
                                     or (effective(pod, c, "runAsUser") or 0) > 0),
    "sensitive-host-mounts": per_pod(lambda pod: not set(host_paths(pod)) & set(SENSITIVE_HOST)),
    "unsafe-sysctls": per_pod(lambda pod: not pod.get("securityContext", {}).get("sysctls")),
    "unset-cpu-requirements": per_container(amounts("cpu")),
    "unset-memory-requirements": per_container(amounts("memory")),
}
OPTIONAL = {
    "access-to-create-pods": per_object(rules(pod_maker), "ClusterRole", "Role"),
    "access-to-secrets": per_object(rules(secret_power), "ClusterRole", "Role"),
    "cluster-admin-role-binding": per_object(lambda t, _: t["roleRef"]["name"] != "cluster-admin",
                                             "ClusterRoleBinding", "RoleBinding"),
    "dangling-horizontalpodautoscaler": per_object(hpa_exists, "HorizontalPodAutoscaler"),
    "dangling-ingress": per_object(backends_exist, "Ingress"),
    "dangling-networkpolicy": per_object(finds_pods(lambda t: t["spec"]["podSelector"].get("matchLabels")),
                                         "NetworkPolicy"),
    "dangling-networkpolicypeer-podselector": per_object(dangling_peer, "NetworkPolicy"),
    "dangling-servicemonitor": per_object(monitors_services, "ServiceMonitor"),
    "default-service-account": per_pod(lambda pod: pod.get("serviceAccountName", "default") != "default"),
    "dnsconfig-options": per_pod(lambda pod: {"name": "ndots", "value": "2"} in pod.get("dnsConfig", {}).get("options", [])),
    "env-value-from": per_container(envs(lambda e: "secretKeyRef" in e.get("valueFrom", {}))),
    "exposed-services": per_object(lambda t, _: t["spec"].get("type", "ClusterIP") == "ClusterIP", "Service"),
    "hpa-minimum-three-replicas": per_object(lambda t, _: t["spec"].get("minReplicas", 1) >= 3,
                                             "HorizontalPodAutoscaler"),
    "minimum-three-replicas": per_object(replicas, "Deployment"),
    "no-liveness-probe": per_container(lambda pod, c: "livenessProbe" in c, *LASTING),
    "no-node-affinity": per_pod(lambda pod: "nodeAffinity" in pod.get("affinity", {}), *LASTING),
    "no-readiness-probe": per_container(lambda pod, c: "readinessProbe" in c, *LASTING),
    "no-rolling-update-strategy": per_object(rolling, "Deployment", "DaemonSet"),
    "non-isolated-pod": per_object(lambda t, things: bool(policies_of(things, t)), *LASTING, "Pod", "Job"),
    "no-pod-disruption-budget": per_object(lambda t, things: bool(budgets_of(things, t)), "Deployment"),
    "priority-class-name": per_pod(lambda pod: "priorityClassName" in pod),
    "privileged-ports": per_container(lambda pod, c: all(p["containerPort"] >= 1024 for p in c.get("ports", []))),
    "read-secret-from-env-var": per_container(envs(lambda e: "secretKeyRef" in e.get("valueFrom", {}))),
    "required-annotation-email": per_object(lambda t, _: "email" in t["metadata"].get("annotations", {}), *LASTING),
    "required-label-owner": per_object(lambda t, _: "owner" in labels(t), *LASTING),
    "restart-policy": per_pod(lambda pod: pod.get("restartPolicy", "Always") == "Always", *LASTING),
    "sorted-keys": lambda things: [title(t) for t in things if not sorted_keys(t)],
    "ssh-port": per_container(lambda pod, c: all(p["containerPort"] != 22 for p in c.get("ports", []))),
    "unsafe-proc-mount": per_container(lambda pod, c: effective(pod, c, "procMount") in (None, "Default")),
    "use-namespace": lambda things: [title(t) for t in things if t["metadata"].get("namespace") == "default"],
    "wildcard-in-rules": per_object(rules(lambda r: any("*" in r[k] for k in ("resources", "verbs", "apiGroups"))),
                                    "ClusterRole", "Role"),
    "writable-host-mount": per_pod(lambda pod: not writable_host_mount(pod)),
}
CHECKS = DEFAULT | OPTIONAL


def reports(things):
    """Every (check, object) that does not hold."""
    return sorted({(name, where) for name, check in CHECKS.items() for where in check(things)})
