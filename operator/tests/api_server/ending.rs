//! The end, in order: no new pass, those under way finish, the Lease is given back, ports answer throughout.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use screenshot_operator::leader::{Elector, Times};
use screenshot_operator::plan::Kind;
use screenshot_operator::run::{Ports, run};
use tokio_util::sync::CancellationToken;

use crate::faults::writes;
use crate::proxy::{Fault, Proxy};
use crate::support::{Stage, context, until, whole_seconds};

/// How long the API server takes for one write of the pass that is under way.
const SLOW: Duration = Duration::from_secs(4);

/// An address on loopback that nobody listens on.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
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
    let (ports, stop) = (
        Ports {
            health: free(),
            metrics: free(),
            canary: free(),
        },
        CancellationToken::new(),
    );
    let running = tokio::spawn(run(
        Arc::clone(&context),
        stage.scope(),
        Some(elector),
        ports,
        stop.clone(),
    ));
    until("it is ready", Duration::from_secs(10), || {
        answers(ports.health, "/readyz")
    })
    .await;
    // The pass is under way: its first write is held up.
    proxy.inject(1, Fault::Late(SLOW), |method, path| {
        writes(method, path) && path.contains("serviceaccounts")
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
