"""Rules for rendered manifests: the second half of hack/chart-test.sh.

In: a directory of rendered charts. Out: one line per rule; exit 1 with the object that breaks one.
Must not: know anything about values; it judges what would reach the cluster.
"""

import pathlib
import sys

import yaml

INSTALLER = "screenshot-operator-seccomp-installer"
FORBIDDEN_RESOURCES = {"nodes", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "pods/exec",
                       "pods/attach", "pods/portforward", "customresourcedefinitions"}
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate"}


class Broken(Exception):
    """A rule does not hold; the message names the object."""


def require(condition, message):
    if not condition:
        raise Broken(message)


def title(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def of_kind(things, *kinds):
    return [thing for thing in things if thing["kind"] in kinds]


def is_installer(thing):
    return thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == INSTALLER


def every_container_is_confined(things):
    for workload in of_kind(things, "Deployment", "DaemonSet"):
        pod = workload["spec"]["template"]["spec"]
        require(pod["automountServiceAccountToken"] is False, f"{title(workload)} automounts a token")
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            require(not pod.get(name), f"{title(workload)} has {name}")
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            where = f"{title(workload)} container {container['name']}"
            require(context["allowPrivilegeEscalation"] is False, f"{where} may escalate")
            require(context["readOnlyRootFilesystem"] is True, f"{where} has a writable root")
            require(context["capabilities"] == {"drop": ["ALL"]}, f"{where} has capabilities")
            require(context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{where} has no seccomp profile")
            require(not context.get("privileged"), f"{where} is privileged")
            require({"requests", "limits"} <= set(container["resources"]), f"{where} has no resources")


def only_the_installer_is_root_or_sees_the_node(things):
    for workload in of_kind(things, "Deployment", "DaemonSet"):
        pod = workload["spec"]["template"]["spec"]
        host_paths = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
        if is_installer(workload):
            require(len(host_paths) == 1 and host_paths[0].endswith("/seccomp"), f"{title(workload)}: {host_paths}")
            require("serviceAccountName" not in pod, f"{title(workload)} has an account")
            continue
        require(not host_paths, f"{title(workload)} mounts {host_paths}")
        require(pod["securityContext"]["runAsNonRoot"] is True, f"{title(workload)} may run as root")
        require(pod["securityContext"]["runAsUser"] == 65532, f"{title(workload)} runs as another user")
        for container in pod["containers"]:
            require(container["securityContext"]["runAsNonRoot"] is True, f"{title(workload)} may run as root")


def selectors_find_their_own_pods_alone(things):
    workloads = of_kind(things, "Deployment", "DaemonSet")
    for one in workloads:
        selector = one["spec"]["selector"]["matchLabels"].items()
        for other in workloads:
            found = selector <= other["spec"]["template"]["metadata"]["labels"].items()
            require(found == (one is other), f"the selector of {title(one)} and the pods of {title(other)}")


def rules_stay_small(things):
    for role in of_kind(things, "ClusterRole", "Role"):
        for rule in role["rules"]:
            for key in ("apiGroups", "resources", "verbs"):
                require("*" not in rule[key], f"{title(role)} has a wildcard in {key}")
            require(not FORBIDDEN_RESOURCES & set(rule["resources"]), f"{title(role)}: {rule['resources']}")
            require(not FORBIDDEN_VERBS & set(rule["verbs"]), f"{title(role)}: {rule['verbs']}")
            if "aggregate" in str(role["metadata"]["labels"]):
                require("secrets" not in rule["resources"], f"{title(role)} shows Secrets")
            else:
                writes_spec = "screenshotservices" in rule["resources"] and {"patch", "update"} & set(rule["verbs"])
                require(not writes_spec, f"{title(role)} writes the spec of services")


def every_object_says_whose_it_is(things):
    for thing in things:
        labels = thing["metadata"].get("labels", {})
        require(labels.get("app.kubernetes.io/part-of") == "screenshot-operator", f"{title(thing)} has no part-of")
        require(all(isinstance(value, str) for value in labels.values()), f"{title(thing)} has a label of another type")


def the_definition_is_the_generated_one(things):
    for crd in of_kind(things, "CustomResourceDefinition"):
        annotations = crd["metadata"].get("annotations", {})
        require(annotations.pop("helm.sh/resource-policy", None) == "keep", f"{title(crd)} is not kept")
        if not annotations:
            crd["metadata"].pop("annotations", None)
        sources = [yaml.safe_load(path.read_text()) for path in pathlib.Path("crds").glob("*.yaml")]
        require(crd in sources, f"{title(crd)} differs from crds/")


def the_installer_has_a_profile_for_each_architecture(things):
    for config in of_kind(things, "ConfigMap"):
        for name in ("capture-jail-x86_64.json", "capture-jail-aarch64.json"):
            profile = yaml.safe_load(config.get("data", {}).get(name) or "{}")
            require(profile.get("defaultAction") == "SCMP_ACT_ERRNO", f"{title(config)} has no {name}")
            require(len(profile.get("architectures", [])) == 1, f"{title(config)}: {name} is for several architectures")


RULES = [every_container_is_confined, only_the_installer_is_root_or_sees_the_node, selectors_find_their_own_pods_alone,
         rules_stay_small, every_object_says_whose_it_is, the_definition_is_the_generated_one,
         the_installer_has_a_profile_for_each_architecture]


def main(directory):
    rendered = {path.stem: [thing for thing in yaml.safe_load_all(path.read_text()) if thing]
                for path in sorted(pathlib.Path(directory).glob("*.yaml"))}
    require(len(rendered) >= 4 and all(rendered.values()), f"renderings: {sorted(rendered)}")
    kinds = {title(thing).split("/")[0] for thing in rendered["matrix-minimal"]}
    require(not kinds & {"DaemonSet", "NetworkPolicy", "CustomResourceDefinition"}, f"minimal renders {sorted(kinds)}")
    for rule in RULES:
        for name, things in rendered.items():
            try:
                rule(things)
            except (Broken, KeyError, TypeError) as broken:
                raise Broken(f"{rule.__name__} ({name}): {broken!r}") from broken
        print("chart-test: ok:", rule.__name__.replace("_", " "))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Broken as broken:
        sys.exit(f"chart-test: {broken}")
