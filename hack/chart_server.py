"""The rendered charts and the operator's plans on a real API server: it takes every object, and Pod Security `restricted`
admits every pod but the one that is said to be none of its kind.

In: kubectl on PATH for a cluster that this script may fill; helm; a directory with other projects' definitions. Out: one line per rule; exit 1 with what was said.
Must not: talk to anything but that cluster.
"""

import copy
import pathlib
import sys
import tempfile

import kubectl

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lint"))
import objects  # noqa: E402
import tree  # noqa: E402

# The lowest with `restricted` as it is now, our floor, two at which rules were added, and the server's own.
LEVELS = ["v1.25", "v1.31", "v1.34", "v1.35", "latest"]
INSTALLER = "screenshot-operator-seccomp-installer"
# One flaw each; a level that admits one of them admits anything.
FLAWS = {
    "escalation": lambda pod, c: c["securityContext"].update(allowPrivilegeEscalation=True),
    "capabilities": lambda pod, c: c["securityContext"].pop("capabilities"),
    "root": lambda pod, c: (pod["securityContext"].update(runAsUser=0), c["securityContext"].update(runAsUser=0)),
    "no seccomp": lambda pod, c: [where.update(seccompProfile={"type": "Unconfined"})
                                  for where in (pod["securityContext"], c["securityContext"])],
    "host path": lambda pod, c: pod["volumes"].append({"name": "host", "hostPath": {"path": "/etc"}}),
    "host network": lambda pod, c: pod.update(hostNetwork=True),
}


def everything():
    """Every rendering and plan: name -> objects."""
    with tempfile.TemporaryDirectory() as place:
        tree.prepare(pathlib.Path(place))
        return {path.stem: objects.load(path) for path in sorted(pathlib.Path(place, "objects").glob("*.yaml"))}


def prepare(renderings, definitions):
    """What the objects name and a bare control plane does not have."""
    wanted = {thing["metadata"]["namespace"] for things in renderings.values() for thing in things
              if "namespace" in thing["metadata"]}
    had = set(kubectl.must("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split())
    for name in sorted(wanted - had):
        kubectl.must("create", "namespace", name)
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", "crds/", "-f", definitions)
    kubectl.must("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    pods = [pod for things in renderings.values() for _, _, pod in objects.workloads(things)]
    for name in sorted({pod.get("priorityClassName", "system-") for pod in pods}):
        if not name.startswith("system-"):
            kubectl.must("apply", "-f", "-", given={"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                                                    "metadata": {"name": name}, "value": 1000})
    for name in sorted({pod["runtimeClassName"] for pod in pods if "runtimeClassName" in pod}):
        kubectl.must("apply", "-f", "-", given={"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                                                "metadata": {"name": name}, "handler": "runsc"})


def the_server_takes_every_object(renderings):
    count = 0
    for name, things in renderings.items():
        count += len(things)
        done = kubectl.run("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts",
                           "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": things})
        if done.returncode:
            sys.exit(f"chart-server: the API server refuses an object of {name}:\n{done.stderr}")
    print(f"chart-server: ok: the API server takes every object ({count} of {len(renderings)} files)")
    broken = copy.deepcopy(objects.of_kind(renderings["default"], "Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolicie"] = "Never"
    if kubectl.run("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-",
                   given=broken).returncode == 0:
        sys.exit("chart-server: the API server takes a field that does not exist")


def as_pod(name, metadata, spec):
    pod = copy.deepcopy(spec)
    # The account is not what is judged, and need not exist here.
    pod.pop("serviceAccountName", None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": metadata.get("labels", {})}, "spec": pod}


def judged(namespace, pods):
    """Pods that the namespace's level refuses."""
    done = kubectl.run("create", "--dry-run=server", "-n", namespace, "-f", "-",
                       given={"apiVersion": "v1", "kind": "List", "items": pods})
    refused = [line for line in done.stderr.splitlines() if "violates PodSecurity" in line]
    other = [line for line in done.stderr.splitlines() if line not in refused and not line.startswith("Warning")]
    if other:
        sys.exit(f"chart-server: {other}")
    return {pod["metadata"]["name"] for pod in pods if any(f'"{pod["metadata"]["name"]}"' in line for line in refused)}


def restricted_admits_every_pod(renderings):
    pods, installers = [], []
    for name, things in renderings.items():
        for thing, metadata, spec in objects.workloads(things):
            pod = as_pod(f"{name}-{thing['metadata']['name']}".replace("_", "-"), metadata, spec)
            installer = metadata.get("labels", {}).get("app.kubernetes.io/name") == INSTALLER
            (installers if installer else pods).append(pod)
    flawed = []
    (plan,) = objects.of_kind(renderings["plan-a_minimal_service"], "Deployment")
    for flaw, spoil in FLAWS.items():
        pod = as_pod(flaw.replace(" ", "-"), plan["spec"]["template"]["metadata"], plan["spec"]["template"]["spec"])
        spoil(pod["spec"], pod["spec"]["containers"][0])
        flawed.append(pod)
    for level in LEVELS:
        namespace = f"restricted-{level.replace('.', '-')}"
        kubectl.must("apply", "-f", "-", given={
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": level}}})
        kubectl.must("wait", "--for=create", "--timeout=30s", "serviceaccount/default", "-n", namespace)
        refused = judged(namespace, pods)
        if refused:
            sys.exit(f"chart-server: restricted at {level} refuses {sorted(refused)}")
        admitted = {pod["metadata"]["name"] for pod in flawed + installers} - judged(namespace, flawed + installers)
        if admitted:
            sys.exit(f"chart-server: restricted at {level} admits {sorted(admitted)}")
        print(f"chart-server: ok: Pod Security restricted at {level} admits {len(pods)} pods, and refuses "
              f"{len(installers)} of the installer and {len(flawed)} with a flaw")


def main():
    renderings = everything()
    prepare(renderings, sys.argv[1])
    the_server_takes_every_object(renderings)
    restricted_admits_every_pod(renderings)


if __name__ == "__main__":
    main()
