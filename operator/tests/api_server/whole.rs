//! A service with every child there is: with an Ingress, or with an HTTPRoute in its place.

use screenshot_operator::plan::{Child, Kind, OperatorPods, Surroundings, Targets, plan};
use screenshot_operator::validate::{identity, validate};
use serde_json::{Value, json};

use crate::support::{Stage, settings, whole_seconds};

/// Every field that makes a child, or a field of one.
pub fn spec() -> Value {
    json!({
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"server": {"limits": {"cpu": "1000m"}}},
        "scheduling": {"nodeSelector": {"pool": "none"}, "topologySpread": "Required",
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}]},
        "sandbox": {"hostUsers": false},
        "podMetadata": {"labels": {"team": "web"}, "annotations": {"example.com/a": "b"}},
        "objectMetadata": {"labels": {"team": "web"}, "annotations": {"example.com/owner": "web"}},
        "monitoring": {"from": [{"namespaceSelector": {}}], "podMonitor": {"enabled": true},
            "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}},
        "network": {
            "ingress": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}], "cidrs": ["10.0.0.0/8", "fd00::/8"]},
            "exposure": {"ingress": {"className": "nginx", "host": "shots.example.com", "tlsSecretName": "tls"}},
        },
    })
}

/// The same, by a route.
pub fn routed() -> Value {
    let mut spec = spec();
    spec["network"]["exposure"] =
        json!({"httpRoute": {"parentRefs": [{"name": "public"}], "hostnames": ["shots.example.com"]}});
    spec
}

/// What is planned for such a service, which is created for it; all but its Secrets.
pub async fn planned(stage: &Stage, name: &str, spec: Value) -> Vec<Child> {
    let service = stage.create(name, spec).await.unwrap();
    let wanted = validate(identity(&service).unwrap(), &service, &settings()).unwrap();
    let operator = OperatorPods {
        namespace: "o".into(),
        name: "o".into(),
    };
    let around = Surroundings {
        targets: &Targets::new(),
        operator: &operator,
        served: &Kind::ALL.into_iter().filter(|kind| kind.optional()).collect(),
        deployment: None,
    };
    let plan = plan(&wanted, &around, whole_seconds());
    plan.before_secrets().chain(plan.after_secrets()).cloned().collect()
}
