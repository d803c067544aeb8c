"""Schemas for kubeconform and kubectl-validate, from what the API servers of three versions publish of themselves.

    schemas.py DIRECTORY

In: the OpenAPI documents in the Go modules of Kubernetes. Out: DIRECTORY/openapi/VERSION in the layout of
kubectl-validate, DIRECTORY/json/VERSION in kubeconform's, with unknown fields refused; `defined` does that for
CustomResourceDefinitions.
Must not: fetch anything but those modules.
"""

import copy
import json
import pathlib
import subprocess
import sys

import yaml

# The lowest that Chart.yaml admits, one in between, and the one that the test cluster runs.
MODULES = {"1.31": "v1.31.14", "1.34": "v1.34.4", "1.36": "v1.36.3"}
PREFIX = "#/components/schemas/"
ANY = {"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "io.k8s.apimachinery.pkg.runtime.RawExtension"}


def documents(module):
    done = subprocess.run(["go", "mod", "download", "-json", f"k8s.io/kubernetes@{module}"], capture_output=True,
                          text=True, check=True, cwd="/")
    folder = pathlib.Path(json.loads(done.stdout)["Dir"], "api/openapi-spec/v3")
    for path in sorted(folder.glob("api*__v*_openapi.json")):
        yield path.name.removesuffix("_openapi.json").split("__"), json.loads(path.read_text())


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix(PREFIX)
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def strict(node):
    """Refuses unknown fields of every object whose fields are listed."""
    if isinstance(node, dict):
        if "properties" in node and "additionalProperties" not in node and (
                not node.get("x-kubernetes-preserve-unknown-fields")):
            node["additionalProperties"] = False
        for value in node.values():
            strict(value)
    elif isinstance(node, list):
        for value in node:
            strict(value)
    return node


def standalone(schemas, name):
    """One kind with all that it refers to."""
    wanted, todo = {}, [name]
    while todo:
        one = todo.pop()
        if one not in wanted:
            wanted[one] = copy.deepcopy(schemas[one])
            todo += references(wanted[one])
    components = {key: schema if key in ANY else strict(schema) for key, schema in wanted.items()}
    return {"$ref": PREFIX + name, "components": {"schemas": components}}


def kubeconform_name(group, version, kind):
    return f"{kind.lower()}{'-' + group.split('.')[0] if group else ''}-{version}.json"


def native(target, version, module):
    for place, document in documents(module):
        path = target / "openapi" / version / pathlib.Path(*place[:-1], f"{place[-1]}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        group = place[1] if len(place) == 3 else ""
        schemas = document["components"]["schemas"]
        for name, schema in schemas.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                belongs = (kind["group"], kind["version"]) == (group, place[-1])
                if belongs and "metadata" in schema.get("properties", {}) and not name.endswith("List"):
                    file = target / "json" / f"v{version}.0" / kubeconform_name(group, kind["version"], kind["kind"])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(standalone(schemas, name)))


def defined(target, sources):
    """Our own definition changes with every field, so this is done at each run, and not when the tools are installed."""
    target.mkdir()
    for path in sources:
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
                                     "metadata": {"type": "object"}}
            name = kubeconform_name(crd["group"], version["name"], crd["names"]["kind"])
            (target / name).write_text(json.dumps(schema))


def main(target):
    for version, module in MODULES.items():
        native(target, version, module)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
