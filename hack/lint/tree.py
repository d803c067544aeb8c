"""The tree that the gates look at: the repository's own files, the rendered charts, the objects of the operator's plans.

In: a working tree, an empty directory. Out: copies of tracked files there; objects/NAME.yaml; defining/NAME.yaml, the
definition as it is rendered; rules/NAME.yaml, what Prometheus would load, and what dashboards ask it. The definition stands apart, as kubectl-validate
does not end on its recursive schema. Images are named by digest, as a release names them. What is for OpenShift has the user
that its admission writes into every container (the constraints `restricted-v2`): nothing runs there without it.
"""

import pathlib
import subprocess
import tempfile

import yaml

from objects import containers, effective, of_kind, template

SNAPSHOTS = "operator/tests/snapshots/golden__the_plan_of_*.snap"
KEPT = {".yaml", ".yml", ".json", ".tpl", ".txt", ".rego", ".md"}
APART = "CustomResourceDefinition"
MONITORED = "plan-a_monitored_service"
OPENSHIFT = "openshift"
# The first of the ten thousand users of a namespace, of the kind that OpenShift hands out.
HANDED_OUT = 1_000_680_000
DIGEST = "sha256:" + "0" * 64
BY_DIGEST = ["--set", f"image.digest={DIGEST}", "--set", f"captureImage.digest={DIGEST}"]


def prepare(target):
    for path in subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        source = pathlib.Path(path)
        if source.is_file() and (source.suffix in KEPT or source.name == "Containerfile"):
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            if source.name == "Containerfile":
                # checkov goes by the name.
                copy.with_name("Dockerfile").write_bytes(source.read_bytes())
    for folder in ("objects", "defining", "rules"):
        (target / folder).mkdir()
    with tempfile.TemporaryDirectory() as rendered:
        subprocess.run(["hack/chart-render.sh", rendered, *BY_DIGEST], check=True)
        for path in sorted(pathlib.Path(rendered).glob("*.yaml")):
            write(target, path.stem, path.read_text())
    plans = sorted(pathlib.Path().glob(SNAPSHOTS))
    if not plans:
        raise SystemExit(f"lint: no plan matches {SNAPSHOTS}")
    for path in plans:
        # insta: a header between two lines of dashes, then the text.
        name = path.stem.removeprefix("golden__the_plan_of_")
        write(target, f"plan-{name}", path.read_text().split("---\n", 2)[2])


def recorded(dashboard):
    """The queries of a dashboard as rules, which is what Prometheus' checker reads."""
    panels = [panel for text in dashboard["data"].values() for panel in yaml.safe_load(text)["panels"]]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [{"record": f"dashboard:line:{index}", "expr": query} for index, query in enumerate(queries)]


def write(target, name, text):
    everything = [thing for thing in yaml.safe_load_all(text) if thing]
    things = [thing for thing in everything if thing["kind"] != APART]
    for thing in things if name.startswith("plan-") else []:
        for container in template(thing)[1]["containers"] if template(thing) else []:
            container["image"] = f"{container['image'].partition('@')[0]}@{DIGEST}"
    for pod in [template(thing)[1] for thing in things if template(thing)] if name == OPENSHIFT else []:
        for container in containers(pod):
            if effective(pod, container, "runAsUser") is None:
                container.setdefault("securityContext", {})["runAsUser"] = HANDED_OUT
    for folder, those in (("objects", things), ("defining", of_kind(everything, APART))):
        if those:
            (target / folder / f"{name}.yaml").write_text(yaml.safe_dump_all(those, sort_keys=False, width=1000))
    for thing in of_kind(things, "ConfigMap"):
        if "grafana_dashboard" in thing["metadata"].get("labels", {}):
            rules = {"groups": [{"name": "dashboard", "rules": recorded(thing)}]}
            (target / "rules" / f"{name}-{thing['metadata']['name']}.yaml").write_text(yaml.safe_dump(rules))
    for thing in of_kind(things, "PrometheusRule"):
        rules = yaml.safe_dump(thing["spec"])
        (target / "rules" / f"{name}-{thing['metadata']['name']}.yaml").write_text(rules)
        if name == MONITORED:
            # Beside the unit tests that name it.
            (target / "operator" / "tests" / "alerts" / "rules.yaml").write_text(rules)
