"""The third-party checkers, and the scores of those that cannot be had, over everything that reaches a cluster.

    gates.py            every gate over today's files
    gates.py --mutate   spoils one thing for each gate and fails if the gate does not notice
    gates.py NAME...    these gates alone (with --mutate, their mutations)

In: the working tree, $LINT (where install.sh put the tools). Out: one line per gate, with its time; of a gate that
fails, everything it said. Must not: change the working tree, or fetch anything.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import findings
import schemas
import tree

LINT = pathlib.Path(os.environ["LINT"])
VERSIONS = sorted(schemas.MODULES)


def tool(name):
    venv = LINT / "venv" / "bin" / name
    return str(venv if venv.exists() else LINT / "bin" / name)


def files(pattern):
    found = sorted(str(path) for path in pathlib.Path().glob(pattern))
    if not found:
        raise SystemExit(f"lint: nothing matches {pattern}")
    return found


def yaml_style():
    return [[tool("yamllint"), "--strict", "-c", "hack/lint/yamllint.yaml", "."]]


def chart_files():
    return [[tool("yamale"), "--no-strict", "-s", "hack/lint/chart-schema.yaml", path]
            for path in files("charts/*/Chart.yaml")] + [
           [tool("check-jsonschema"), "--check-metaschema", *files("charts/*/values.schema.json")]] + [
           [tool("check-jsonschema"), "--schemafile", f"{chart}/values.schema.json", f"{chart}/values.yaml"]
            for chart in files("charts/*")]


def containerfiles():
    return [[tool("hadolint"), "--failure-threshold", "info", "-c", "hack/lint/hadolint.yaml", *files("**/Containerfile")]]


def checkov_containers():
    return findings.checkov_containers(tool("checkov"))


def checkov():
    return findings.checkov(tool("checkov"))


def kube_score():
    return findings.kube_score(tool("kube-score"))


# Kinds of Argo CD and of kustomize, which no API server here knows: the former is asked itself (hack/test-argocd.sh), the
# latter builds (hack/test-gitops.sh, which holds the overlay to the base).
OF_OTHERS = "Application,AppProject,Kustomization"


def kubeconform():
    name = "{{.ResourceKind}}{{.KindSuffix}}.json"
    given = [path for pattern in ("objects/*.yaml", "defining/*.yaml", "crds/*.yaml", "examples/*.yaml", "gitops/install.yaml",
                                  "gitops/kustomize/**/*.yaml", "gitops/argocd/*.yaml") for path in files(pattern)]
    return [[tool("kubeconform"), "-strict", "-kubernetes-version", f"{version}.0", "-skip", OF_OTHERS, "-schema-location",
             f"{LINT}/schemas/json/{{{{.NormalizedKubernetesVersion}}}}/{name}", "-schema-location",
             f"definitions/{name}", *given] for version in VERSIONS]


def kubectl_validate():
    # Without --version it would ask a cluster, or the internet, for what is not in our schemas.
    return [[tool("kubectl-validate"), "--version", "1.30", "--local-schemas", f"{LINT}/schemas/openapi/{version}",
             "--local-crds", f"crds,{LINT}/definitions", "objects", "examples"] for version in VERSIONS]


def conftest():
    return [[tool("conftest"), "test", "--no-color", "--policy", "hack/lint/policy", *files("objects/*.yaml")]]


def promtool():
    return [[tool("promtool"), "check", "rules", *files("rules/*.yaml")],
            [tool("promtool"), "test", "rules", "charts/screenshot-operator/ci/alerts-test.yaml",
             "operator/tests/alerts/test.yaml", "operator/tests/alerts/days.yaml"]]


# A gate is commands that must all succeed, or a function that returns complaints; and one mutation that it must notice:
# a file, what stands there, what stands there instead.
OPERATOR = "objects/default.yaml"
GATES = {
    "yamllint": (yaml_style, ("examples/minimal.yaml", "\nspec:", "\nkind: Again\nspec:")),
    "chart files": (chart_files, ("charts/screenshot-operator/Chart.yaml", "version: 0", "version: v0")),
    "hadolint": (containerfiles, ("operator/Containerfile", "USER 65532:65532", "USER 65532:65532\nMAINTAINER me")),
    "checkov containers": (checkov_containers, ("operator/Dockerfile", "USER 65532:65532", "USER root")),
    "checkov": (checkov, (OPERATOR, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")),
    "kube-score": (kube_score, (OPERATOR, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")),
    "kubeconform": (kubeconform, (OPERATOR, "revisionHistoryLimit: 3", "revisionHistoryLimit: three")),
    "kubectl-validate": (kubectl_validate, (OPERATOR, "revisionHistoryLimit: 3", "revisionHistoryLimits: 3")),
    "conftest": (conftest, (OPERATOR, "enableServiceLinks: false", "enableServiceLinks: true")),
    "promtool": (promtool, ("charts/screenshot-operator/files/alerts.yaml", "operators/screenshot-operator\"}) == 0",
                            "operators/screenshot-operator\"}) == 2")),
    "kubesec": (findings.kubesec_gate, (OPERATOR, "serviceAccountName: release-screenshot-operator\n", "\n")),
    "polaris": (findings.polaris_gate, (OPERATOR, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")),
    "scores": (findings.scores_gate, ("objects/plan-a_monitored_service.yaml", "readOnlyRootFilesystem: true",
                                    "readOnlyRootFilesystem: false")),
    "kube-linter": (findings.kube_linter_gate, (OPERATOR, "unhealthyPodEvictionPolicy: AlwaysAllow", "")),
}


def judge(check):
    """What a gate complains about; nothing if it is content."""
    said = []
    for command in check():
        if isinstance(command, str):
            said.append(command)
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said.append(f"{pathlib.Path(command[0]).name} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return said


def timed(name):
    start = time.monotonic()
    said = judge(GATES[name][0])
    return name, said, time.monotonic() - start


def check(names):
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, said, seconds in pool.map(timed, names):
            print(f"lint: {'FAILED' if said else 'ok'}: {name} ({seconds:.1f} s)", flush=True)
            if said:
                print("\n".join(said))
                failed += 1
    return failed


def mutate(names):
    """Spoils one file after the other: in turn, since gates read whole folders."""
    failed = 0
    for name in names:
        path, old, new = GATES[name][1]
        path = pathlib.Path(path)
        text = path.read_text()
        if old not in text:
            print(f"lint: FAILED: the mutation for {name} finds nothing to spoil in {path}: {old!r}")
            failed += 1
            continue
        path.write_text(text.replace(old, new, 1))
        noticed = judge(GATES[name][0])
        path.write_text(text)
        print(f"lint: {'ok' if noticed else 'FAILED'}: {name} notices {new.strip() or 'the lack of ' + old!r}", flush=True)
        failed += not noticed
    return failed


def main(arguments):
    names = [name for name in arguments if not name.startswith("-")] or list(GATES)
    copy = pathlib.Path(tempfile.mkdtemp(prefix="lint-"))
    try:
        tree.prepare(copy)
        schemas.defined(copy / "definitions", [*pathlib.Path("crds").glob("*.yaml"), *(LINT / "definitions").glob("*.yaml")])
        os.chdir(copy)
        failed = mutate(names) if "--mutate" in arguments else check(names)
    finally:
        os.chdir("/")
        shutil.rmtree(copy)
    sys.exit(f"lint: {failed} of {len(names)} failed" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
