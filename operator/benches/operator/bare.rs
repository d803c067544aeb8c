//! A bare client: the same objects as the operator makes, in the same number of calls, as fast as the API server takes
//! them. It watches nothing, compares nothing and decides nothing: what it does not reach nobody reaches on this machine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use screenshot_api::ScreenshotService;
use screenshot_operator::names::{MANAGER, Names};
use screenshot_operator::plan::{Child, Kind, Surroundings, Targets, plan, secrets};
use screenshot_policy::attest::InternalKey;
use screenshot_policy::keyset::{self, Key, KeyState, Keyset, Scope};
use screenshot_policy::token::{Kid, Token};
use serde_json::json;

use crate::{sample, services};

/// How many services are made.
const SERVICES: usize = 300;
/// Services under way at a time, as many as the operator has passes.
const HANDS: usize = 32;
/// What the operator tells of a new service.
const EVENTS: [&str; 2] = ["KeysetEstablished", "Suspended"];
const NAMESPACE: &str = "bare";

/// Services per second.
pub async fn rate(client: &Client) -> f64 {
    services::namespace(client, NAMESPACE).await;
    let recorder = Recorder::new(client.clone(), "bench".into());
    let start = Instant::now();
    stream::iter(0..SERVICES)
        .for_each_concurrent(HANDS, |n| one(client.clone(), recorder.clone(), format!("shots-{n}")))
        .await;
    let rate = f64::from(u32::try_from(SERVICES).expect("few")) / start.elapsed().as_secs_f64();
    remove(client).await;
    rate
}

async fn one(client: Client, recorder: Recorder, name: String) {
    let service = services::create(&client, NAMESPACE, &name).await;
    let uid = service.uid().expect("uid");
    for child in children(&name, &uid) {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &child.kind.api_resource());
        let made = if child.kind == Kind::Secret {
            let object = serde_json::from_value(child.body).expect("object");
            api.create(&params().1, &object).await
        } else {
            let mut body = child.body;
            body["metadata"]["resourceVersion"] = json!("1");
            api.patch(&child.name, &params().0, &Patch::Apply(body)).await
        };
        made.expect("made");
    }
    let status = json!({
        "apiVersion": ScreenshotService::api_version(&()), "kind": ScreenshotService::kind(&()),
        "status": {"observedGeneration": 1, "selector": Names::new(&name).selector_text()},
    });
    let api: Api<ScreenshotService> = Api::namespaced(client.clone(), NAMESPACE);
    api.patch_status(&name, &params().0, &Patch::Apply(status))
        .await
        .expect("status");
    for reason in EVENTS {
        let event = Event {
            type_: EventType::Normal,
            reason: reason.into(),
            note: None,
            action: "Reconcile".into(),
            secondary: None,
        };
        recorder.publish(&event, &service.object_ref(&())).await.expect("event");
    }
}

/// As the operator writes them.
fn params() -> (PatchParams, PostParams) {
    let patch = PatchParams {
        force: true,
        field_manager: Some(MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let post = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    (patch, post)
}

fn children(name: &str, uid: &str) -> Vec<Child> {
    let wanted = sample::wanted(NAMESPACE, name, uid, &[]);
    let around = Surroundings {
        targets: &Targets::new(),
        operator: &sample::operator(),
        served: &BTreeSet::new(),
        deployment: None,
    };
    let now = Timestamp::now();
    let plan = plan(&wanted, &around, now);
    let token = Token::generate(&Kid::from_bytes([7; 5]), [7; 32]);
    let key = Key {
        kid: token.kid().clone(),
        client: "default".into(),
        scopes: Scope::ALL.to_vec(),
        digest: token.digest_hex(),
        state: KeyState::Active,
        not_before: None,
        retire_after: None,
    };
    let (version, revision, keys) = (keyset::VERSION, 1, vec![key]);
    let keyset = Keyset {
        version,
        revision,
        keys,
    };
    let internal = InternalKey::from_bytes([7; 32]);
    let secrets = [
        secrets::internal(&wanted.identity, &internal, None, now),
        secrets::keyset(&wanted.identity, &keyset),
        secrets::client(&wanted.identity, &token, now, None),
    ];
    let before = plan.before_secrets().cloned();
    before.chain(secrets).chain(plan.after_secrets().cloned()).collect()
}

/// The operator is not to find them.
async fn remove(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .delete(NAMESPACE, &DeleteParams::default())
        .await
        .expect("deleted");
    while namespaces.get_opt(NAMESPACE).await.expect("namespace").is_some() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
