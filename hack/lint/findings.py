"""The gates whose findings are weighed one by one: checkov, kube-score, and the scores of kubesec, Polaris and kube-linter.

In: objects/*.yaml, hack/lint/justified.yaml. Out: complaints. Must not: let a justification stand that nothing needs.
kubesec's 18 points are reached only by the chart with AppArmor and hostUsers set (ci/hardened-values.yaml): on a node that
has neither, the default would not start. Polaris' 100 holds of everything, without what justified.yaml exempts.
"""

import fnmatch
import json
import pathlib
import subprocess

import yaml

import kube_linter
import kubesec
import polaris
from objects import load, title, workloads

JUSTIFIED = pathlib.Path("hack/lint/justified.yaml")
# kubesec's points at least, of 19: (rendering, objects, points). The strictest values are for clusters with AppArmor and
# user namespaces, which cost three points and one elsewhere; a service cannot ask for AppArmor. An installer is root (three
# points), in the node's user namespace.
KUBESEC = [
    ("hardened", "Deployment/*", 18),
    ("hardened", "Job/*", 18),
    ("hardened", "DaemonSet/*-seccomp-*", 15),
    ("default", "Deployment/*", 15),
    ("default", "Job/*", 15),
    ("default", "DaemonSet/*-seccomp-*", 12),
    ("plan-a_service_with_its_own_sandbox", "Deployment/*", 16),
    ("plan-a_minimal_service", "Deployment/*", 15),
]
# Reasons at most for which findings of checkov stay (docs/decisions/0014-checkov.md).
CHECKOV_REASONS = {"checkov": 1, "checkov-containers": 2}
# Polaris' score at least, of 100, of any rendering with nothing exempted.
POLARIS_BARE = 90


def renderings():
    return {path.stem: load(path) for path in sorted(pathlib.Path("objects").glob("*.yaml"))}


class Justified:
    """Findings that stay, each with a reason."""

    def __init__(self, tool):
        self.rows = yaml.safe_load(JUSTIFIED.read_text())[tool]
        self.used = set()

    def covers(self, check, where, rendering):
        for number, row in enumerate(self.rows):
            if row["check"] == check and fnmatch.fnmatch(where, row["object"]) and (
                    fnmatch.fnmatch(rendering, row.get("in", "*"))):
                self.used.add(number)
                return True
        return False

    def idle(self):
        return [f"{JUSTIFIED}: nothing needs {row['check']} for {row['object']} any more"
                for number, row in enumerate(self.rows) if number not in self.used]


def weighed(tool, found):
    """`found`: (check, object, rendering, what was said)."""
    justified = Justified(tool)
    said = [f"{rendering}: {where}: {check}: {text}" for check, where, rendering, text in found
            if not justified.covers(check, where, rendering)]
    reasons = {row["why"] for row in justified.rows}
    if len(reasons) > CHECKOV_REASONS.get(tool, len(reasons)):
        said.append(f"{JUSTIFIED}: {tool} has {len(reasons)} reasons, more than were agreed on")
    return said + justified.idle()


def answer(command):
    """The JSON that a tool prints; its exit code says no more than that there is something in it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"lint: {command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}") from None


def failed_checks(tool, framework, place):
    said = answer([tool, "--framework", framework, "--skip-download", "--compact", "--quiet", "-o", "json", "-d", place])
    return said["results"]["failed_checks"]


def checkov(tool):
    found = []
    for row in failed_checks(tool, "kubernetes", "objects"):
        kind, _, rest = row["resource"].partition(".")
        where = f"{kind}/{rest.split('.')[1]}"
        found.append((row["check_id"], where, pathlib.Path(row["file_path"]).stem, row["check_name"]))
    return weighed("checkov", found)


def checkov_containers(tool):
    return weighed("checkov-containers", [(row["check_id"], row["file_path"].lstrip("/"), "containers", row["check_name"])
                                          for row in failed_checks(tool, "dockerfile", ".")])


def kube_score(tool):
    found = []
    for path in sorted(pathlib.Path("objects").glob("*.yaml")):
        for thing in answer([tool, "score", "--output-format", "json", str(path)]):
            where = f"{thing['type_meta']['kind']}/{thing['object_meta']['name']}"
            for check in thing["checks"]:
                if check["grade"] < 10 and not check["skipped"]:
                    comments = "; ".join(f"{c['path']} {c['summary']}".strip() for c in check["comments"] or [])
                    found.append((check["check"]["id"], where, path.stem, f"grade {check['grade']}: {comments}"))
    return weighed("kube-score", found)


def kubesec_gate():
    found = []
    for name, things in renderings().items():
        for thing, _, _ in workloads(things):
            points, missing = kubesec.score(thing)
            found += [(what, title(thing), name, f"{points} of {kubesec.MAXIMUM} points") for what in missing]
    return weighed("kubesec", found)


def polaris_gate():
    found = []
    for name, things in renderings().items():
        failures, held = polaris.findings(things)
        score = polaris.score(failures, held)
        found += [(check, where, name, f"{severity}, {score} of 100") for severity, check, where in failures]
    return weighed("polaris", found)


def kube_linter_gate():
    return weighed("kube-linter", [(check, where, name, "reported") for name, things in renderings().items()
                                   for check, where in kube_linter.reports(things)])


def kubesec_points():
    """Complaints about the floors; the scores are printed."""
    said, all_things = [], renderings()
    for rendering, pattern, floor in KUBESEC:
        found = [(title(thing), *kubesec.score(thing)) for thing, _, _ in workloads(all_things[rendering])
                 if fnmatch.fnmatch(title(thing), pattern)]
        if not found:
            said.append(f"kubesec: {rendering} has no {pattern}")
        for where, points, missing in found:
            print(f"lint: kubesec: {points} of {kubesec.MAXIMUM}, at least {floor}: {where} of {rendering}", flush=True)
            if points < floor:
                said.append(f"kubesec: {rendering}: {where}: {points} points, and {floor} are wanted: {missing}")
    unheld = [title(thing) for thing, _, _ in workloads(all_things["hardened"])
              if not any(fnmatch.fnmatch(title(thing), pattern) for name, pattern, _ in KUBESEC if name == "hardened")]
    return said + [f"kubesec: {where} of hardened has no floor" for where in unheld]


def scores_gate():
    """What every rendering and every plan earns: of kubesec the floors above, of Polaris everything that is not justified."""
    said = kubesec_points()
    justified, lowest = Justified("polaris"), (100, "")
    for name, things in renderings().items():
        found, held = polaris.findings(things)
        bare = polaris.score(found, held)
        # As Polaris counts what an annotation exempts: not at all.
        found = [(severity, check, where) for severity, check, where in found if not justified.covers(check, where, name)]
        score = polaris.score(found, held)
        lowest = min(lowest, (bare, name))
        if score != 100:
            said.append(f"polaris: {name}: {score} of 100: {found}")
    bare, name = lowest
    print(f"lint: polaris: with nothing exempted {bare} of 100 or more, at least {POLARIS_BARE}: {name}", flush=True)
    if bare < POLARIS_BARE:
        said.append(f"polaris: {name}: {bare} of 100 with nothing exempted, and {POLARIS_BARE} are wanted")
    return said


def table():
    """What each object gets, justified or not: for a reader."""
    for name, things in renderings().items():
        found, held = polaris.findings(things)
        points = {title(thing): kubesec.score(thing)[0] for thing, _, _ in workloads(things)}
        print(f"{name}: polaris {polaris.score(found, held)}, kube-linter {len(kube_linter.reports(things))}, "
              f"kubesec {points}")
