"""The tree that the gates look at: the repository's own files, the rendered charts, the objects of the operator's plans.

In: a working tree, an empty directory. Out: copies of tracked files there, and objects/NAME.yaml. The definition is left
out of objects/: it is tested where it is generated, and kubectl-validate does not end on its recursive schema.
"""

import pathlib
import subprocess
import tempfile

import yaml

SNAPSHOTS = "operator/tests/snapshots/golden__the_plan_of_*.snap"
KEPT = {".yaml", ".yml", ".json", ".tpl", ".txt", ".rego", ".md"}
LEFT_OUT = {"CustomResourceDefinition"}


def prepare(target):
    for path in subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        source = pathlib.Path(path)
        if source.is_file() and (source.suffix in KEPT or source.name == "Containerfile"):
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    objects = target / "objects"
    objects.mkdir()
    with tempfile.TemporaryDirectory() as rendered:
        subprocess.run(["hack/chart-render.sh", rendered], check=True)
        for path in sorted(pathlib.Path(rendered).glob("*.yaml")):
            write(objects / path.name, path.read_text())
    for path in sorted(pathlib.Path().glob(SNAPSHOTS)):
        # insta: a header between two lines of dashes, then the text.
        name = path.stem.removeprefix("golden__the_plan_of_")
        write(objects / f"plan-{name}.yaml", path.read_text().split("---\n", 2)[2])
    if not list(objects.glob("plan-*.yaml")):
        raise SystemExit(f"lint: no plan matches {SNAPSHOTS}")


def write(path, text):
    things = [thing for thing in yaml.safe_load_all(text) if thing and thing["kind"] not in LEFT_OUT]
    if things:
        path.write_text(yaml.safe_dump_all(things, sort_keys=False, width=1000))
