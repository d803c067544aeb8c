//! A capture pod and the keyset: brought by the operator at once, or by the kubelet later.
//!
//! No node is there, so the pod is an object only; its server answers on loopback.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use screenshot_operator::attest::Attester;
use screenshot_operator::canary::Canary;
use screenshot_operator::plan::Kind;
use screenshot_policy::attest::{AttestReport, InternalKey, KeysetFacts, MAC_HEADER, NONCE_HEADER, SandboxFacts};
use screenshot_policy::keyset::Keyset;
use screenshot_policy::layout::{ATTEST_PATH, KEYSET_BRING_PATH};
use screenshot_policy::token::Token;
use serde_json::json;

use crate::support::{Operator, PATIENCE, Stage, config, until, whole_seconds};

/// What the server in the pod knows.
struct Server {
    key: InternalKey,
    policy: String,
    keyset: Keyset,
    /// How often it attested.
    asked: usize,
    /// Whether it knows how to be brought a keyset.
    takes: bool,
    /// Whether nothing stands between the operator and its API port, which is the same port here.
    lets_in: bool,
}

type Shared = Arc<Mutex<Option<Server>>>;

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

async fn attest(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut held = shared.lock().unwrap();
    let Some(server) = held.as_mut() else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    server.asked += 1;
    let nonce = header(&headers, NONCE_HEADER);
    if server.key.verify_request(nonce, "", header(&headers, MAC_HEADER)) {
        report(server, nonce)
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn bring(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut held = shared.lock().unwrap();
    let Some(server) = held.as_mut().filter(|server| server.takes) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let nonce = header(&headers, NONCE_HEADER);
    if !server.key.verify_keyset(nonce, &body, header(&headers, MAC_HEADER)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    server.keyset = Keyset::parse(&body).unwrap();
    report(server, nonce)
}

async fn live(State(shared): State<Shared>) -> StatusCode {
    match &*shared.lock().unwrap() {
        Some(server) if server.lets_in => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn report(server: &Server, nonce: &str) -> Response {
    let report = AttestReport {
        pod: "shots-0".into(),
        ready: true,
        policy_digest: Some(server.policy.clone()),
        keyset: Some(KeysetFacts {
            revision: server.keyset.revision,
            digest: server.keyset.digest(),
            stale: None,
        }),
        sandbox: SandboxFacts {
            verified: true,
            ..SandboxFacts::default()
        },
        ..AttestReport::default()
    };
    let body = serde_json::to_vec(&report).unwrap();
    ([(MAC_HEADER, server.key.response_mac(nonce, &body))], body).into_response()
}

struct World {
    stage: Stage,
    operator: Operator,
    server: Shared,
}

impl World {
    /// A service at rest with one pod, whose server holds the keyset as it is.
    async fn new(prefix: &str, takes: bool) -> Self {
        let stage = Stage::new(prefix).await;
        let server = Shared::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route(ATTEST_PATH, get(attest))
            .route(KEYSET_BRING_PATH, put(bring))
            .route("/health/live", get(live))
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let adjusted = |context: &mut screenshot_operator::context::Context| {
            context.attester = Attester::on_ports(port, port);
            // An address of its own, so that it knocks. Nothing listens there: no pod is asked to try it.
            context.canary = Arc::new(Canary::at(&[Ipv4Addr::LOCALHOST.into()], &[], 1).unwrap());
        };
        let operator = Operator::adjusted(config().await, stage.scope(), whole_seconds, adjusted);
        operator.ready(PATIENCE).await;
        let operator = operator.leading();
        stage.resting("shots").await;
        stage.settled("shots").await;
        let world = Self {
            stage,
            operator,
            server,
        };
        let key = world.secret("shots-internal", "key").await.unwrap();
        *world.server.lock().unwrap() = Some(Server {
            key: InternalKey::parse(&key).unwrap(),
            policy: world.policy().await,
            keyset: world.keyset().await,
            asked: 0,
            takes,
            lets_in: false,
        });
        world.run_pod().await;
        until("the pod is asked", PATIENCE, || async {
            world.server.lock().unwrap().as_ref().unwrap().asked > 0
        })
        .await;
        world
    }

    async fn run_pod(&self) {
        let api: Api<Pod> = Api::namespaced(self.stage.client.clone(), &self.stage.namespace);
        // Without the hash that a ReplicaSet adds, none adopts it.
        let deployment = self.stage.children(Kind::Deployment).get("shots").await.unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "shots-0", "labels": deployment.data["spec"]["template"]["metadata"]["labels"]},
            "spec": {"containers": [{"name": "server", "image": "none"}]},
        }))
        .unwrap();
        api.create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({"status": {
            "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running",
            "containerStatuses": [{"name": "server", "ready": true, "restartCount": 0, "image": "none", "imageID": "",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        }});
        let params = PatchParams::default();
        api.patch_status("shots-0", &params, &Patch::Merge(status))
            .await
            .unwrap();
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.stage.client.clone(), &self.stage.namespace)
    }

    async fn secret(&self, name: &str, key: &str) -> Option<String> {
        let data = self.secrets().get_opt(name).await.unwrap()?.data?;
        Some(String::from_utf8(data[key].0.clone()).unwrap())
    }

    async fn policy(&self) -> String {
        let status = self.stage.services().get("shots").await.unwrap().status.unwrap();
        status.policy_digest.unwrap()
    }

    async fn keyset(&self) -> Keyset {
        Keyset::parse(self.secret("shots-keyset", "keyset.json").await.unwrap().as_bytes()).unwrap()
    }

    /// What the kubelet does within two minutes.
    async fn kubelet_brings_the_keyset(&self) {
        let keyset = self.keyset().await;
        self.server.lock().unwrap().as_mut().unwrap().keyset = keyset;
    }

    /// Whether the server in the pod accepts the token.
    fn accepts(&self, token: &str) -> bool {
        let held = self.server.lock().unwrap();
        held.as_ref().unwrap().keyset.verify(token, whole_seconds()).is_ok()
    }

    /// Deletes the client's token; gives it.
    async fn delete_token(&self) -> String {
        let token = self.secret("shots-token", "token").await.unwrap();
        assert!(self.accepts(&token));
        self.secrets()
            .delete("shots-token", &DeleteParams::default())
            .await
            .unwrap();
        token
    }
}

#[tokio::test]
async fn a_deleted_token_is_replaced_within_two_seconds_as_the_keyset_is_brought_to_the_pods() {
    let world = World::new("brought", true).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        let old = world.delete_token().await;
        let start = Instant::now();
        until("another token", PATIENCE, || async {
            world.secret("shots-token", "token").await.is_some()
        })
        .await;
        times.push(start.elapsed());
        let new = world.secret("shots-token", "token").await.unwrap();
        assert!(new != old && Token::parse(&new).is_ok());
        assert!(world.accepts(&new), "clients were given a token that the pod refuses");
        until("the keyset at rest is in force", PATIENCE, || async {
            let held = world.server.lock().unwrap().as_ref().unwrap().keyset.clone();
            held == world.keyset().await && world.secret("shots-pending", "token").await.is_none()
        })
        .await;
        world.stage.settled("shots").await;
    }
    times.sort();
    assert!(times[1] < Duration::from_secs(2), "{times:?}");
    world.operator.stop().await;
}

#[tokio::test]
async fn a_pod_that_cannot_be_brought_a_keyset_is_waited_for_and_no_token_is_given_before() {
    let world = World::new("waits", false).await;
    world.delete_token().await;
    until("the keyset has a staged key", PATIENCE, || async {
        world.keyset().await.keys.len() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        world.secret("shots-token", "token").await.is_none(),
        "a token was given before the pod had its key"
    );
    world.kubelet_brings_the_keyset().await;
    until("the token", Duration::from_secs(12), || async {
        world.secret("shots-token", "token").await.is_some()
    })
    .await;
    assert!(world.accepts(&world.secret("shots-token", "token").await.unwrap()));
    world.operator.stop().await;
}

#[tokio::test]
async fn an_operator_that_gets_in_on_the_api_port_says_that_nothing_is_enforced() {
    let world = World::new("knock", true).await;
    world.stage.edit("shots", json!({"replicas": 1})).await;
    let said = async || world.stage.condition("shots", "EgressEnforced").await.unwrap();
    until("nobody got in yet", PATIENCE, || async {
        said().await.1 == "CanaryUnavailable"
    })
    .await;
    world.server.lock().unwrap().as_mut().unwrap().lets_in = true;
    // Something happens to the pod, so that it is asked anew.
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let pods: Api<Pod> = Api::namespaced(world.stage.client.clone(), &world.stage.namespace);
    pods.patch_status("shots-0", &PatchParams::default(), &Patch::Merge(ready))
        .await
        .unwrap();
    until("the operator says that it got in", PATIENCE, || async {
        said().await.0 == "False"
    })
    .await;
    let (_, reason, message) = said().await;
    assert_eq!(reason, "NetworkPolicyNotEnforced");
    assert!(message.contains("the operator reached the API port"), "{message}");
    world.operator.stop().await;
}
