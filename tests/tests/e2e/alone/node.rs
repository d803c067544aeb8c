//! A node that lacks what a browser needs for its confinement.
//!
//! Nothing of the machine is changed: the chart's own installer is made to take the profile away, or to bring another
//! one, on every node of the test cluster, and put back afterwards.

use std::time::Duration;

use screenshot_tests::{
    Condition, Forward, Kind, Namespace, capture, condition, conditions, eventually, get, kubectl, list, merge,
    operator_namespace, pods, service, token, wait_ready,
};
use serde_json::{Value, json};

use crate::{apply_in, size};

const LIMIT: Duration = Duration::from_secs(60);
const INSTALLER: &str = "app.kubernetes.io/name=screenshot-operator-seccomp-installer";
const PROFILES: &str = "screenshot-operator-seccomp";
/// clone(2)'s flags for namespaces, as the profile masks them: without and with `CLONE_NEWUSER` and its companions.
const ALLOWED: u64 = 0x0E02_0000;
const REFUSED: u64 = 0x7E02_0000;

/// The chart's installer while it does something else; as it was when this is dropped.
struct Installer {
    /// Name and arguments of each DaemonSet.
    original: Vec<(String, Value)>,
    profiles: Value,
}

impl Installer {
    fn found() -> Self {
        let namespace = operator_namespace();
        let sets = list(&namespace, Kind::DaemonSet, INSTALLER).unwrap();
        let original = sets.iter().map(|set| {
            let name = set["metadata"]["name"].as_str().unwrap().to_owned();
            (name, set["spec"]["template"]["spec"]["containers"][0]["args"].clone())
        });
        let original: Vec<_> = original.collect();
        assert!(!original.is_empty(), "the chart installs no seccomp profile");
        let profiles = get(&namespace, Kind::ConfigMap, PROFILES).unwrap()["data"].clone();
        Self { original, profiles }
    }

    /// The profile is taken from every node.
    fn removes(&self) {
        self.patch("removal", |_| {
            json!(["remove-seccomp-profile", "/host/seccomp", "--stay"])
        });
        eventually("the profile is gone", LIMIT, || said("Gone")).unwrap();
        eventually("no installer is ready", LIMIT, || {
            (ready_installers() == 0).then_some(())
        })
        .unwrap();
    }

    /// Every node gets a profile that refuses user namespaces.
    fn installs_one_without_user_namespaces(&self) {
        let blocking: serde_json::Map<String, Value> = self
            .profiles
            .as_object()
            .unwrap()
            .iter()
            .map(|(file, text)| (file.clone(), json!(without_user_namespaces(text.as_str().unwrap()))))
            .collect();
        configure(&Value::Object(blocking));
        self.runs("blocking", Clone::clone);
        eventually("the other profile is on the nodes", LIMIT, || said("Written")).unwrap();
    }

    fn restores(self) {
        drop(self);
        eventually("the profile is back on the nodes", LIMIT, || said("Written")).unwrap();
    }

    /// New pods with these arguments, which are ready: their node has the profile that they were given.
    fn runs(&self, note: &str, arguments: impl Fn(&Value) -> Value) {
        self.patch(note, arguments);
        for (name, _) in &self.original {
            let target = format!("daemonset/{name}");
            kubectl(&[
                "-n",
                &operator_namespace(),
                "rollout",
                "status",
                &target,
                "--timeout=60s",
            ])
            .unwrap();
        }
        assert!(ready_installers() > 0);
    }

    /// The note makes pods new ones even where the arguments stay.
    fn patch(&self, note: &str, arguments: impl Fn(&Value) -> Value) {
        let namespace = operator_namespace();
        for (name, original) in &self.original {
            let patch = json!([
                {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments(original)},
                {"op": "add", "path": "/spec/template/metadata/annotations/e2e", "value": note},
            ]);
            let target = format!("daemonset/{name}");
            kubectl(&[
                "-n",
                &namespace,
                "patch",
                &target,
                "--type=json",
                "-p",
                &patch.to_string(),
            ])
            .unwrap();
        }
    }
}

/// How many pods of the installer say that their node has the profile.
fn ready_installers() -> u64 {
    let sets = list(&operator_namespace(), Kind::DaemonSet, INSTALLER).unwrap();
    let ready = sets.iter().map(|set| set["status"]["numberReady"].as_u64().unwrap());
    ready.sum()
}

impl Drop for Installer {
    fn drop(&mut self) {
        configure(&self.profiles);
        self.runs("original", Clone::clone);
    }
}

fn configure(profiles: &Value) {
    merge(
        &operator_namespace(),
        Kind::ConfigMap,
        PROFILES,
        &json!({"data": profiles}),
    )
    .unwrap();
}

/// Whether every installer that runs now has said this.
fn said(word: &str) -> Option<()> {
    let namespace = operator_namespace();
    let mut installers = list(&namespace, Kind::Pod, INSTALLER).ok()?;
    installers.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let says = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str()?;
        kubectl(&["-n", &namespace, "logs", name])
            .ok()?
            .contains(word)
            .then_some(())
    };
    (!installers.is_empty() && installers.iter().all(|pod| says(pod).is_some())).then_some(())
}

/// The shipped profile, but for user namespaces: `clone` with their flag and `unshare` are refused.
fn without_user_namespaces(profile: &str) -> String {
    let mut profile: Value = serde_json::from_str(profile).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| rule["names"] != json!(["unshare"]));
    let clone = rules.iter_mut().find(|rule| rule["names"] == json!(["clone"])).unwrap();
    assert_eq!(
        clone["args"][0]["value"], ALLOWED,
        "the profile's rule for clone has changed"
    );
    clone["args"][0]["value"] = json!(REFUSED);
    profile.to_string()
}

fn node(namespace: &str, name: &str) -> String {
    eventually("the pod is on a node", LIMIT, || {
        Some(
            pods(namespace, name).ok()?.first()?["spec"]["nodeName"]
                .as_str()?
                .to_owned(),
        )
    })
    .unwrap()
}

/// The service is not ready, for this reason, and says so in these words wherever it is looked at.
fn is_down(namespace: &str, name: &str, reason: &str, message: &str) {
    let expected = |status: &str| Condition {
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
    };
    let down = || {
        let found = ["SandboxVerified", "Ready", "Stalled"].map(|kind| condition(namespace, name, kind));
        (found == [expected("False"), expected("False"), expected("True")].map(Some)).then_some(())
    };
    eventually(&format!("{namespace}/{name} is down: {message}"), LIMIT, down)
        .unwrap_or_else(|failure| panic!("{failure}\n{}", conditions(namespace, name)));
    // The operator looks every five seconds. Nothing changes, so it writes nothing.
    let version = || get(namespace, Kind::ScreenshotService, name).unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(
        version(),
        before,
        "the status is not at rest:\n{}",
        conditions(namespace, name)
    );
}

/// The service works, and warns in every place that a person looks at.
fn is_degraded(namespace: &str, name: &str) {
    wait_ready(namespace, name).unwrap();
    let all = conditions(namespace, name);
    let found = |kind: &str| condition(namespace, name, kind).map(|c| (c.status, c.reason));
    let is = |status: &str| Some((status.to_owned(), "Degraded".to_owned()));
    assert_eq!(
        (found("Ready"), found("SandboxVerified")),
        (is("True"), is("False")),
        "{all}"
    );
    let node = node(namespace, name);
    assert!(
        condition(namespace, name, "SandboxVerified")
            .unwrap()
            .message
            .contains(&node),
        "{all}"
    );
    eventually("a warning event", LIMIT, || {
        let events = list(namespace, Kind::Event, "").ok()?;
        let warns = |event: &&Value| {
            event["type"] == "Warning" && event["reason"] == "Degraded" && event["involvedObject"]["name"] == name
        };
        events.iter().find(warns).map(drop)
    })
    .unwrap();
    let token = token(namespace, name).unwrap();
    let forward = Forward::open(namespace, &format!("service/{name}"), 80).unwrap();
    let request = json!({"html_content": "<h1>x</h1>", "window_width": 320, "window_height": 200});
    assert_eq!(
        size(&capture(forward.port(), Some(&token), &request).unwrap()),
        (320, 200)
    );
    // What it lacks is the browser's own sandbox: between it and the network the proxy stands as ever.
    let request = json!({"url": "http://169.254.169.254/latest/meta-data/"});
    let answer = capture(forward.port(), Some(&token), &request).unwrap();
    let problem = answer.json();
    let kind = problem["type"].as_str().unwrap_or_default();
    assert!(answer.status == 403 && kind.ends_with("/target_blocked"), "{problem}");
}

#[test]
fn a_node_without_the_seccomp_profile_is_named_only_degraded_runs_there_and_the_profile_mends_it() {
    let namespace = Namespace::create("e2e-no-profile").unwrap();
    let name = namespace.0.as_str();
    let installer = Installer::found();
    installer.removes();
    apply_in(name, &service("strict", "{replicas: 1}"));
    let message = format!(
        "the operator's seccomp profile is missing on node {}: no browser can be started there",
        node(name, "strict")
    );
    is_down(name, "strict", "SeccompProfileMissing", &message);
    apply_in(name, &service("loose", "{replicas: 1, sandbox: {mode: Degraded}}"));
    is_degraded(name, "loose");
    installer.restores();
    wait_ready(name, "strict").unwrap();
    let reason = condition(name, "strict", "Ready").map(|ready| ready.reason);
    assert_eq!(reason.as_deref(), Some("AsWanted"));
}

#[test]
fn a_node_without_user_namespaces_is_named_and_only_degraded_runs_there() {
    let namespace = Namespace::create("e2e-no-userns").unwrap();
    let name = namespace.0.as_str();
    let installer = Installer::found();
    installer.installs_one_without_user_namespaces();
    apply_in(name, &service("shots", "{replicas: 1}"));
    let message = format!(
        "browsers cannot be confined on node {}: user namespaces are refused there, by a seccomp filter that is not the \
         operator's profile",
        node(name, "shots")
    );
    is_down(name, "shots", "UserNamespacesBlocked", &message);
    apply_in(name, &service("shots", "{replicas: 1, sandbox: {mode: Degraded}}"));
    is_degraded(name, "shots");
    installer.restores();
    // Back to the strict mode with the right profile: verified again, nothing of the warning stays.
    apply_in(name, &service("shots", "{replicas: 1, sandbox: {mode: Required}}"));
    wait_ready(name, "shots").unwrap();
    let verified = condition(name, "shots", "SandboxVerified").map(|c| (c.status, c.reason));
    assert_eq!(verified, Some(("True".into(), "SandboxAttested".into())));
}
