//! Names, labels and annotations of everything the operator makes.
//!
//! In: the name of a `ScreenshotService`. Out: deterministic names of its children, and the fixed labels they carry.
//! Must not: look at the labels of the resource; copying those breaks the pruning of GitOps tools.

use std::collections::BTreeMap;

/// Field manager of every write, for ever: renaming it would orphan fields. Also the managed-by label.
pub const MANAGER: &str = "screenshot-operator";
/// Reported as the controller of events.
pub const CONTROLLER: &str = "screenshot-operator.io/controller";

/// Annotation on token Secrets: when the token was made, RFC 3339.
pub const ISSUED_AT: &str = "screenshot-operator.io/issued-at";
/// Annotation on token Secrets: the rotation nonce that asked for the token.
pub const NONCE: &str = "screenshot-operator.io/rotation-nonce";

/// Label with the name of the application, part of the selector.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label with the name of the `ScreenshotService`, part of the selector.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label with the component, part of the selector.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

const APPLICATION: &str = "screenshot-service";
const COMPONENT: &str = "capture";

/// Names of the children of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names(String);

impl Names {
    /// Names for the children of the service `name`, at most 52 characters (the schema holds it).
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// What there is one of is named as the service itself: ServiceAccount, Service, PodDisruptionBudget, Deployment,
    /// HorizontalPodAutoscaler, Ingress, HTTPRoute, PodMonitor, PrometheusRule.
    pub fn main(&self) -> &str {
        &self.0
    }

    /// NetworkPolicy that denies everything not allowed by another.
    pub fn default_deny(&self) -> String {
        self.with("default-deny")
    }

    /// NetworkPolicy that lets the pods resolve names.
    pub fn dns(&self) -> String {
        self.with("dns")
    }

    /// NetworkPolicy that lets clients reach the API port.
    pub fn clients(&self) -> String {
        self.with("clients")
    }

    /// NetworkPolicy that lets the operator reach the health port.
    pub fn operator(&self) -> String {
        self.with("operator")
    }

    /// NetworkPolicy that lets a Prometheus reach the metrics port.
    pub fn monitoring(&self) -> String {
        self.with("monitoring")
    }

    /// NetworkPolicy for what pages may reach.
    pub fn egress(&self) -> String {
        self.with("egress")
    }

    /// ConfigMap with the dashboard.
    pub fn dashboard(&self) -> String {
        self.with("dashboard")
    }

    /// ConfigMap with the policy.
    pub fn policy(&self) -> String {
        self.with("policy")
    }

    /// Secret with the digests of accepted tokens, mounted by the pods.
    pub fn keyset(&self) -> String {
        self.with("keyset")
    }

    /// Secret with the key for attestation, mounted by the pods.
    pub fn internal(&self) -> String {
        self.with("internal")
    }

    /// Secret with the token in use, for clients.
    pub fn token(&self) -> String {
        self.with("token")
    }

    /// Immutable Secret with the token to come; exists only during a rotation.
    pub fn pending(&self) -> String {
        self.with("pending")
    }

    /// Labels that select the pods: never changed, because a Deployment's selector is immutable.
    pub fn selector(&self) -> BTreeMap<&str, &str> {
        BTreeMap::from([
            (NAME_LABEL, APPLICATION),
            (INSTANCE_LABEL, self.main()),
            (COMPONENT_LABEL, COMPONENT),
        ])
    }

    /// Labels of every child.
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/managed-by", MANAGER);
        labels.insert("app.kubernetes.io/part-of", MANAGER);
        labels
    }

    /// The selector as the API server's list calls and `status.selector` want it.
    pub fn selector_text(&self) -> String {
        let pairs: Vec<String> = self
            .selector()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    fn with(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.0)
    }
}

/// Selects the children of every service, for watches.
pub fn all_children_selector() -> String {
    format!("app.kubernetes.io/managed-by={MANAGER},{NAME_LABEL}={APPLICATION}")
}

/// Selects the pods of every service. Every pod carries the labels of its template, which has those of a child.
pub fn all_pods_selector() -> String {
    format!("{},{COMPONENT_LABEL}={COMPONENT}", all_children_selector())
}
