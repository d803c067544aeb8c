//! The end, in order: no new pass, those under way finish, the Lease is given back, ports answer throughout.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use screenshot_operator::leader::{Elector, Times};
use screenshot_operator::plan::Kind;
use screenshot_operator::run::{Ended, Ports, run};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::faults::writes;
use crate::proxy::{Fault, Proxy};
use crate::support::{PATIENCE, Stage, context, until, whole_seconds};

/// How long the API server takes for one write of the pass that is under way.
const SLOW: Duration = Duration::from_secs(4);

/// An address on loopback that nobody listens on.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn ports() -> Ports {
    Ports {
        health: free(),
        metrics: free(),
        canary: free(),
    }
}

async fn answers(address: SocketAddr, path: &str) -> bool {
    let client = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(format!("http://{address}{path}").parse().unwrap()).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn holder(stage: &Stage) -> Option<String> {
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    api.get_opt("lease").await.unwrap()?.spec?.holder_identity
}

#[tokio::test]
async fn an_operator_that_is_asked_to_stop_finishes_its_passes_and_begins_none_and_gives_the_lease_back_last() {
    let stage = Stage::new("stop").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let context = Arc::new(context(proxy.config(), whole_seconds));
    let lease = Client::try_from(proxy.config()).unwrap();
    let elector = Elector::new(lease, &stage.namespace, "lease", "me", Times::default());
    let (ports, stop) = (ports(), CancellationToken::new());
    let running = tokio::spawn(run(
        Arc::clone(&context),
        stage.scope(),
        Some(elector),
        ports,
        stop.clone(),
    ));
    until("it is ready", PATIENCE, || answers(ports.health, "/readyz")).await;
    // The pass is under way: its first write is held up.
    proxy.inject(1, Fault::Late(SLOW), |method, path| {
        writes(method, path) && path.contains("networkpolicies/begun-default-deny")
    });
    stage.resting("begun").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    stage.resting("late").await;
    tokio::time::sleep(SLOW / 2).await;
    assert!(!running.is_finished(), "it ended in the middle of a pass");
    assert!(
        answers(ports.health, "/healthz").await && answers(ports.metrics, "/metrics").await,
        "probes are not answered while passes finish"
    );
    assert_eq!(
        holder(&stage).await.as_deref(),
        Some("me"),
        "another one may lead while passes are under way"
    );
    let ended = tokio::time::timeout(Duration::from_secs(15), running).await;
    ended.expect("it ends in time").unwrap().unwrap();
    assert_eq!(
        holder(&stage).await.as_deref(),
        Some(""),
        "the Lease was not given back"
    );
    assert!(!answers(ports.health, "/healthz").await && !answers(ports.metrics, "/metrics").await);
    let deployments = stage.children(Kind::Deployment);
    assert!(
        deployments.get_opt("begun").await.unwrap().is_some(),
        "the pass under way was cut off"
    );
    assert!(
        deployments.get_opt("late").await.unwrap().is_none(),
        "a pass began after it was asked to stop"
    );
}

/// A leader in the middle of a pass loses its Lease by what `cut` does: it ends, and nothing is written afterwards.
async fn loses_its_lease(stage: &Stage, cut: impl FnOnce(&Proxy)) {
    const TIMES: Times = Times {
        lease: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry: Duration::from_millis(300),
    };
    let proxy = Proxy::start(stage.client.clone()).await;
    let context = Arc::new(context(proxy.config(), whole_seconds));
    let lease = Client::try_from(proxy.config()).unwrap();
    let elector = Elector::new(lease, &stage.namespace, "lease", "me", TIMES);
    let (ports, stop) = (ports(), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&context), stage.scope(), Some(elector), ports, stop));
    until("it is ready", PATIENCE, || answers(ports.health, "/readyz")).await;
    stage.resting("mended").await;
    stage.settled("mended").await;
    // The pass is under way: its first write is held up for longer than the Lease lives.
    proxy.inject(1, Fault::Late(2 * TIMES.lease), |method, path| {
        writes(method, path) && path.contains("networkpolicies/begun-default-deny")
    });
    stage.resting("begun").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cut(&proxy);
    let ended = tokio::time::timeout(TIMES.lease + Duration::from_secs(2), running).await;
    let ended = ended.expect("it ends before another one leads").unwrap();
    assert!(matches!(ended, Err(Ended::LostLease)), "{ended:?}");
    assert!(
        !answers(ports.health, "/healthz").await,
        "the process would not be started anew"
    );
    // The API server would hear it again, and there is work.
    proxy.back();
    let deployments = stage.children(Kind::Deployment);
    let edit = Patch::Merge(json!({"spec": {"replicas": 3}}));
    deployments
        .patch("mended", &PatchParams::default(), &edit)
        .await
        .unwrap();
    stage.resting("late").await;
    tokio::time::sleep(2 * TIMES.lease).await;
    assert_eq!(
        deployments.get("mended").await.unwrap().data["spec"]["replicas"],
        json!(3),
        "an edit was put back after the end"
    );
    let children: Vec<(Kind, String)> = stage.versions().await.into_keys().collect();
    let of_mended = children.iter().all(|(_, name)| name.starts_with("mended"));
    assert!(of_mended, "made after the end: {children:?}");
    assert_ne!(
        holder(stage).await.as_deref(),
        Some(""),
        "what was lost is not given back"
    );
}

#[tokio::test]
async fn a_leader_that_is_cut_off_ends_in_the_middle_of_a_pass_and_writes_nothing_more() {
    let stage = Stage::new("lost").await;
    loses_its_lease(&stage, Proxy::away).await;
}

/// All the rest of the API server answers: what it still could write, it must not.
#[tokio::test]
async fn a_leader_whose_lease_alone_cannot_be_renewed_ends_too() {
    let stage = Stage::new("lease-lost").await;
    loses_its_lease(&stage, |proxy| {
        proxy.inject(usize::MAX, Fault::Refuse(500, 0), |_, path| path.contains("/leases"));
    })
    .await;
}
