//! What the operator may do: the one table, from which the chart's rules are rendered.
//!
//! In: nothing. Out: [`RULES`] as data and [`rules`] as the `rules:` of a ClusterRole, or of one Role per namespace that is
//! looked after; [`OWN_RULES`] and [`own_rules`] the same for the Role in the operator's own namespace.
//! No wildcard, no `update` but of the Lease (server-side apply is `create` and `patch`), no RBAC objects, no exec, no finalizer of its own.

use serde::Serialize;

/// Why a rule is there stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group.
    pub group: &'static str,
    /// Resources in it.
    pub resources: &'static [&'static str],
    /// What is done with them.
    pub verbs: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

const CHILD: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Everything the operator may do.
pub const RULES: &[Rule] = &[
    Rule {
        group: "screenshot-operator.io",
        resources: &["screenshotservices"],
        verbs: &["list", "watch"],
        why: "what is wanted; spec and metadata are never written",
    },
    Rule {
        group: "screenshot-operator.io",
        resources: &["screenshotservices/status"],
        verbs: &["patch"],
        why: "what was observed and verified",
    },
    Rule {
        group: "",
        resources: &["serviceaccounts", "configmaps", "secrets", "services"],
        verbs: CHILD,
        why: "children; Secrets are listed and watched as metadata only, Services of exceptions are read by name",
    },
    Rule {
        group: "networking.k8s.io",
        resources: &["networkpolicies", "ingresses"],
        verbs: CHILD,
        why: "children",
    },
    Rule {
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: CHILD,
        why: "children",
    },
    Rule {
        group: "apps",
        resources: &["deployments"],
        verbs: CHILD,
        why: "children",
    },
    Rule {
        group: "autoscaling",
        resources: &["horizontalpodautoscalers"],
        verbs: CHILD,
        why: "children, where spec.autoscaling asks for one",
    },
    Rule {
        group: "gateway.networking.k8s.io",
        resources: &["httproutes"],
        verbs: CHILD,
        why: "children, where spec.network.exposure.httpRoute asks for one",
    },
    Rule {
        group: "monitoring.coreos.com",
        resources: &["podmonitors", "prometheusrules"],
        verbs: CHILD,
        why: "children, where spec.monitoring asks for them",
    },
    Rule {
        group: "",
        resources: &["pods"],
        verbs: &["list", "watch"],
        why: "which pods to ask for attestation, and when",
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["list", "create", "patch"],
        why: "transitions, and counting their repetition; what the kubelet says of one pod that it does not begin",
    },
];

/// What the operator may do in its own namespace. The Lease is made once and known by its name from then on.
pub const OWN_RULES: &[Rule] = &[
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["create"],
        why: "the Lease of the election; what does not exist cannot be granted by name",
    },
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "update"],
        why: "holding the Lease; granted by its name",
    },
];

/// What the operator may read of the whole cluster, where it looks after all of it: which public addresses are the cluster's
/// own. One of single namespaces does without. Services of every namespace are in [`RULES`] already.
pub const CLUSTER_RULES: &[Rule] = &[
    Rule {
        group: "",
        resources: &["nodes"],
        verbs: &["list", "watch"],
        why: "their addresses and the ranges of their pods",
    },
    Rule {
        group: "networking.k8s.io",
        resources: &["servicecidrs"],
        verbs: &["list", "watch"],
        why: "the ranges of Services",
    },
    Rule {
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        verbs: &["list", "watch"],
        why: "where the API server listens; granted by the name of its slice",
    },
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendered<'a> {
    api_groups: [&'static str; 1],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_names: Option<[&'a str; 1]>,
}

impl<'a> Rendered<'a> {
    fn of(rule: &Rule, name: Option<&'a str>) -> Self {
        Self {
            api_groups: [rule.group],
            resources: rule.resources,
            verbs: rule.verbs,
            resource_names: name.map(|name| [name]),
        }
    }
}

/// The table as the `rules:` of a ClusterRole or Role.
///
/// # Errors
/// Never in practice: the table serialises. A test holds it.
pub fn rules() -> Result<serde_json::Value, serde_json::Error> {
    let rendered: Vec<Rendered<'_>> = RULES.iter().map(|rule| Rendered::of(rule, None)).collect();
    serde_json::to_value(rendered)
}

/// The table of the operator's own namespace as the `rules:` of a Role.
///
/// # Errors
/// Never in practice: the table serialises. A test holds it.
pub fn own_rules(lease: &str) -> Result<serde_json::Value, serde_json::Error> {
    let named = |rule: &Rule| (rule.verbs != ["create"]).then_some(lease);
    let rendered: Vec<Rendered<'_>> = OWN_RULES.iter().map(|rule| Rendered::of(rule, named(rule))).collect();
    serde_json::to_value(rendered)
}

/// The table of what is read of the whole cluster as the `rules:` of a ClusterRole.
///
/// # Errors
/// Never in practice: the table serialises. A test holds it.
pub fn cluster_rules() -> Result<serde_json::Value, serde_json::Error> {
    let named = |rule: &Rule| (rule.group == "discovery.k8s.io").then_some("kubernetes");
    let rendered: Vec<Rendered<'_>> = CLUSTER_RULES
        .iter()
        .map(|rule| Rendered::of(rule, named(rule)))
        .collect();
    serde_json::to_value(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    #[test]
    fn no_rule_has_a_wildcard_or_a_verb_that_grants_more_than_it_says() {
        for rule in RULES.iter().chain(OWN_RULES).chain(CLUSTER_RULES) {
            let words = rule.resources.iter().chain(rule.verbs).chain([&rule.group]);
            assert!(words.into_iter().all(|word| !word.contains('*')), "{rule:?}");
            let banned = ["escalate", "bind", "impersonate", "deletecollection"];
            assert!(rule.verbs.iter().all(|verb| !banned.contains(verb)), "{rule:?}");
            let may_update = rule.resources == ["leases"];
            assert!(may_update || !rule.verbs.contains(&"update"), "{rule:?}");
            assert!(
                !rule.resources.iter().any(|r| r.contains("exec") || r.contains("role")),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn every_kind_of_child_is_in_the_table() {
        for kind in Kind::ALL {
            let (group, resource) = kind.group_resource();
            let rule = RULES
                .iter()
                .find(|rule| rule.group == group && rule.resources.contains(&resource));
            assert_eq!(rule.map(|rule| rule.verbs), Some(CHILD), "{kind:?}");
        }
    }

    #[test]
    fn the_table_renders_as_the_rules_of_a_role() {
        let rules: Vec<k8s_openapi::api::rbac::v1::PolicyRule> = serde_json::from_value(rules().unwrap()).unwrap();
        assert_eq!(rules.len(), RULES.len());
        assert!(
            rules
                .iter()
                .all(|rule| rule.api_groups.as_ref().is_some_and(|groups| groups.len() == 1))
        );
    }

    #[test]
    fn of_the_cluster_addresses_are_read_and_one_slice_by_its_name() {
        let expected = serde_json::json!([
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["servicecidrs"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"],
                "resourceNames": ["kubernetes"]},
        ]);
        assert_eq!(cluster_rules().unwrap(), expected);
    }

    #[test]
    fn the_lease_is_granted_by_its_name_wherever_that_can_be_said() {
        let expected = serde_json::json!([
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"], "resourceNames": ["mine"]},
        ]);
        assert_eq!(own_rules("mine").unwrap(), expected);
    }
}
