//! The API server, asked directly: a `kubectl` for every look would cost more than what is measured.
//!
//! In: the kubeconfig and context that `kubectl` would use. Out: objects as JSON. Must not: cache anything.

use std::sync::LazyLock;

use http::{Method, Request};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::Failure;
use crate::kubectl::context;

/// A kind of object, by where the API server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ConfigMap`.
    ConfigMap,
    /// `DaemonSet`.
    DaemonSet,
    /// `Deployment`.
    Deployment,
    /// `Event`.
    Event,
    /// `Lease`.
    Lease,
    /// `NetworkPolicy`.
    NetworkPolicy,
    /// `Pod`.
    Pod,
    /// `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `ScreenshotService`.
    ScreenshotService,
    /// `Secret`.
    Secret,
    /// `Service`.
    Service,
    /// `ServiceAccount`.
    ServiceAccount,
}

impl Kind {
    /// What a service is made of.
    pub const CHILDREN: [Self; 7] = [
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Deployment,
    ];

    fn path(self, namespace: &str) -> String {
        let (group, plural) = match self {
            Self::ConfigMap => ("api/v1", "configmaps"),
            Self::DaemonSet => ("apis/apps/v1", "daemonsets"),
            Self::Deployment => ("apis/apps/v1", "deployments"),
            Self::Event => ("api/v1", "events"),
            Self::Lease => ("apis/coordination.k8s.io/v1", "leases"),
            Self::NetworkPolicy => ("apis/networking.k8s.io/v1", "networkpolicies"),
            Self::Pod => ("api/v1", "pods"),
            Self::PodDisruptionBudget => ("apis/policy/v1", "poddisruptionbudgets"),
            Self::ScreenshotService => ("apis/screenshot-operator.io/v1alpha1", "screenshotservices"),
            Self::Secret => ("api/v1", "secrets"),
            Self::Service => ("api/v1", "services"),
            Self::ServiceAccount => ("api/v1", "serviceaccounts"),
        };
        format!("/{group}/namespaces/{namespace}/{plural}")
    }
}

struct Cluster {
    runtime: Runtime,
    client: Client,
}

static CLUSTER: LazyLock<Result<Cluster, Failure>> = LazyLock::new(connect);

fn connect() -> Result<Cluster, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let options = KubeConfigOptions {
        context: context(),
        ..KubeConfigOptions::default()
    };
    let client = runtime.block_on(async {
        let config = Config::from_kubeconfig(&options)
            .await
            .map_err(|error| format!("kubeconfig: {error}"))?;
        Client::try_from(config).map_err(|error| format!("kubeconfig: {error}"))
    })?;
    Ok(Cluster { runtime, client })
}

fn request(method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
    let cluster = CLUSTER.as_ref().map_err(Clone::clone)?;
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/merge-patch+json")
        .body(body)
        .map_err(|error| format!("{path}: {error}"))?;
    match cluster.runtime.block_on(cluster.client.request::<Value>(request)) {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// Gives an object, `None` if there is none.
///
/// # Errors
/// What the API server reports.
pub fn find(namespace: &str, kind: Kind, name: &str) -> Result<Option<Value>, Failure> {
    request(Method::GET, &format!("{}/{name}", kind.path(namespace)), None)
}

/// Gives an object that must be there.
///
/// # Errors
/// It is not, or what the API server reports.
pub fn get(namespace: &str, kind: Kind, name: &str) -> Result<Value, Failure> {
    find(namespace, kind, name)?.ok_or_else(|| format!("{kind:?} {namespace}/{name} does not exist"))
}

/// Gives the objects that a label selector (`a=b,c=d`) finds; all for an empty one.
///
/// # Errors
/// What the API server reports.
pub fn list(namespace: &str, kind: Kind, selector: &str) -> Result<Vec<Value>, Failure> {
    let selector = selector.replace('=', "%3D").replace(',', "%2C").replace('/', "%2F");
    let path = format!("{}?labelSelector={selector}", kind.path(namespace));
    let found = request(Method::GET, &path, None)?.unwrap_or_default();
    Ok(found["items"].as_array().cloned().unwrap_or_default())
}

/// Deletes an object without waiting for what hangs on it. One that is gone already is fine.
///
/// # Errors
/// What the API server reports.
pub fn delete(namespace: &str, kind: Kind, name: &str) -> Result<(), Failure> {
    let path = format!("{}/{name}?propagationPolicy=Background", kind.path(namespace));
    request(Method::DELETE, &path, None).map(drop)
}

/// Changes an object by a JSON merge patch (RFC 7386): `null` removes a field.
///
/// # Errors
/// It does not exist, or what the API server reports.
pub fn merge(namespace: &str, kind: Kind, name: &str, change: &Value) -> Result<Value, Failure> {
    let path = format!("{}/{name}", kind.path(namespace));
    request(Method::PATCH, &path, Some(change))?.ok_or_else(|| format!("{kind:?} {namespace}/{name} does not exist"))
}
