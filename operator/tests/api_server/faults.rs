//! Bad input, and an API server that misbehaves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Config};
use screenshot_operator::http::trouble;
use screenshot_operator::names::Names;
use screenshot_operator::plan::Kind;
use screenshot_operator::rbac;
use screenshot_operator::trigger::controller::Scope;
use serde_json::{Value, json};

use crate::proxy::{Fault, Proxy};
use crate::support::{Operator, Stage, config, inventory, until, whole_seconds};

fn writes(method: &Method, _: &str) -> bool {
    *method == Method::PATCH || *method == Method::POST
}

#[tokio::test]
async fn refused_and_lost_answers_delay_a_service_and_nothing_is_made_twice() {
    let stage = Stage::new("refuse").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    proxy.inject(5, Fault::Refuse(409, 0), writes);
    proxy.inject(1, Fault::Refuse(429, 1), |method, path| {
        writes(method, path) && path.contains("networkpolicies")
    });
    proxy.inject(1, Fault::Refuse(500, 0), |method, path| {
        writes(method, path) && path.contains("configmaps")
    });
    proxy.inject(1, Fault::AnswerLost, |method, path| {
        *method == Method::POST && path.contains("secrets")
    });
    proxy.inject(1, Fault::AnswerLost, |method, path| {
        writes(method, path) && path.contains("deployments")
    });
    stage.resting("shots").await;
    stage.settled("shots").await;
    for outcome in ["Conflict", "Throttled", "ApiUnavailable", "ApiUnreachable"] {
        let counted = operator.count("reconciles_total", &[&format!("\"{outcome}\"")]);
        assert!(counted > 0, "{outcome}: {}", operator.context.metrics.counters());
    }
    let secrets = stage
        .versions()
        .await
        .into_keys()
        .filter(|(kind, _)| *kind == Kind::Secret)
        .count();
    assert_eq!(secrets, 3, "a Secret too many or too few");
    operator.stop().await;
}

#[tokio::test]
async fn a_slow_api_server_slows_one_service_and_not_the_others() {
    let stage = Stage::new("slow").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    proxy.inject(1, Fault::Late(Duration::from_secs(60)), |method, path| {
        writes(method, path) && path.contains("serviceaccounts/slow")
    });
    stage.resting("slow").await;
    stage.resting("quick").await;
    let start = Instant::now();
    stage.settled("quick").await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    // The call has a limit, and the pass is made again.
    stage.settled_within("slow", Duration::from_secs(40)).await;
    assert!(
        operator.count("reconciles_total", &["Timeout"]) > 0,
        "{}",
        operator.context.metrics.counters()
    );
    operator.stop().await;
}

#[tokio::test]
async fn after_an_api_server_that_was_away_everything_is_as_wanted_again() {
    let stage = Stage::new("away").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    stage.settled("shots").await;
    proxy.away();
    // Two minutes in the words; here as long as it takes to be told that the watches are stalled.
    let told = until("readiness tells of it", Duration::from_secs(70), || async {
        trouble(&operator.context).is_some_and(|why| why.contains("ApiUnreachable"))
    })
    .await;
    eprintln!("told after {told:?}");
    let names = Names::new("shots");
    stage
        .children(Kind::NetworkPolicy)
        .delete(&names.egress(), &DeleteParams::default())
        .await
        .unwrap();
    let edit = Patch::Merge(json!({"spec": {"replicas": 4}}));
    stage
        .children(Kind::Deployment)
        .patch("shots", &PatchParams::default(), &edit)
        .await
        .unwrap();
    stage.resting("later").await;
    proxy.back();
    until("what was done meanwhile is seen", Duration::from_secs(60), || async {
        let policy = stage
            .children(Kind::NetworkPolicy)
            .get_opt(&names.egress())
            .await
            .unwrap();
        let deployment = stage.children(Kind::Deployment).get("shots").await.unwrap();
        policy.is_some() && deployment.data["spec"]["replicas"] == json!(0)
    })
    .await;
    stage.settled("later").await;
    until("ready again", Duration::from_secs(70), || async {
        trouble(&operator.context).is_none()
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_service_deleted_in_the_middle_of_a_pass_leaves_nothing_behind() {
    let stage = Stage::new("gone").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    proxy.inject(1, Fault::Late(Duration::from_secs(2)), |method, path| {
        writes(method, path) && path.contains("configmaps")
    });
    stage.resting("shots").await;
    let account = stage.children(Kind::ServiceAccount);
    until("the pass has begun", Duration::from_secs(5), || async {
        account.get_opt("shots").await.unwrap().is_some()
    })
    .await;
    stage
        .services()
        .delete("shots", &DeleteParams::background())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // What the pass still made has an owner that is gone: the garbage collector takes it.
    until("all children are gone", Duration::from_secs(30), || async {
        stage.versions().await.is_empty()
    })
    .await;
    let passes = operator.passes();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        operator.passes(),
        passes,
        "a service that is gone is still looked after"
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_service_in_a_namespace_on_its_way_out_is_no_trouble() {
    let stage = Stage::new("ending").await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    stage.settled("shots").await;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces
        .delete(&stage.namespace, &DeleteParams::default())
        .await
        .unwrap();
    until("the namespace is gone", Duration::from_secs(60), || async {
        namespaces.get_opt(&stage.namespace).await.unwrap().is_none()
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_malformed_object_does_not_stop_the_watch_for_others() {
    let stage = Stage::new("malformed").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    // As if it came from an older or newer definition.
    proxy.garble("\"replicas\":77", "\"replicas\":\"many\"");
    let operator = Operator::begin(proxy.config(), stage.scope());
    stage.create("bad", json!({"replicas": 77})).await.unwrap();
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    stage.resting("good").await;
    stage.settled("good").await;
    until("the malformed one is counted", Duration::from_secs(10), || async {
        operator.count("reconciles_total", &["Unreadable"]) > 0
    })
    .await;
    assert!(
        stage
            .services()
            .get("bad")
            .await
            .unwrap()
            .status
            .is_some_and(|s| s.observed_generation == -1)
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_quota_that_leaves_no_room_is_named_in_the_condition() {
    let stage = Stage::new("quota").await;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"services": "0"}}})).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    until("the quota is counted", Duration::from_secs(20), || async {
        let quota = quotas.get("none").await.unwrap();
        quota
            .status
            .and_then(|status| status.hard)
            .is_some_and(|hard| !hard.is_empty())
    })
    .await;
    let operator = Operator::running(&stage).await;
    stage.resting("shots").await;
    until("the condition names it", Duration::from_secs(10), || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(_, reason, message)| reason == "QuotaExceeded" && message.contains("Service"))
    })
    .await;
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    stage.settled("shots").await;
    operator.stop().await;
}

/// A configuration that acts as an operator whose role lacks what `without` says.
pub async fn restricted(stage: &Stage, without: impl Fn(&mut Value)) -> Config {
    let name = format!("operator-{}", stage.namespace);
    let mut rules = rbac::rules().unwrap();
    without(&mut rules);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
    let cluster: Api<ClusterRole> = Api::all(stage.client.clone());
    cluster.create(&PostParams::default(), &role).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(stage.client.clone());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let mut config = config().await;
    config.auth_info.impersonate = Some(name);
    config.auth_info.impersonate_groups = Some(vec!["system:authenticated".into()]);
    config
}

#[tokio::test]
async fn a_right_missing_for_one_kind_is_told_by_readiness_and_condition_and_heals() {
    let stage = Stage::new("rights").await;
    let without = |rules: &mut Value| {
        for rule in rules.as_array_mut().unwrap() {
            let resources = rule["resources"].as_array_mut().unwrap();
            resources.retain(|resource| resource != "networkpolicies");
        }
    };
    let config = restricted(&stage, without).await;
    let operator = Operator::begin(config, stage.scope());
    until("readiness names the kind and why", Duration::from_secs(10), || async {
        trouble(&operator.context).is_some_and(|why| why.contains("NetworkPolicy") && why.contains("Forbidden"))
    })
    .await;
    let operator = operator.leading();
    stage.resting("shots").await;
    until("the condition names it", Duration::from_secs(10), || async {
        let stalled = stage.condition("shots", "Stalled").await;
        stalled.is_some_and(|(_, reason, message)| reason == "Forbidden" && message.contains("NetworkPolicy"))
    })
    .await;
    assert!(
        stage.versions().await.is_empty(),
        "children were made while the cache was blind"
    );
    let roles: Api<ClusterRole> = Api::all(stage.client.clone());
    let full = Patch::Merge(json!({"rules": rbac::rules().unwrap()}));
    roles
        .patch(&format!("operator-{}", stage.namespace), &PatchParams::default(), &full)
        .await
        .unwrap();
    stage.settled_within("shots", Duration::from_secs(60)).await;
    operator.stop().await;
}

#[tokio::test]
async fn names_that_share_their_first_fifty_characters_do_not_collide() {
    let stage = Stage::new("names").await;
    let operator = Operator::running(&stage).await;
    let stem = "n".repeat(51);
    let names = [format!("{stem}a"), format!("{stem}b"), "n".into(), "n-egress".into()];
    for name in &names {
        stage.resting(name).await;
    }
    for name in &names {
        stage.settled(name).await;
    }
    let made = stage.versions().await;
    assert_eq!(made.len(), inventory("a").len() * names.len(), "{:?}", made.keys());
    operator.stop().await;
}

#[tokio::test]
async fn several_namespaces_are_looked_after_with_roles_alone_and_no_other_is_read() {
    let (one, two, other) = (
        Stage::new("one").await,
        Stage::new("two").await,
        Stage::new("other").await,
    );
    let user = format!("operator-{}", one.namespace);
    for stage in [&one, &two] {
        let resource = |kind: &str| {
            kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
                "rbac.authorization.k8s.io",
                "v1",
                kind,
            ))
        };
        let make = async |kind: &str, object: Value| {
            let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource(kind));
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        };
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "op"},
            "rules": rbac::rules().unwrap()});
        make("Role", role).await;
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "op"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "op"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        make("RoleBinding", binding).await;
    }
    let mut config = config().await;
    config.auth_info.impersonate = Some(user);
    config.auth_info.impersonate_groups = Some(vec!["system:authenticated".into()]);
    let operator = Operator::begin(config, Scope::of([one.namespace.clone(), two.namespace.clone()]));
    operator.ready(Duration::from_secs(10)).await;
    let operator = operator.leading();
    for stage in [&one, &two, &other] {
        stage.resting("shots").await;
    }
    one.settled("shots").await;
    two.settled("shots").await;
    assert!(other.versions().await.is_empty());
    // That an optional kind is not served is no refusal.
    let unserved = operator.count("api_calls_total", &["4xx", "APIResourceList"]);
    assert_eq!(
        operator.count("api_calls_total", &["4xx"]) - unserved,
        0,
        "{}",
        operator.context.metrics.counters()
    );
    operator.stop().await;
}

/// Seconds by which the operator's clock is wrong.
static JUMP: AtomicI64 = AtomicI64::new(0);

fn jumping() -> Timestamp {
    Timestamp::from_second(whole_seconds().as_second() + JUMP.load(Ordering::SeqCst)).unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_rotates_once_and_always_leaves_a_token_that_works() {
    let stage = Stage::new("clock").await;
    let operator = Operator::with_clock(config().await, stage.scope(), jumping);
    operator.ready(Duration::from_secs(10)).await;
    let service = stage.resting("shots").await;
    operator.pass(&service).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let data = |secret: Secret, key: &str| String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap();
    let read = async || {
        let token = data(secrets.get("shots-token").await.unwrap(), "token");
        let keyset = data(secrets.get("shots-keyset").await.unwrap(), "keyset.json");
        let keyset = screenshot_policy::keyset::Keyset::parse(keyset.as_bytes()).unwrap();
        assert!(
            keyset.verify(&token, jumping()).is_ok(),
            "the client's token does not work"
        );
        (token, keyset)
    };
    let (first, _) = read().await;
    // Years ahead, back again, and into the past.
    let mut tokens = vec![first];
    for days in [400, 0, -400, 0, 400] {
        JUMP.store(days * 86_400, Ordering::SeqCst);
        for _ in 0..3 {
            let service = stage.services().get("shots").await.unwrap();
            operator.pass(&service).await.unwrap();
        }
        tokens.push(read().await.0);
    }
    assert_ne!(tokens[1], tokens[0], "an old token is replaced");
    assert!(
        tokens[1..].iter().all(|token| *token == tokens[1]),
        "replaced more than once"
    );
    assert!(secrets.get_opt("shots-pending").await.unwrap().is_none());
}
