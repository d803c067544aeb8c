//! An API server that misbehaves, is away, or does not know the resource yet.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use screenshot_api::ScreenshotService;
use screenshot_operator::cache::Key;
use screenshot_operator::http::trouble;
use screenshot_operator::names::Names;
use screenshot_operator::plan::Kind;
use serde_json::{Value, json};

use crate::proxy::{Fault, Proxy};
use crate::support::{Operator, PATIENCE, Stage, config, until, whole_seconds};

/// Whether a call writes.
pub fn writes(method: &Method, _: &str) -> bool {
    *method == Method::PATCH || *method == Method::POST
}

#[tokio::test]
async fn refused_and_lost_answers_delay_a_service_and_nothing_is_made_twice() {
    let stage = Stage::new("refuse").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
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
    operator.ready(PATIENCE).await;
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

/// A clock for which a second is a minute.
fn fast() -> Timestamp {
    static BEGUN: LazyLock<Timestamp> = LazyLock::new(whole_seconds);
    let passed = whole_seconds().duration_since(*BEGUN);
    *BEGUN + passed * 60
}

/// The API server tells of a webhook that it cannot ask as of a fault of its own.
#[tokio::test]
async fn a_webhook_that_does_not_answer_is_named_by_the_status_until_it_is_gone() {
    let stage = Stage::new("unheard").await;
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(stage.client.clone());
    let name = format!("{}.example.com", stage.namespace);
    let webhook = json!({"metadata": {"name": name}, "webhooks": [{
        "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/nobody"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}],
    }]});
    let webhook = serde_json::from_value(webhook).unwrap();
    webhooks.create(&PostParams::default(), &webhook).await.unwrap();
    let maps = stage.children(Kind::ConfigMap);
    let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "probe-"}});
    let probe = serde_json::from_value(probe).unwrap();
    until("the API server asks the webhook", PATIENCE, || async {
        maps.create(&PostParams::default(), &probe).await.is_err()
    })
    .await;

    let operator = Operator::with_clock(config().await, stage.scope(), fast);
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    let failures = || operator.count("reconciles_total", &["\"WebhookUnavailable\""]);
    until("a pass failed", PATIENCE, || async { failures() > 0 }).await;
    let ready = stage.condition("shots", "Ready").await;
    assert!(
        ready.is_none_or(|(_, why, _)| why != "WebhookUnavailable"),
        "told at once"
    );
    until("the status names it", PATIENCE, || async {
        let ready = stage.condition("shots", "Ready").await;
        ready.is_some_and(|(is, why, text)| {
            is == "False" && why == "WebhookUnavailable" && text.starts_with(&format!("webhook {name}, "))
        })
    })
    .await;
    let (is, why, _) = stage.condition("shots", "Reconciling").await.unwrap();
    assert_eq!((is.as_str(), why.as_str()), ("True", "WebhookUnavailable"));
    assert_eq!(stage.condition("shots", "Stalled").await, None);
    webhooks.delete(&name, &DeleteParams::default()).await.unwrap();
    stage.settled("shots").await;
    assert_eq!(stage.condition("shots", "Reconciling").await, None);
    operator.stop().await;
}

/// Seconds by which the operator's clock is ahead.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn ahead() -> Timestamp {
    Timestamp::from_second(whole_seconds().as_second() + AHEAD.load(Ordering::SeqCst)).unwrap()
}

#[tokio::test]
async fn failures_before_and_after_a_spec_that_is_invalid_are_not_one_failure() {
    let stage = Stage::new("between").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::with_clock(proxy.config(), stage.scope(), ahead);
    operator.ready(PATIENCE).await;
    proxy.inject(usize::MAX, Fault::Refuse(500, 0), |method, path| {
        writes(method, path) && path.contains("configmaps")
    });
    let reason = async || Some(stage.condition("shots", "Ready").await?.1);
    let service = stage.resting("shots").await;
    operator.pass(&service).await.unwrap_err();
    assert_eq!(reason().await, None, "told at once");

    let edit = async |allow: &Value| {
        let spec = json!({"network": {"egress": {"domains": {"allow": allow}}}});
        stage.edit("shots", spec).await
    };
    operator
        .pass(&edit(&json!(["shop.web.svc.cluster.local"])).await)
        .await
        .unwrap();
    assert_eq!(reason().await.as_deref(), Some("InvalidEntry"));
    AHEAD.store(3600, Ordering::SeqCst);
    let valid = edit(&Value::Null).await;
    operator.pass(&valid).await.unwrap_err();
    assert_eq!(
        reason().await.as_deref(),
        Some("InvalidEntry"),
        "the first failure since is told at once"
    );
    AHEAD.store(3700, Ordering::SeqCst);
    operator.pass(&valid).await.unwrap_err();
    assert_eq!(reason().await.as_deref(), Some("ApiUnavailable"));
    operator.stop().await;
}

/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(2);

#[tokio::test]
async fn after_an_api_server_that_was_away_everything_is_as_wanted_again() {
    let stage = Stage::new("away").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    stage.resting("shots").await;
    stage.settled("shots").await;
    proxy.away();
    let gone = Instant::now();
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
    tokio::time::sleep(AWAY.saturating_sub(gone.elapsed())).await;
    proxy.back();
    until("what was done meanwhile is seen", PATIENCE, || async {
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
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    proxy.inject(1, Fault::Late(Duration::from_secs(2)), |method, path| {
        writes(method, path) && path.contains("configmaps")
    });
    stage.resting("shots").await;
    let account = stage.children(Kind::ServiceAccount);
    until("the pass has begun", PATIENCE, || async {
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
    until("all children are gone", PATIENCE, || async {
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

/// Its children go after it, and a pass under way makes some more.
#[tokio::test]
async fn a_deleted_service_is_forgotten_and_waits_for_no_pass_whether_one_was_under_way_or_not() {
    let stage = Stage::new("forgotten").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    let operator = operator.leading();
    let remembered = |name: &str| {
        let key = Key::new(&stage.namespace, name);
        operator.context.memories.remembers(&key)
    };
    let failures = || operator.passes() - operator.count("reconciles_total", &["\"ok\""]);
    stage.resting("rested").await;
    stage.settled("rested").await;
    let before = failures();
    proxy.inject(1, Fault::Late(Duration::from_secs(2)), |method, path| {
        writes(method, path) && path.contains("configmaps/begun")
    });
    stage.resting("begun").await;
    let account = stage.children(Kind::ServiceAccount);
    until("the pass has begun", PATIENCE, || async {
        account.get_opt("begun").await.unwrap().is_some()
    })
    .await;
    assert!(remembered("rested") && remembered("begun"));
    for name in ["rested", "begun"] {
        let params = DeleteParams::background();
        stage.services().delete(name, &params).await.unwrap();
    }
    // It finds no service whose status it could write.
    until("the pass has ended", PATIENCE, || async { failures() > before }).await;
    until("all children are gone", PATIENCE, || async {
        stage.versions().await.is_empty()
    })
    .await;
    // The watches tell of it a moment later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(operator.context.queue.depth(), 0);
    assert!(!remembered("rested") && !remembered("begun"));
    operator.stop().await;
}

#[tokio::test]
async fn a_step_of_the_rotation_is_told_and_counted_once_whatever_fails_after_it() {
    let stage = Stage::new("steps").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let operator = Operator::begin(proxy.config(), stage.scope());
    operator.ready(PATIENCE).await;
    let counted = |step: &str| operator.count("rotation_steps", &[&format!("\"{step}\"")]);
    let api: Api<Event> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let told = async |reason: &str| {
        let mut times = 0;
        for event in api.list(&ListParams::default()).await.unwrap().items {
            if event.reason.as_deref() == Some(reason) {
                // One that is told again is counted in its object.
                times += event.series.map_or(1, |series| series.count);
            }
        }
        times
    };
    let deployment = |method: &Method, path: &str| writes(method, path) && path.contains("deployments");

    // The third Secret is the keyset, after the internal key and the token.
    let secrets = AtomicUsize::new(0);
    proxy.inject(1, Fault::Refuse(403, 0), move |method, path| {
        *method == Method::POST && path.contains("/secrets") && secrets.fetch_add(1, Ordering::SeqCst) == 2
    });
    let service = stage.resting("shots").await;
    operator.pass(&service).await.unwrap_err();
    assert_eq!((counted("Issue"), counted("Establish")), (1, 0), "one failed");
    proxy.inject(1, Fault::Refuse(403, 0), deployment);
    operator.pass(&service).await.unwrap_err();
    assert_eq!((counted("Establish"), told("KeysetEstablished").await), (1, 1));
    operator.pass(&service).await.unwrap();
    assert_eq!((counted("Establish"), told("KeysetEstablished").await), (1, 1));

    // A failure of which nothing is told, as it passes by itself: the next pass tells of the steps.
    proxy.inject(1, Fault::Refuse(500, 0), deployment);
    let spec = json!({"auth": {"rotation": {"nonce": "a"}}, "podMetadata": {"labels": {"team": "web"}}});
    let service = stage.edit("shots", spec).await;
    let error = operator.pass(&service).await.unwrap_err();
    assert_eq!(error.reason(), "ApiUnavailable");
    for _ in 0..2 {
        operator.pass(&service).await.unwrap();
        assert_eq!((counted("WriteClient"), told("TokenPromoted").await), (1, 1));
    }
    operator.stop().await;
}

#[tokio::test]
async fn an_operator_that_starts_before_its_definition_waits_says_so_and_goes_on_when_it_comes() {
    let stage = Stage::new("undefined").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    proxy.hide(ScreenshotService::group(&()).as_ref());
    let operator = Operator::begin(proxy.config(), stage.scope());
    until("readiness names the kind and why", PATIENCE, || async {
        trouble(&operator.context).is_some_and(|why| why.contains("ScreenshotService") && why.contains("NotServed"))
    })
    .await;
    let operator = operator.leading();
    stage.resting("shots").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let why = trouble(&operator.context).expect("still not ready");
    assert!(
        !why.contains("Deployment"),
        "the other watches are said not to work: {why}"
    );
    assert!(stage.versions().await.is_empty());
    proxy.show();
    // Watches that fail are tried again after half a minute at most.
    stage.settled_within("shots", Duration::from_secs(45)).await;
    assert_eq!(trouble(&operator.context), None);
    operator.stop().await;
}
