//! One replica leads; the other takes over when it ends, is cut off, or hangs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use screenshot_operator::cache::Key;
use screenshot_operator::context::Context;
use screenshot_operator::http::trouble;
use screenshot_operator::leader::{Elector, Times};
use screenshot_operator::plan::Kind;
use screenshot_operator::run::{Ended, Ports, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;
use crate::support::{PATIENCE, Stage, config, context, is_settled, sum, until, whole_seconds};

const TIMES: Times = Times {
    lease: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    retry: Duration::from_millis(300),
};

fn elector(client: Client, stage: &Stage, me: &str) -> Elector {
    Elector::new(client, &stage.namespace, "lease", me, TIMES)
}

async fn holder(stage: &Stage) -> Option<String> {
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    api.get_opt("lease").await.unwrap()?.spec?.holder_identity
}

/// Leads for as long as it may, and counts how many lead at a time.
async fn replica(mut elector: Elector, leaders: Arc<AtomicUsize>, most: Arc<AtomicUsize>, stop: CancellationToken) {
    tokio::select! {
        () = elector.campaign() => {}
        () = stop.cancelled() => return,
    }
    let now = leaders.fetch_add(1, Ordering::SeqCst) + 1;
    most.fetch_max(now, Ordering::SeqCst);
    let asked = tokio::select! {
        () = elector.keep() => false,
        () = stop.cancelled() => true,
    };
    leaders.fetch_sub(1, Ordering::SeqCst);
    if asked {
        elector.release().await.unwrap();
    }
}

#[tokio::test]
async fn of_two_replicas_one_leads_and_the_other_takes_over_at_once_when_it_ends() {
    let stage = Stage::new("lead").await;
    let (leaders, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut replicas = Vec::new();
    for me in ["a", "b", "c"] {
        let stop = CancellationToken::new();
        let run = replica(
            elector(stage.client.clone(), &stage, me),
            leaders.clone(),
            most.clone(),
            stop.clone(),
        );
        replicas.push((me, stop, tokio::spawn(run)));
    }
    let leading = || async { leaders.load(Ordering::SeqCst) == 1 };
    until("somebody leads", Duration::from_secs(5), leading).await;
    for _ in 0..2 {
        let led = holder(&stage).await.unwrap();
        let n = replicas.iter().position(|(me, ..)| *me == led).unwrap();
        let (_, stop, task) = replicas.swap_remove(n);
        stop.cancel();
        task.await.unwrap();
        let start = Instant::now();
        until("another one leads", Duration::from_secs(5), leading).await;
        assert!(start.elapsed() < Duration::from_secs(2), "it did not take over at once");
    }
    assert_eq!(most.load(Ordering::SeqCst), 1, "two led at a time");
    for (_, stop, task) in replicas {
        stop.cancel();
        task.await.unwrap();
    }
    assert_eq!(
        holder(&stage).await.as_deref(),
        Some(""),
        "the last one gave the Lease back"
    );
}

#[tokio::test]
async fn a_leader_that_is_cut_off_gives_up_before_another_one_begins() {
    let stage = Stage::new("cut").await;
    let proxy = Proxy::start(stage.client.clone()).await;
    let cut_off = Client::try_from(proxy.config()).unwrap();
    let mut first = elector(cut_off, &stage, "first");
    first.campaign().await;
    let second = tokio::spawn({
        let mut second = elector(stage.client.clone(), &stage, "second");
        async move {
            second.campaign().await;
            (Instant::now(), second)
        }
    });
    let kept = tokio::spawn(async move {
        first.keep().await;
        Instant::now()
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!second.is_finished(), "the first one renews and still lost the Lease");
    proxy.away();
    let gave_up = kept.await.unwrap();
    let (began, mut second) = second.await.unwrap();
    assert!(gave_up < began, "two led at a time");
    assert_eq!(holder(&stage).await.as_deref(), Some("second"));
    second.release().await.unwrap();
}

/// Writes fields of the Lease past its holder.
async fn write_lease(stage: &Stage, spec: &Value) {
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let patch = kube::api::Patch::Merge(json!({"spec": spec}));
    api.patch("lease", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lease_taken_by_another_one_is_not_taken_back() {
    let stage = Stage::new("stolen").await;
    let mut first = elector(stage.client.clone(), &stage, "first");
    first.campaign().await;
    write_lease(&stage, &json!({"holderIdentity": "thief"})).await;
    tokio::time::timeout(Duration::from_secs(2), first.keep())
        .await
        .expect("it gives up");
    first.release().await.unwrap();
    assert_eq!(holder(&stage).await.as_deref(), Some("thief"));
}

#[tokio::test]
async fn a_lease_that_was_written_since_it_was_seen_is_given_back_all_the_same() {
    let stage = Stage::new("unheard").await;
    let mut first = elector(stage.client.clone(), &stage, "first");
    first.campaign().await;
    // As a renewal does whose answer nobody waits for.
    write_lease(&stage, &json!({"leaseDurationSeconds": 7})).await;
    first.release().await.unwrap();
    assert_eq!(holder(&stage).await.as_deref(), Some(""));
}

/// A whole operator, as its program runs it; ends when asked to.
fn candidate(
    context: &Arc<Context>,
    stage: &Stage,
    me: &str,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), Ended>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let ports = Ports {
        health: any,
        metrics: any,
        canary: any,
    };
    // Long enough that a slow minute of the machine costs nobody the Lease, and that only one that is given back is taken soon.
    let times = Times {
        lease: Duration::from_secs(40),
        renew_deadline: Duration::from_secs(30),
        ..TIMES
    };
    let elector = Elector::new(context.client.clone(), &stage.namespace, "lease", me, times);
    tokio::spawn(run(
        Arc::clone(context),
        stage.scope(),
        Some(elector),
        ports,
        stop.clone(),
    ))
}

#[tokio::test]
async fn the_one_in_waiting_has_read_everything_and_goes_on_where_the_leader_ended() {
    let stage = Stage::new("warm").await;
    let made = async || Arc::new(context(config().await, whole_seconds));
    let (leading, waiting) = (made().await, made().await);
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let first = candidate(&leading, &stage, "first", &stop);
    until("the first one leads", PATIENCE, || async {
        holder(&stage).await.as_deref() == Some("first")
    })
    .await;
    let second = candidate(&waiting, &stage, "second", &end);
    stage.resting("shots").await;
    stage.settled("shots").await;
    let key = Key::new(&stage.namespace, "shots");
    let known = || waiting.services.readable(&key).is_some_and(|shots| is_settled(&shots));
    until("the second one has read it all", PATIENCE, || async {
        trouble(&waiting).is_none() && known()
    })
    .await;
    let count = |metric: &str, words: &[&str]| sum(&waiting.metrics.counters(), metric, words);
    let lists = || count("api_calls_total", &["verb=\"list\""]);
    // Without pods the service may be settled before the children's controllers have written their first status.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (read, before) = (lists(), stage.versions().await);
    assert_eq!(count("reconciles_total", &[]), 0, "one that waits makes passes");

    stop.cancel();
    first.await.unwrap().expect("it ends as it was asked to");
    until("the second one leads", Duration::from_secs(10), || async {
        holder(&stage).await.as_deref() == Some("second")
    })
    .await;
    until("it has looked at the service", PATIENCE, || async {
        count("reconciles_total", &["\"ok\""]) > 0
    })
    .await;
    assert_eq!((lists(), stage.versions().await), (read, before), "it began anew");
    stage
        .edit("shots", json!({"podMetadata": {"labels": {"team": "web"}}}))
        .await;
    let deployments = stage.children(Kind::Deployment);
    until("it goes on", PATIENCE, || async {
        let deployment = deployments.get("shots").await.unwrap();
        deployment.data["spec"]["template"]["metadata"]["labels"]["team"] == "web"
    })
    .await;
    end.cancel();
    second.await.unwrap().expect("it ends as it was asked to");
    assert_eq!(holder(&stage).await.as_deref(), Some(""));
}
