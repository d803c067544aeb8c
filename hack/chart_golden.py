"""The committed renderings: what a reviewer sees change when a template changes.

    chart_golden.py RENDERED GOLDEN            fails and shows the difference
    chart_golden.py RENDERED GOLDEN --update   writes them

In: a directory of renderings, one of committed ones. Out: nothing, or the first differences.
Generated files within a rendering (the definition, the seccomp profiles) stand there as digests: they are reviewed, and
tested, where they are generated.
"""

import difflib
import hashlib
import pathlib
import re
import sys

import yaml


def digest(thing):
    return "sha256:" + hashlib.sha256(yaml.safe_dump(thing).encode()).hexdigest()


def shortened(text):
    """One document of a rendering, as its author wrote it, unless it holds a generated file."""
    thing = yaml.safe_load(text)
    if thing and thing["kind"] == "CustomResourceDefinition":
        thing["spec"] = digest(thing["spec"])
    elif thing and thing["kind"] == "ConfigMap" and thing["metadata"]["name"].endswith("-seccomp"):
        thing["data"] = {name: digest(data) for name, data in thing["data"].items()}
    else:
        return text.strip("\n") + "\n"
    return yaml.safe_dump(thing)


def golden(text):
    documents = [part for part in re.split(r"^---$", text, flags=re.MULTILINE) if part.strip()]
    return "---\n" + "---\n".join(shortened(part) for part in documents)


def main(rendered, committed, update):
    wanted = {path.name: golden(path.read_text()) for path in sorted(pathlib.Path(rendered).glob("*.yaml"))}
    target = pathlib.Path(committed)
    if update:
        target.mkdir(exist_ok=True)
        for stale in target.glob("*.yaml"):
            stale.unlink()
        for name, text in wanted.items():
            (target / name).write_text(text)
        return
    had = {path.name: path.read_text() for path in sorted(target.glob("*.yaml"))}
    for name in sorted(wanted.keys() | had.keys()):
        before, after = had.get(name, "").splitlines(), wanted.get(name, "").splitlines()
        difference = list(difflib.unified_diff(before, after, f"committed {name}", f"rendered {name}", lineterm=""))
        if difference:
            print("\n".join(difference[:40]))
            sys.exit("chart-test: the rendering changed; if it should, run hack/chart-test.sh --update and commit")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--update" in sys.argv)
