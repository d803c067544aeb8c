"""Rules for rendered manifests: the second half of hack/chart-test.sh.

In: a directory of rendered charts. Out: one line per rule; exit 1 with the object that breaks one.
Must not: know templates; it judges what would reach the cluster, and whether the values under ci/ turn every switch.
"""

import pathlib
import sys

import yaml

CHART = pathlib.Path("charts/screenshot-operator")
INSTALLER = "screenshot-operator-seccomp-installer"
FORBIDDEN_RESOURCES = {"nodes", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "pods/exec",
                       "pods/attach", "pods/portforward", "customresourcedefinitions"}
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate"}
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "ValidatingAdmissionPolicy",
                  "ValidatingAdmissionPolicyBinding"}
# Who has no right in any namespace, and who shows users what they may ask for.
GRANTED_BY_USERS = ("-exemptions", "-view", "-edit")


class Broken(Exception):
    """A rule does not hold; the message names the object."""


def require(condition, message):
    if not condition:
        raise Broken(message)


def title(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def of_kind(things, *kinds):
    return [thing for thing in things if thing["kind"] in kinds]


def pods(things):
    """Every pod that the objects make: (object, metadata, spec)."""
    for thing in of_kind(things, "Deployment", "DaemonSet", "Job"):
        template = thing["spec"]["template"]
        yield thing, template["metadata"], template["spec"]


def is_installer(thing):
    return thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == INSTALLER


def every_container_is_confined(things):
    for thing, _, pod in pods(things):
        require(pod["automountServiceAccountToken"] is False, f"{title(thing)} automounts a token")
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            require(not pod.get(name), f"{title(thing)} has {name}")
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            where = f"{title(thing)} container {container['name']}"
            require(context["allowPrivilegeEscalation"] is False, f"{where} may escalate")
            require(context["readOnlyRootFilesystem"] is True, f"{where} has a writable root")
            require(context["capabilities"] == {"drop": ["ALL"]}, f"{where} has capabilities")
            require(context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{where} has no seccomp profile")
            require(not context.get("privileged"), f"{where} is privileged")
            require({"requests", "limits"} <= set(container["resources"]), f"{where} has no resources")


def only_the_installer_is_root_or_sees_the_node(things):
    for thing, _, pod in pods(things):
        host_paths = [volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume]
        if is_installer(thing):
            require(len(host_paths) == 1 and host_paths[0].endswith("/seccomp"), f"{title(thing)}: {host_paths}")
            bound = {subject["name"] for binding in of_kind(things, "RoleBinding", "ClusterRoleBinding")
                     for subject in binding["subjects"]}
            require(pod["serviceAccountName"] not in bound, f"{title(thing)} has a right")
            continue
        require(not host_paths, f"{title(thing)} mounts {host_paths}")
        require(pod["securityContext"]["runAsNonRoot"] is True, f"{title(thing)} may run as root")
        require(pod["securityContext"].get("runAsUser") != 0, f"{title(thing)} runs as root")
        for container in pod["containers"]:
            require(container["securityContext"]["runAsNonRoot"] is True, f"{title(thing)} may run as root")
            require(container["securityContext"].get("runAsUser") != 0, f"{title(thing)} runs as root")


def selectors_find_their_own_pods_alone(things):
    for one in of_kind(things, "Deployment", "DaemonSet"):
        selector = one["spec"]["selector"]["matchLabels"].items()
        for other, metadata, _ in pods(things):
            found = selector <= metadata["labels"].items()
            require(found == (one is other), f"the selector of {title(one)} and the pods of {title(other)}")
    for budget in of_kind(things, "PodDisruptionBudget", "Service"):
        selector = budget["spec"]["selector"]
        selector = selector.get("matchLabels", selector).items()
        found = {title(thing) for thing, metadata, _ in pods(things) if selector <= metadata["labels"].items()}
        require({name.split("/")[0] for name in found} == {"Deployment"}, f"{title(budget)} finds {sorted(found)}")


def rules_stay_small(things):
    for role in of_kind(things, "ClusterRole", "Role"):
        for rule in role["rules"]:
            for key in ("apiGroups", "resources", "verbs"):
                require("*" not in rule[key], f"{title(role)} has a wildcard in {key}")
            # Which addresses are the cluster's own is read from its nodes, and nothing more is done with them.
            reads_addresses = role["metadata"]["name"].endswith("-addresses") and rule["verbs"] == ["list", "watch"]
            forbidden = FORBIDDEN_RESOURCES - ({"nodes"} if reads_addresses else set())
            require(not forbidden & set(rule["resources"]), f"{title(role)}: {rule['resources']}")
            require(not FORBIDDEN_VERBS & set(rule["verbs"]), f"{title(role)}: {rule['verbs']}")
            if role["metadata"]["name"].endswith(GRANTED_BY_USERS):
                require("secrets" not in rule["resources"], f"{title(role)} shows Secrets")
            else:
                writes_spec = "screenshotservices" in rule["resources"] and {"patch", "update"} & set(rule["verbs"])
                require(not writes_spec, f"{title(role)} writes the spec of services")
                require("use" not in rule["verbs"], f"{title(role)} may use exemptions")


def exemptions_are_granted_by_nobody_but_the_user(things):
    bound = {binding["roleRef"]["name"] for binding in of_kind(things, "ClusterRoleBinding", "RoleBinding")}
    for role in of_kind(things, "ClusterRole", "Role"):
        if any("use" in rule["verbs"] for rule in role["rules"]):
            require(role["metadata"]["name"] not in bound, f"{title(role)} is bound")
            require("aggregate" not in str(role["metadata"]["labels"]), f"{title(role)} is aggregated")


def a_replica_leads_by_its_own_lease_alone(things):
    for role in of_kind(things, "Role"):
        for rule in role["rules"]:
            if "leases" in rule["resources"] and rule["verbs"] != ["create"]:
                name = role["metadata"]["name"].removesuffix("-leader")
                require(rule["resourceNames"] == [name], f"{title(role)}: {rule}")
                arguments = of_kind(things, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
                require(f"--lease-name={name}" in arguments, f"the operator's arguments: {arguments}")


def every_object_says_whose_it_is(things):
    for thing in things:
        labels = thing["metadata"].get("labels", {})
        if title(thing) == "ConfigMap/extra":
            continue  # the user's own
        require(labels.get("app.kubernetes.io/part-of") == "screenshot-operator", f"{title(thing)} has no part-of")
        require(all(isinstance(value, str) for value in labels.values()), f"{title(thing)} has a label of another type")
        namespaced = "namespace" in thing["metadata"]
        require(namespaced == (thing["kind"] not in CLUSTER_SCOPED), f"{title(thing)}: namespace")


def the_definition_is_the_generated_one(things):
    for crd in of_kind(things, "CustomResourceDefinition"):
        annotations = crd["metadata"].pop("annotations", {})
        kept = annotations.get("helm.sh/resource-policy")
        require(kept in ("keep", None), f"{title(crd)}: {kept}")
        sources = [yaml.safe_load(path.read_text()) for path in pathlib.Path("crds").glob("*.yaml")]
        require(crd in sources, f"{title(crd)} differs from crds/")


def the_installer_has_a_profile_for_each_architecture(things):
    for config in of_kind(things, "ConfigMap"):
        if not config["metadata"]["name"].endswith("-seccomp"):
            continue
        for name in ("capture-jail-x86_64.json", "capture-jail-aarch64.json"):
            profile = yaml.safe_load(config["data"][name])
            require(profile.get("defaultAction") == "SCMP_ACT_ERRNO", f"{title(config)} has no {name}")
            require(len(profile.get("architectures", [])) == 1, f"{title(config)}: {name} is for several architectures")


def the_test_is_the_only_hook(things):
    for thing in things:
        hooks = {key: value for key, value in thing["metadata"].get("annotations", {}).items() if "hook" in key}
        if thing["kind"] == "Job":
            require(hooks.get("helm.sh/hook") == "test", f"{title(thing)}: {hooks}")
        else:
            require(not hooks, f"{title(thing)} is a hook: {hooks}")


def at_most_one_operator_is_evicted(things):
    for budget in of_kind(things, "PodDisruptionBudget"):
        spec = budget["spec"]
        require(spec["maxUnavailable"] == 1 and "minAvailable" not in spec, f"{title(budget)} blocks drains")
        require(spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow", f"{title(budget)} protects broken pods")


RULES = [every_container_is_confined, only_the_installer_is_root_or_sees_the_node, selectors_find_their_own_pods_alone,
         rules_stay_small, exemptions_are_granted_by_nobody_but_the_user,
         a_replica_leads_by_its_own_lease_alone, every_object_says_whose_it_is,
         the_definition_is_the_generated_one, the_installer_has_a_profile_for_each_architecture,
         the_test_is_the_only_hook, at_most_one_operator_is_evicted]


def kinds(things):
    return sorted({thing["kind"] for thing in things})


def what_is_off_is_not_rendered(rendered):
    require(kinds(rendered["minimal"]) == ["Deployment"], f"minimal renders {kinds(rendered['minimal'])}")


def with_namespaces_there_is_no_cluster_role(rendered):
    things = rendered["namespaced"]
    cluster = CLUSTER_SCOPED & set(kinds(things))
    require(cluster == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}, f"namespaced: {cluster}")
    for kind in ("Role", "RoleBinding"):
        places = {thing["metadata"]["namespace"] for thing in of_kind(things, kind)}
        require({"web", "shop"} <= places <= {"web", "shop", "operators"}, f"{kind}s in {sorted(places)}")
    arguments = of_kind(things, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    require({"--watch-namespace=web", "--watch-namespace=shop"} <= set(arguments), f"arguments: {arguments}")
    (cluster_wide,) = [r for r in of_kind(rendered["default"], "ClusterRole")
                       if not r["metadata"]["name"].endswith((*GRANTED_BY_USERS, "-addresses"))]

    for role in of_kind(things, "Role"):
        if role["metadata"]["name"] == cluster_wide["metadata"]["name"] and role["metadata"]["namespace"] != "operators":
            require(role["rules"] == cluster_wide["rules"], f"{title(role)} has other rules than the ClusterRole")
    (binding,) = of_kind(things, "ValidatingAdmissionPolicyBinding")
    (chosen,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    require(chosen["values"] == ["web", "shop"], f"the policy holds in {chosen}")


def a_namespace_of_its_own_holds_everything(rendered):
    places = {thing["metadata"]["namespace"] for thing in rendered["mirror"] if "namespace" in thing["metadata"]}
    require(places == {"captures"}, f"mirror renders into {sorted(places)}")
    subjects = {subject["namespace"] for binding in of_kind(rendered["mirror"], "RoleBinding", "ClusterRoleBinding")
                for subject in binding["subjects"]}
    require(subjects == {"captures"}, f"mirror binds accounts of {sorted(subjects)}")


def who_asks_for_scraping_lets_it_in(rendered):
    for name, who in (("monitoring", "monitoring"), ("mirror", "prometheus")):
        (policy,) = [thing for thing in of_kind(rendered[name], "NetworkPolicy")
                     if any(port["port"] == 9090 for rule in thing["spec"]["ingress"] for port in rule["ports"])]
        (rule,) = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 9090]
        require(rule["from"] and who in str(rule["from"]), f"{name}: {title(policy)} lets in {rule['from']}")


def alerts_and_dashboard_read_what_the_pod_monitor_collects(rendered):
    """Its job is its namespace and name."""
    for things in (rendered["monitoring"], rendered["mirror"]):
        one_job_is_read(things)


def one_job_is_read(things):
    (monitor,) = of_kind(things, "PodMonitor")
    (rule,) = of_kind(things, "PrometheusRule")
    (dashboard,) = [thing for thing in of_kind(things, "ConfigMap") if thing["metadata"]["name"].endswith("-dashboard")]
    (text,) = dashboard["data"].values()
    queries = [target["expr"] for panel in yaml.safe_load(text)["panels"] for target in panel["targets"]]
    queries += [alert["expr"] for group in rule["spec"]["groups"] for alert in group["rules"]]
    job = f"job=\"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}\""
    require(len(queries) >= 15, f"{len(queries)} queries")
    for query in queries:
        require(query.count("{job=") == query.count(job) >= 1, f"a query of another job: {query}")


# Kubernetes' own structures are turned as a whole.
WHOLE = {"resources", "nodeSelector", "labels"}


def leaves(values, path=()):
    if isinstance(values, dict) and values and not WHOLE & set(path):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, values


def every_switch_is_turned(_):
    """Each key of values.yaml has another value in some file under ci/."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(CHART.glob("ci/*-values.yaml"))]

    def turned(path, default):
        for values in files:
            for key in path:
                values = values.get(key, default) if isinstance(values, dict) else default
                if values is None:
                    break
            if values != default:
                return True
        return False

    missing = [".".join(path) for path, default in leaves(yaml.safe_load((CHART / "values.yaml").read_text()))
               if not turned(path, default)]
    require(not missing, f"no file under ci/ turns {missing}")


MATRIX_RULES = [what_is_off_is_not_rendered, with_namespaces_there_is_no_cluster_role,
                a_namespace_of_its_own_holds_everything, who_asks_for_scraping_lets_it_in,
                alerts_and_dashboard_read_what_the_pod_monitor_collects, every_switch_is_turned]


def main(directory):
    rendered = {path.stem: [thing for thing in yaml.safe_load_all(path.read_text()) if thing]
                for path in sorted(pathlib.Path(directory).glob("*.yaml"))}
    require(len(rendered) >= 9 and all(rendered.values()), f"renderings: {sorted(rendered)}")
    for rule in MATRIX_RULES:
        rule(rendered)
        print("chart-test: ok:", rule.__name__.replace("_", " "))
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
