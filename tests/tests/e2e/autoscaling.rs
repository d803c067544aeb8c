//! The number of capture pods follows the load, by what metrics-server read from the kubelet.
//!
//! For the project's own cluster, which has a metrics-server and autoscalers that look often: `hack/test-e2e.sh` leaves this
//! out elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use screenshot_tests::{
    Failure, Forward, Kind, Namespace, capture, condition, conditions, eventually, get, merge, pods, record, service,
    token, wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;

/// A browser at rest uses a small part of this, one that captures several times as much.
const SPEC: &str = "{autoscaling: {minReplicas: 1, maxReplicas: 2, targetCPUUtilizationPercentage: 50, \
                    scaleDownStabilizationSeconds: 0}, resources: {browser: {requests: {cpu: 200m}}}}";
/// Metrics are up to 20 seconds old, and a new pod's count once they are all from after it became ready.
const LIMIT: Duration = Duration::from_secs(90);
/// Its script computes for as long as it takes to be seen, and leaves the machine to the neighbours in between.
const BUSY: &str = "<p>x<script>for (const end = performance.now() + 150; performance.now() < end;);</script>";
const PAUSE: Duration = Duration::from_millis(100);

fn deployment(namespace: &str) -> Value {
    get(namespace, Kind::Deployment, "shots").unwrap()
}

/// Whether the operator's apply holds the number of pods, which it must leave to the autoscaler once that has written it.
fn operator_holds_replicas(deployment: &Value) -> bool {
    let entries = deployment["metadata"]["managedFields"].as_array().unwrap();
    entries
        .iter()
        .any(|entry| entry["manager"] == "screenshot-operator" && !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null())
}

/// Waits for a number of pods, all ready, and for the status to say the same. The service is ready all the while.
fn follows(namespace: &str, replicas: u64, failed: impl Fn() -> bool) -> Result<(), Failure> {
    eventually(&format!("{replicas} capture pods"), LIMIT, || {
        if failed() {
            return Some(Err("a capture failed".into()));
        }
        let ready = condition(namespace, "shots", "Ready")?;
        if ready.status != "True" {
            return Some(Err(format!("not ready meanwhile\n{}", conditions(namespace, "shots"))));
        }
        let asked = deployment(namespace)["spec"]["replicas"] == replicas;
        let status = get(namespace, Kind::ScreenshotService, "shots").ok()?["status"].clone();
        let told = status["replicas"] == replicas && status["readyReplicas"] == replicas;
        let running = pods(namespace, "shots").ok()?.len();
        (asked && told && running as u64 == replicas).then_some(Ok(()))
    })?
}

/// Has the operator apply the Deployment anew, while the autoscaler has it at two.
fn leaves_the_number_alone(namespace: &str) -> Result<(), Failure> {
    let note = json!({"spec": {"objectMetadata": {"annotations": {"example.com/note": "applied anew"}}}});
    merge(namespace, Kind::ScreenshotService, "shots", &note)?;
    let applied = eventually("the Deployment is applied anew", Duration::from_secs(20), || {
        let deployment = deployment(namespace);
        let noted = deployment["metadata"]["annotations"]["example.com/note"] == "applied anew";
        noted.then_some(deployment)
    })?;
    if applied["spec"]["replicas"] != 2 || operator_holds_replicas(&applied) {
        return Err(format!("the operator wrote the number of pods: {applied}"));
    }
    Ok(())
}

#[test]
fn the_number_of_pods_rises_under_a_stream_of_captures_and_falls_after_it_and_the_operator_lets_it() {
    let namespace = Namespace::create("e2e-autoscaling").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, &service("shots", SPEC));
    wait_ready(name, "shots").unwrap();
    assert_eq!(deployment(name)["spec"]["replicas"], 1);
    let token = token(name, "shots").unwrap();
    let forward = Forward::open(name, "service/shots", 80).unwrap();

    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let scaled_up = thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let answer = capture(forward.port(), Some(&token), &json!({"html_content": BUSY})).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.json());
                thread::sleep(PAUSE);
            }
        });
        let rose = follows(name, 2, || client.is_finished()).map(|()| begun.elapsed());
        let left = rose.and_then(|took| leaves_the_number_alone(name).map(|()| took));
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap();
        left
    })
    .unwrap();
    let active = condition(name, "shots", "AutoscalingActive").unwrap();
    assert_eq!(
        (active.status.as_str(), active.reason.as_str()),
        ("True", "ScalingActive")
    );

    let ended = Instant::now();
    follows(name, 1, || false).unwrap();
    wait_ready(name, "shots").unwrap();
    let text = format!(
        "The number of pods follows\n  load to a second ready pod    {:>5.1} s\n  its end to one pod            {:>5.1} s\n",
        scaled_up.as_secs_f64(),
        ended.elapsed().as_secs_f64()
    );
    record("autoscaling", &text).unwrap();
}
