"""The schemas that the checkers use are those of a real API server of the newest of their versions.

  hack/chart_openapi.py

In: kubectl on PATH for a cluster of that version; the OpenAPI documents that hack/lint/schemas.py takes. Out: one line, or
each kind that differs; then exit 1. Looked at are the kinds of every rendering and plan, with all that they refer to.
Left out are the texts, and the lists of allowed words that a running server adds to them and to the schema: what the
checkers miss for the lack of those, the server itself says in hack/chart_server.py.
Must not: write to the cluster.
"""

import json
import pathlib
import sys
import tempfile

import kubectl

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lint"))
import objects  # noqa: E402
import schemas  # noqa: E402
import tree  # noqa: E402

NEWEST = max(schemas.MODULES)


def kinds():
    """(place of the document, version, kind) of every built-in kind that anything uses."""
    with tempfile.TemporaryDirectory() as place:
        tree.prepare(pathlib.Path(place))
        things = [thing for folder in ("objects", "defining") for path in sorted(pathlib.Path(place, folder).glob("*.yaml"))
                  for thing in objects.load(path)]
    return sorted({(thing["apiVersion"], thing["kind"]) for thing in things})


def plain(node, names=False):
    """Without what is left out. `names`: the keys are names of fields or of schemas."""
    if isinstance(node, dict):
        return {key: plain(value, not names and key in ("properties", "schemas")) for key, value in node.items()
                if names or key not in ("description", "enum")}
    return [plain(one) for one in node] if isinstance(node, list) else node


def schema(document, api_version, kind):
    """The kind with all that it refers to, or None."""
    group, _, version = api_version.rpartition("/")
    wanted = {"group": group, "version": version, "kind": kind}
    named = document["components"]["schemas"]
    for name, one in named.items():
        if wanted in one.get("x-kubernetes-group-version-kind", []) and "metadata" in one.get("properties", {}):
            return plain(schemas.standalone(named, name))
    return None


def differences(used, ours, served):
    for api_version, kind in used:
        place = f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"
        if place in ours and schema(ours[place], api_version, kind) != schema(served(place), api_version, kind):
            yield f"{api_version} {kind}"


def main():
    ours = {"/".join(place): document for place, document in schemas.documents(schemas.MODULES[NEWEST])}
    used = kinds()
    answers = {}

    def served(place):
        if place not in answers:
            answers[place] = json.loads(kubectl.must("get", "--raw", f"/openapi/v3/{place}"))
        return answers[place]

    found = list(differences(used, ours, served))
    if found:
        sys.exit(f"chart-openapi: not as Kubernetes {schemas.MODULES[NEWEST]} publishes it: {', '.join(found)}")
    # Whether it would have noticed: one field less in what the server says.
    looked = [pair for pair in used if (f"apis/{pair[0]}" if "/" in pair[0] else f"api/{pair[0]}") in ours]
    text = json.dumps(served("apis/apps/v1")).replace("revisionHistoryLimit", "revisionHistoryLimits")
    if ("apps/v1", "Deployment") not in looked or not list(
            differences([("apps/v1", "Deployment")], ours, lambda _: json.loads(text))):
        sys.exit("chart-openapi: would not notice a field of another name")
    print(f"chart-openapi: ok: {len(looked)} kinds are, field by field, what the API server publishes")


if __name__ == "__main__":
    main()
