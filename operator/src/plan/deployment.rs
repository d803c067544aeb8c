//! The Deployment: two containers of one image, under Pod Security `restricted`.
//!
//! In: what is wanted. Out: the Deployment. `server` holds Secrets, policy and the API; `browser` holds the jailer and
//! nothing worth stealing. The policy's digest stands on the template, so that a new policy rolls the pods.

use screenshot_api::{ContainerResources, Quantities};
use screenshot_policy::layout;
use screenshot_policy::policy::SandboxMode;
use serde_json::{Map, Value, json};

use super::{Child, Kind};
use crate::validate::Validated;

/// Seconds: the longest capture in flight may finish.
const GRACE_SECONDS: u32 = 40;

/// Annotation on the pod template: the `spec.restartNonce` that its pods were made for.
const RESTART_NONCE_ANNOTATION: &str = "screenshot-operator.io/restart-nonce";

struct Defaults {
    requests: [&'static str; 2],
    memory_limit: &'static str,
}

const SERVER: Defaults = Defaults {
    requests: ["50m", "64Mi"],
    memory_limit: "512Mi",
};
const BROWSER: Defaults = Defaults {
    requests: ["200m", "256Mi"],
    memory_limit: "1536Mi",
};

pub(super) fn build(wanted: &Validated) -> Child {
    let names = &wanted.identity.names;
    let content = json!({"spec": {
        "replicas": wanted.replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": names.selector()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {
                "labels": names.labels(),
                "annotations": annotations(wanted),
            },
            "spec": pod(wanted),
        },
    }});
    Child::new(&wanted.identity, Kind::Deployment, names.main(), content)
}

/// What a pod is replaced for, beside its own spec.
fn annotations(wanted: &Validated) -> Value {
    let fixed = [
        (layout::POLICY_DIGEST_ANNOTATION, wanted.policy.digest()),
        ("kubectl.kubernetes.io/default-container", layout::SERVER_CONTAINER),
    ];
    let restart = wanted
        .restart_nonce
        .as_deref()
        .map(|nonce| (RESTART_NONCE_ANNOTATION, nonce));
    let pairs = fixed.into_iter().chain(restart);
    pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

fn pod(wanted: &Validated) -> Value {
    let names = &wanted.identity.names;
    json!({
        "serviceAccountName": names.main(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": layout::UID,
            "runAsGroup": layout::UID,
            "fsGroup": layout::UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread(wanted, "kubernetes.io/hostname"), spread(wanted, "topology.kubernetes.io/zone")],
        "containers": [server(wanted), browser(wanted)],
        "volumes": [
            {"name": "policy", "configMap": {"name": names.policy(), "defaultMode": 0o444}},
            {"name": "keyset", "secret": {"secretName": names.keyset(), "defaultMode": 0o440}},
            {"name": "internal", "secret": {"secretName": names.internal(), "defaultMode": 0o440}},
            memory("jail", "1Mi"),
            memory("server-tmp", "64Mi"),
            memory("browser-tmp", "256Mi"),
        ],
    })
}

fn spread(wanted: &Validated, key: &str) -> Value {
    json!({
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": wanted.identity.names.selector()},
        "matchLabelKeys": ["pod-template-hash"],
    })
}

fn memory(name: &str, size: &str) -> Value {
    json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
}

fn server(wanted: &Validated) -> Value {
    json!({
        "name": layout::SERVER_CONTAINER,
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/capture-server", "serve"],
        "env": [
            {"name": layout::ENV_POD_NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": layout::ENV_POLICY_DIGEST, "value": wanted.policy.digest()},
        ],
        "ports": [
            port("http", layout::API_PORT), port("health", layout::HEALTH_PORT), port("metrics", layout::METRICS_PORT),
        ],
        "readinessProbe": probe("/health/ready", 3, 3, 2),
        "livenessProbe": probe("/health/live", 10, 5, 6),
        "resources": resources(wanted.resources.server.as_ref(), &SERVER),
        "securityContext": security("RuntimeDefault"),
        "volumeMounts": [
            {"name": "policy", "mountPath": layout::POLICY_DIR, "readOnly": true},
            {"name": "keyset", "mountPath": layout::KEYSET_DIR, "readOnly": true},
            {"name": "internal", "mountPath": layout::INTERNAL_KEY_DIR, "readOnly": true},
            {"name": "jail", "mountPath": layout::JAIL_DIR},
            {"name": "server-tmp", "mountPath": "/tmp"},
        ],
    })
}

fn browser(wanted: &Validated) -> Value {
    let profile = match wanted.policy.sandbox_mode() {
        SandboxMode::Required => "Localhost",
        SandboxMode::Degraded => "RuntimeDefault",
    };
    json!({
        "name": layout::BROWSER_CONTAINER,
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/capture-jail", "serve", layout::JAIL_SOCKET],
        "resources": resources(wanted.resources.browser.as_ref(), &BROWSER),
        "securityContext": security(profile),
        "volumeMounts": [
            {"name": "jail", "mountPath": layout::JAIL_DIR},
            {"name": "browser-tmp", "mountPath": "/tmp"},
        ],
    })
}

fn security(profile: &str) -> Value {
    let seccomp = if profile == "Localhost" {
        json!({"type": profile, "localhostProfile": layout::SECCOMP_PROFILE})
    } else {
        json!({"type": profile})
    };
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": seccomp,
    })
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

fn resources(wanted: Option<&ContainerResources>, defaults: &Defaults) -> Value {
    let requests = wanted.and_then(|r| r.requests.as_ref());
    let limits = wanted.and_then(|r| r.limits.as_ref());
    let [cpu, memory] = defaults.requests;
    json!({
        "requests": amounts(requests, Some(cpu), Some(memory)),
        "limits": amounts(limits, None, Some(defaults.memory_limit)),
    })
}

fn amounts(wanted: Option<&Quantities>, cpu: Option<&str>, memory: Option<&str>) -> Value {
    let pick = |own: Option<&String>, default: Option<&str>| own.cloned().or_else(|| default.map(str::to_owned));
    let pairs = [
        ("cpu", pick(wanted.and_then(|q| q.cpu.as_ref()), cpu)),
        ("memory", pick(wanted.and_then(|q| q.memory.as_ref()), memory)),
    ];
    let map: Map<String, Value> = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))))
        .collect();
    Value::Object(map)
}
