#!/usr/bin/env python3
"""What the operator of the end-to-end suite asked the API server for, against the rules that the chart gives it.

  hack/e2e_audit.py LOG SINCE NAMESPACE

In: the audit log of the local cluster, the time (RFC 3339, UTC) from which on it counts, the operator's namespace.
Out: one line per call that was refused or that no rule in charts/screenshot-operator/files has; then it fails.
A call that authorization allowed and admission refused (in a namespace that is being deleted, by a quota) is no lack of
a right: the log tells the two apart, by its annotation.
Afterwards it looks whether it would have noticed: without each rule in turn that was used, and with one call refused.
"""
import json
import pathlib
import sys

import yaml

NAME = "screenshot-operator"
FILES = pathlib.Path(__file__).resolve().parent.parent / "charts" / NAME / "files"
DECISION = "authorization.k8s.io/decision"


def table(namespace):
    """(the namespace it holds in or None, rule) of every rule of the chart."""
    rules = []
    for file, where in (("rules", None), ("cluster-rules", None), ("own-rules", namespace)):
        text = (FILES / f"{file}.yaml").read_text().replace("RELEASE", NAME)
        rules += [(where, rule) for rule in yaml.safe_load(text)]
    return rules


def grants(where, rule, call):
    resource = "/".join(filter(None, (call["object"]["resource"], call["object"].get("subresource"))))
    names = rule.get("resourceNames")
    return (
        call["object"].get("apiGroup", "") in rule["apiGroups"]
        and resource in rule["resources"]
        and call["verb"] in rule["verbs"]
        and (names is None or call["object"].get("name") in names)
        and (where is None or call["object"].get("namespace") == where)
    )


def calls(log, since, user):
    found = {}
    # Full files are kept beside it, with the time in their names.
    lines = (line for file in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")) for line in file.open(encoding="utf-8"))
    for line in lines:
        # Most lines are others', and long; the last one may be half written.
        if user not in line or not line.endswith("\n"):
            continue
        event = json.loads(line)
        # Discovery names no resource, and is everybody's.
        if event["user"]["username"] != user or event["requestReceivedTimestamp"] < since:
            continue
        if "resource" not in event.get("objectRef", {}):
            continue
        call = {"object": event["objectRef"], "decision": event.get("annotations", {}).get(DECISION)}
        verbs = {event["verb"]}
        # An apply that creates needs the right to create, too.
        if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
            verbs.add("create")
        for verb in verbs:
            keys = ("apiGroup", "resource", "subresource", "namespace", "name")
            key = (verb, call["decision"], *(call["object"].get(key) for key in keys))
            found[key] = call | {"verb": verb}
    return list(found.values())


def findings(asked, rules):
    for call in asked:
        what = f"{call['verb']} {json.dumps(call['object'], sort_keys=True)}"
        # Without a decision it was turned away before, as one call too many.
        if call["decision"] == "forbid":
            yield f"refused: {what}"
        elif not any(grants(where, rule, call) for where, rule in rules):
            yield f"asked for beyond the chart's rules: {what}"


def main():
    log, since, namespace = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    asked = calls(log, since, f"system:serviceaccount:{namespace}:{NAME}")
    if not asked:
        sys.exit(f"{log}: no call of the operator since {since}")
    rules = table(namespace)
    found = list(findings(asked, rules))
    if found:
        sys.exit("\n".join(found[:40]))
    used = [at for at, (where, rule) in enumerate(rules) if any(grants(where, rule, call) for call in asked)]
    for at in used:
        rest = rules[:at] + rules[at + 1:]
        if not list(findings(asked, rest)):
            sys.exit(f"would not notice that a rule is missing: {rules[at]}")
    if not list(findings([asked[0] | {"decision": "forbid"}], rules)):
        sys.exit("would not notice a refusal")
    print(f"the operator's calls: {len(asked)} of different kinds and objects, each allowed and each in the chart's rules; "
          f"{len(used)} of {len(rules)} rules were used")


main()
