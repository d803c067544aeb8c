# Rules of our own over every rendered object and every object of the operator's plan, judged by conftest.
package main

import rego.v1

title := sprintf("%s/%s", [input.kind, input.metadata.name])

pod := input.spec.template.spec if input.kind in {"Deployment", "DaemonSet", "Job"}

deny contains sprintf("%s: emptyDir %q has no sizeLimit", [title, volume.name]) if {
	some volume in pod.volumes
	volume.emptyDir
	not volume.emptyDir.sizeLimit
}

deny contains sprintf("%s: container %q has a port without a name", [title, container.name]) if {
	some container in pod.containers
	some port in container.ports
	not port.name
}

deny contains sprintf("%s: container %q asks the same for liveness and readiness", [title, container.name]) if {
	some container in pod.containers
	container.livenessProbe.httpGet == container.readinessProbe.httpGet
}

deny contains sprintf("%s: container %q takes %s from a Secret", [title, container.name, variable.name]) if {
	some container in pod.containers
	some variable in container.env
	variable.valueFrom.secretKeyRef
}

deny contains sprintf("%s: enableServiceLinks is not false", [title]) if {
	pod
	object.get(pod, "enableServiceLinks", true) != false
}

deny contains sprintf("%s: selects every pod of its namespace", [title]) if {
	input.kind == "NetworkPolicy"
	object.get(input.spec.podSelector, "matchLabels", {}) == {}
}

# A peer with pod labels alone, or any namespace with any pod, is wider than it looks.
deny contains sprintf("%s: a rule lets in every pod of every namespace", [title]) if {
	input.kind == "NetworkPolicy"
	some rule in input.spec.ingress
	some peer in rule.from
	peer.namespaceSelector == {}
	object.get(peer, "podSelector", {}) == {}
}

# The operator's canary answers everybody: it must be the callers' own policies that keep them away from it.
canary := 8082

deny contains sprintf("%s: an ingress rule names nobody", [title]) if {
	input.kind == "NetworkPolicy"
	some rule in input.spec.ingress
	object.get(rule, "from", []) == []
	{port.port | some port in object.get(rule, "ports", [])} != {canary}
}

deny contains sprintf("%s: holds a secret in the clear", [title]) if {
	input.kind == "Secret"
	some _ in object.union(object.get(input, "data", {}), object.get(input, "stringData", {}))
}

deny contains sprintf("%s: is reachable from outside the cluster", [title]) if {
	input.kind == "Service"
	input.spec.type in {"NodePort", "LoadBalancer"}
}

deny contains sprintf("%s: a policy that does not refuse", [title]) if {
	input.kind == "ValidatingAdmissionPolicyBinding"
	not "Deny" in input.spec.validationActions
}
