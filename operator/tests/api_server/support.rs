//! What the tests share: a client, a namespace of their own, an operator of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::Reporter;
use kube::{Api, Client, Config};
use screenshot_api::ScreenshotService;
use screenshot_operator::cache::{Key, watches};
use screenshot_operator::cluster::{ClusterSettings, follow};
use screenshot_operator::context::{Context, Settings};
use screenshot_operator::error::Error;
use screenshot_operator::metrics::Metrics;
use screenshot_operator::names::{CONTROLLER, Names};
use screenshot_operator::plan::Kind;
use screenshot_operator::reconcile::reconcile;
use screenshot_operator::trigger::controller::{self, Scope};
use screenshot_operator::{client, http};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

const KUBECONFIG: &str = "SHOT_TEST_KUBECONFIG";

/// The configuration of the throw-away API server.
pub async fn config() -> Config {
    let path = std::env::var(KUBECONFIG).unwrap_or_else(|_| {
        panic!(
            "{KUBECONFIG} is not set: start a control plane with tests/cluster/cluster.sh up --control-plane-only and \
             give its kubeconfig"
        )
    });
    let kubeconfig = Kubeconfig::read_from(path).expect("kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("config")
}

/// A client with all rights, on an API server that knows the resource.
pub async fn client() -> Client {
    static CRD: OnceCell<()> = OnceCell::const_new();
    let client = Client::try_from(config().await).expect("client");
    CRD.get_or_init(|| install_crd(&client)).await;
    client
}

async fn install_crd(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = screenshot_api::schema::crd().expect("crd");
    let params = PatchParams::apply("test").force();
    api.patch(screenshot_api::CRD_NAME, &params, &Patch::Apply(crd))
        .await
        .expect("CRD");
    let established = || async {
        let crd = api.get(screenshot_api::CRD_NAME).await.expect("CRD");
        let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
    };
    until("the CRD is established", PATIENCE, established).await;
}

/// How long a test waits for what is promised to happen, and not how soon: beside other suites an API server is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, limit: Duration, check: impl Fn() -> F) -> Duration {
    let start = Instant::now();
    while start.elapsed() < limit {
        if check().await {
            return start.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within {limit:?}: {what}");
}

pub use screenshot_operator::clock::whole_seconds;

pub fn settings() -> Settings {
    Settings {
        capture_image: Some("localhost/capture-server:dev".into()),
        operator_namespace: "screenshot-operator".into(),
        operator_name: "screenshot-operator".into(),
        cluster: ClusterSettings::default(),
    }
}

/// What an operator's passes share, with a client of its own.
pub fn context(config: Config, now: fn() -> Timestamp) -> Context {
    let metrics = Arc::new(Metrics::default());
    let client = client::build(config, Arc::clone(&metrics)).expect("client");
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some("test".into()),
    };
    Context::new(client, metrics, settings(), reporter, now)
}

/// An operator with its watches, and with its controller if asked.
pub struct Operator {
    pub context: Arc<Context>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Operator {
    /// Watches only, begun and not waited for.
    pub fn begin(config: Config, scope: Scope) -> Self {
        Self::with_clock(config, scope, whole_seconds)
    }

    /// The same, by another clock.
    pub fn with_clock(config: Config, scope: Scope, now: fn() -> Timestamp) -> Self {
        Self::adjusted(config, scope, now, |_| {})
    }

    /// The same, with something else in its context.
    pub fn adjusted(config: Config, scope: Scope, now: fn() -> Timestamp, adjust: impl FnOnce(&mut Context)) -> Self {
        let addresses = scope.clone();
        Self::assembled(config, scope, addresses, now, adjust)
    }

    /// Looks after the scope's services and reads the addresses of the whole cluster, as one of all namespaces would:
    /// that one would look after the services of other tests, too.
    pub fn reading_addresses(config: Config, scope: Scope) -> Self {
        Self::assembled(config, scope, Scope::Cluster, whole_seconds, |_| {})
    }

    fn assembled(
        config: Config,
        scope: Scope,
        addresses: Scope,
        now: fn() -> Timestamp,
        adjust: impl FnOnce(&mut Context),
    ) -> Self {
        let mut context = context(config, now);
        adjust(&mut context);
        let context = Arc::new(context);
        let stop = CancellationToken::new();
        let reading = tokio::spawn(follow::run(Arc::clone(&context), addresses, stop.clone()));
        let watching = tokio::spawn(watches::run(Arc::clone(&context), scope, stop.clone()));
        Self {
            context,
            stop,
            tasks: vec![watching, reading],
        }
    }

    /// Watches of the stage's namespace, filled.
    pub async fn watching(stage: &Stage) -> Self {
        let operator = Self::begin(config().await, stage.scope());
        operator.ready(PATIENCE).await;
        operator
    }

    /// A whole operator for the stage's namespace.
    pub async fn running(stage: &Stage) -> Self {
        Self::watching(stage).await.leading()
    }

    /// From now on it makes passes.
    pub fn leading(mut self) -> Self {
        let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
        self.tasks.push(tokio::spawn(controller::run(context, stop)));
        self
    }

    pub async fn ready(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        while let Some(why) = http::trouble(&self.context) {
            assert!(start.elapsed() < limit, "not ready within {limit:?}: {why}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    /// One pass over a service as the watch shows it; waits until it shows the one given.
    pub async fn pass(&self, service: &ScreenshotService) -> Result<Duration, Error> {
        let key = Key::of(&service.metadata);
        let version = |service: &ScreenshotService| {
            let version = service.metadata.resource_version.as_deref().unwrap_or("0");
            version.parse::<u64>().unwrap()
        };
        let shown = || {
            self.context
                .services
                .readable(&key)
                .filter(|shown| version(shown) >= version(service))
        };
        until("the watch shows the service", PATIENCE, || async { shown().is_some() }).await;
        reconcile(&self.context, &shown().unwrap()).await
    }

    /// Sums a counter over the lines that hold all the words.
    pub fn count(&self, metric: &str, words: &[&str]) -> u64 {
        sum(&self.context.metrics.counters(), metric, words)
    }

    pub fn passes(&self) -> u64 {
        self.count("reconciles_total", &[])
    }

    /// Calls to the API server that are no watches.
    pub fn calls(&self) -> u64 {
        self.count("api_calls_total", &[]) - self.count("api_calls_total", &["verb=\"watch\""])
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(10), task)
                .await
                .expect("stops in time")
                .expect("ends well");
        }
    }
}

pub fn sum(text: &str, metric: &str, words: &[&str]) -> u64 {
    let name = format!("screenshot_operator_{metric}");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&name) && words.iter().all(|word| line.contains(word)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// A namespace for one test.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
}

impl Stage {
    pub async fn new(prefix: &str) -> Self {
        let client = client().await;
        let api: Api<Namespace> = Api::all(client.clone());
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}})).expect("namespace");
        let made = api.create(&PostParams::default(), &namespace).await.expect("namespace");
        Self {
            client,
            namespace: made.metadata.name.expect("name"),
        }
    }

    /// Makes the optional kinds known to the API server, by the definitions that the Gateway API and the Prometheus
    /// operator ship. For all tests that share it: one that needs them absent hides them.
    pub async fn define_optional_kinds(&self) {
        let directory = std::env::var("SHOT_TEST_DEFINITIONS")
            .expect("SHOT_TEST_DEFINITIONS is not set: it is the directory that hack/definitions.sh fills");
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let params = PatchParams::apply("test").force();
        for file in std::fs::read_dir(&directory).expect("definitions") {
            let text = std::fs::read_to_string(file.expect("file").path()).expect("text");
            let definition: CustomResourceDefinition = serde_saphyr::from_str(&text).expect("definition");
            let (name, group) = (
                definition.metadata.name.clone().expect("name"),
                definition.spec.group.clone(),
            );
            let mut versions = definition.spec.versions.iter();
            let version = versions.find(|version| version.storage).expect("version").name.clone();
            let plural = definition.spec.names.plural.clone();
            api.patch(&name, &params, &Patch::Apply(definition))
                .await
                .expect("defined");
            // A kind is served a moment after it is established.
            until(&format!("{name} is served"), PATIENCE, || async {
                let list = self
                    .client
                    .list_api_group_resources(&format!("{group}/{version}"))
                    .await;
                list.is_ok_and(|list| list.resources.iter().any(|resource| resource.name == plural))
            })
            .await;
        }
    }

    pub fn scope(&self) -> Scope {
        Scope::of([self.namespace.clone()])
    }

    pub fn services(&self) -> Api<ScreenshotService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn objects(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<ScreenshotService>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates a service as a client that knows nothing of our types.
    pub async fn create(&self, name: &str, spec: Value) -> Result<ScreenshotService, kube::Error> {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
            "metadata": {"name": name}, "spec": spec,
        }))
        .expect("object");
        self.objects().create(&PostParams::default(), &object).await?;
        self.services().get(name).await
    }

    /// A service without pods, which comes to rest on a control plane without nodes.
    pub async fn resting(&self, name: &str) -> ScreenshotService {
        self.create(name, json!({"replicas": 0})).await.expect("created")
    }

    pub async fn edit(&self, name: &str, spec: Value) -> ScreenshotService {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.services()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("edited")
    }

    pub fn children(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.api_resource())
    }

    /// resourceVersions of all children, by kind and name.
    pub async fn versions(&self) -> BTreeMap<(Kind, String), String> {
        let mut versions = BTreeMap::new();
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.optional()) {
            let selector = screenshot_operator::names::all_children_selector();
            let list = self
                .children(kind)
                .list_metadata(&ListParams::default().labels(&selector))
                .await;
            for item in list.expect("list").items {
                let meta = item.metadata;
                versions.insert(
                    (kind, meta.name.expect("name")),
                    meta.resource_version.expect("version"),
                );
            }
        }
        versions
    }

    /// Waits until the status says that a service without pods is as its spec says.
    pub async fn settled(&self, name: &str) {
        self.settled_within(name, PATIENCE).await;
    }

    pub async fn settled_within(&self, name: &str, limit: Duration) {
        let services = self.services();
        let settled = || async { is_settled(&services.get(name).await.expect("service")) };
        until(&format!("{name} is settled"), limit, settled).await;
    }

    /// Condition of a service.
    pub async fn condition(&self, name: &str, kind: &str) -> Option<(String, String, String)> {
        let status = self.services().get(name).await.expect("service").status?;
        let condition = status.conditions.into_iter().find(|c| c.type_ == kind)?;
        Some((condition.status, condition.reason, condition.message))
    }

    /// Notes of the events on a service, with their reason.
    pub async fn events(&self) -> Vec<(String, String)> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.expect("events");
        let of_us = events
            .items
            .into_iter()
            .filter(|e| e.reporting_controller.as_deref() == Some(CONTROLLER));
        of_us
            .map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default()))
            .collect()
    }
}

/// Whether a service without pods is as its spec says.
pub fn is_settled(service: &ScreenshotService) -> bool {
    let status = service.status.clone().unwrap_or_default();
    let has = |kind: &str, value: &str, reason: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|c| c.type_ == kind && c.status == value && c.reason == reason)
    };
    status.observed_generation == service.metadata.generation.unwrap_or(0)
        && has("Ready", "True", "AsWanted")
        && has("CredentialsReady", "True", "TokenAccepted")
}

/// Every child of a service at rest.
pub fn inventory(name: &str) -> Vec<(Kind, String)> {
    let names = Names::new(name);
    vec![
        (Kind::ServiceAccount, name.to_owned()),
        (Kind::NetworkPolicy, names.default_deny()),
        (Kind::NetworkPolicy, names.dns()),
        (Kind::NetworkPolicy, names.operator()),
        (Kind::NetworkPolicy, names.clients()),
        (Kind::NetworkPolicy, names.egress()),
        (Kind::ConfigMap, names.policy()),
        (Kind::Secret, names.keyset()),
        (Kind::Secret, names.internal()),
        (Kind::Secret, names.token()),
        (Kind::Service, name.to_owned()),
        (Kind::PodDisruptionBudget, name.to_owned()),
        (Kind::Deployment, name.to_owned()),
    ]
}
