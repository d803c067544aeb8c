//! The kinds of children, and how the API server addresses each.
//!
//! In: nothing. Out: [`Kind`], a closed list in the order in which children are applied. A kind whose definition a cluster
//! may lack is [`Kind::optional`]: it is planned only where the API server serves it.

use kube::core::{ApiResource, GroupVersionKind};

/// Kinds of children, in the order in which they are applied: network rules before any pod can start, what needs the
/// pods after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    ServiceAccount,
    NetworkPolicy,
    ConfigMap,
    Secret,
    Service,
    PodDisruptionBudget,
    Deployment,
    HorizontalPodAutoscaler,
    Ingress,
    HttpRoute,
    PodMonitor,
    PrometheusRule,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 12] = [
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::Ingress,
        Self::HttpRoute,
        Self::PodMonitor,
        Self::PrometheusRule,
    ];

    /// The kind's name, group, version and resource.
    fn address(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("ServiceAccount", "", "v1", "serviceaccounts"),
            Self::NetworkPolicy => ("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
            Self::ConfigMap => ("ConfigMap", "", "v1", "configmaps"),
            Self::Secret => ("Secret", "", "v1", "secrets"),
            Self::Service => ("Service", "", "v1", "services"),
            Self::PodDisruptionBudget => ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
            Self::Deployment => ("Deployment", "apps", "v1", "deployments"),
            Self::HorizontalPodAutoscaler => (
                "HorizontalPodAutoscaler",
                "autoscaling",
                "v2",
                "horizontalpodautoscalers",
            ),
            Self::Ingress => ("Ingress", "networking.k8s.io", "v1", "ingresses"),
            Self::HttpRoute => ("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes"),
            Self::PodMonitor => ("PodMonitor", "monitoring.coreos.com", "v1", "podmonitors"),
            Self::PrometheusRule => ("PrometheusRule", "monitoring.coreos.com", "v1", "prometheusrules"),
        }
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        self.address().0
    }

    /// Group and resource, as in RBAC rules.
    pub fn group_resource(self) -> (&'static str, &'static str) {
        let (_, group, _, resource) = self.address();
        (group, resource)
    }

    /// The API version that is read and written.
    pub fn version(self) -> &'static str {
        self.address().2
    }

    /// Whether a cluster may lack the kind: it comes from a CustomResourceDefinition that somebody else installs.
    pub fn optional(self) -> bool {
        matches!(self, Self::HttpRoute | Self::PodMonitor | Self::PrometheusRule)
    }

    /// How the client addresses the kind.
    pub fn api_resource(self) -> ApiResource {
        let (name, group, version, resource) = self.address();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), resource)
    }

    /// Group and version as in a manifest's `apiVersion`.
    pub fn api_version(self) -> String {
        match self.address() {
            (_, "", version, _) => version.to_owned(),
            (_, group, version, _) => format!("{group}/{version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_in_order_and_addressed_as_its_manifest_says() {
        assert!(Kind::ALL.is_sorted());
        let mut all = Kind::ALL.to_vec();
        all.dedup();
        assert_eq!(all.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let resource = kind.api_resource();
            assert_eq!(resource.api_version, kind.api_version(), "{kind:?}");
            assert_eq!(resource.kind, kind.name(), "{kind:?}");
        }
    }

    #[test]
    fn only_kinds_from_definitions_of_others_are_optional() {
        let optional: Vec<_> = Kind::ALL
            .into_iter()
            .filter(|kind| kind.optional())
            .map(Kind::name)
            .collect();
        assert_eq!(optional, ["HTTPRoute", "PodMonitor", "PrometheusRule"]);
    }
}
