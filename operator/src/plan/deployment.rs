//! The Deployment: two containers of one image, under Pod Security `restricted`.
//!
//! In: what is wanted, the Deployment as it is. Out: the Deployment. `server` holds Secrets, policy and the API; `browser`
//! holds the jailer and nothing worth stealing. The policy's digest stands on the template, so that a new policy rolls the
//! pods; nothing else does that is not part of a pod.

use screenshot_policy::layout;
use screenshot_policy::policy::SandboxMode;
use serde_json::{Value, json};

use super::{Child, Kind, add, autoscaler, object, placement, resources, upstream};
use crate::validate::Validated;
use crate::views::DeploymentView;

/// Seconds that a pod gets after the longest capture in flight could have ended.
const GRACE_MARGIN_SECONDS: u64 = 10;

/// Annotation on the pod template: the `spec.restartNonce` that its pods were made for.
const RESTART_NONCE_ANNOTATION: &str = "screenshot-operator.io/restart-nonce";

/// Seconds that a jailer gets which does not answer: it will not tidy up.
const HUNG_GRACE_SECONDS: u64 = 5;

pub(super) fn build(wanted: &Validated, live: Option<&DeploymentView>) -> Child {
    let names = &wanted.identity.names;
    let mut spec = json!({
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": names.selector()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
    });
    spec["template"] = object([("metadata", metadata(wanted)), ("spec", pod(wanted))]);
    if let Some(replicas) = autoscaler::replicas(wanted, live) {
        spec["replicas"] = json!(replicas);
    }
    Child {
        takes_back: autoscaler::is_switched_off(wanted, live).then_some("spec.replicas"),
        ..Child::new(
            &wanted.identity,
            Kind::Deployment,
            names.main(),
            object([("spec", spec)]),
        )
    }
}

fn metadata(wanted: &Validated) -> Value {
    let mut metadata = json!({
        "labels": wanted.identity.names.labels(),
        "annotations": {
            layout::POLICY_DIGEST_ANNOTATION: wanted.policy.digest(),
            "kubectl.kubernetes.io/default-container": layout::SERVER_CONTAINER,
        },
    });
    if let Some(nonce) = &wanted.restart_nonce {
        metadata["annotations"][RESTART_NONCE_ANNOTATION] = json!(nonce);
    }
    add(&mut metadata, "labels", &wanted.pod_metadata.labels);
    add(&mut metadata, "annotations", &wanted.pod_metadata.annotations);
    metadata
}

fn pod(wanted: &Validated) -> Value {
    let names = &wanted.identity.names;
    let mut spec = json!({
        "serviceAccountName": names.main(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": wanted.policy.limits().deadline_ms.get().div_ceil(1000) + GRACE_MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": layout::UID,
            "runAsGroup": layout::UID,
            "fsGroup": layout::UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    let volumes = [
        json!({"name": "policy", "configMap": {"name": names.policy(), "defaultMode": 0o444}}),
        json!({"name": "keyset", "secret": {"secretName": names.keyset(), "defaultMode": 0o440}}),
        json!({"name": "internal", "secret": {"secretName": names.internal(), "defaultMode": 0o440}}),
        memory("jail", "1Mi"),
        memory("server-tmp", "64Mi"),
        memory("browser-tmp", "256Mi"),
    ];
    spec["volumes"] = with(volumes, upstream::volume(wanted));
    spec["containers"] = vec![server(wanted), browser(wanted)].into();
    if let Some(fields) = spec.as_object_mut() {
        fields.extend(placement::fields(wanted));
    }
    spec
}

/// A list that ends with what only some services have.
fn with<const N: usize>(always: [Value; N], sometimes: Option<Value>) -> Value {
    always.into_iter().chain(sometimes).collect()
}

fn memory(name: &str, size: &str) -> Value {
    json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
}

fn server(wanted: &Validated) -> Value {
    let env = json!([
        {"name": layout::ENV_POD_NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": layout::ENV_POLICY_DIGEST, "value": wanted.policy.digest()},
    ]);
    let ports = [
        port("http", layout::API_PORT),
        port("health", layout::HEALTH_PORT),
        port("metrics", layout::METRICS_PORT),
    ];
    let mounts = [
        json!({"name": "policy", "mountPath": layout::POLICY_DIR, "readOnly": true}),
        json!({"name": "keyset", "mountPath": layout::KEYSET_DIR, "readOnly": true}),
        json!({"name": "internal", "mountPath": layout::INTERNAL_KEY_DIR, "readOnly": true}),
        json!({"name": "jail", "mountPath": layout::JAIL_DIR}),
        json!({"name": "server-tmp", "mountPath": "/tmp"}),
    ];
    object([
        ("name", layout::SERVER_CONTAINER.into()),
        ("image", json!(wanted.image)),
        ("imagePullPolicy", json!(wanted.pull_policy)),
        ("command", json!(["/usr/local/bin/capture-server", "serve"])),
        ("env", env),
        ("ports", ports.into_iter().collect()),
        ("readinessProbe", probe("/health/ready", 3, 3, 2)),
        ("livenessProbe", probe("/health/live", 10, 5, 6)),
        ("resources", resources::server(wanted)),
        ("securityContext", security(runtime_default())),
        ("volumeMounts", with(mounts, upstream::mount(wanted))),
    ])
}

fn browser(wanted: &Validated) -> Value {
    let profile = match wanted.policy.sandbox_mode() {
        SandboxMode::Required => json!({"type": "Localhost", "localhostProfile": wanted.seccomp_profile}),
        SandboxMode::Degraded => runtime_default(),
    };
    // The server answers for the jailer, which has no port. A server that is away for a minute costs a jailer that would
    // have had to start over anyway: its jails end with the server's connection.
    let mut liveness = probe(layout::BROWSER_HEALTH_PATH, 10, 3, 6);
    liveness["terminationGracePeriodSeconds"] = HUNG_GRACE_SECONDS.into();
    let mounts = json!([
        {"name": "jail", "mountPath": layout::JAIL_DIR},
        {"name": "browser-tmp", "mountPath": "/tmp"},
    ]);
    let command = json!(["/usr/local/bin/capture-jail", "serve", layout::JAIL_SOCKET]);
    object([
        ("name", layout::BROWSER_CONTAINER.into()),
        ("image", json!(wanted.image)),
        ("imagePullPolicy", json!(wanted.pull_policy)),
        ("command", command),
        ("startupProbe", probe(layout::BROWSER_HEALTH_PATH, 1, 1, 120)),
        // Browsers are ready when the server has proven their sandbox, which it says for both containers.
        ("readinessProbe", probe("/health/ready", 3, 3, 2)),
        ("livenessProbe", liveness),
        ("resources", resources::browser(wanted)),
        ("securityContext", security(profile)),
        ("volumeMounts", mounts),
    ])
}

fn runtime_default() -> Value {
    json!({"type": "RuntimeDefault"})
}

fn security(seccomp: Value) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    context["seccompProfile"] = seccomp;
    context
}

fn port(name: &str, number: u16) -> Value {
    json!({"name": name, "containerPort": number, "protocol": "TCP"})
}

fn probe(path: &str, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": layout::HEALTH_PORT, "scheme": "HTTP"},
        "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures,
    })
}
