//! A pod that loses its browsers.

use std::thread;
use std::time::Duration;

use screenshot_tests::{
    Forward, Kind, Namespace, capture, eventually, fetch, get, kubectl, pods, service, token, wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;

fn restarts(pod: &Value, container: &str) -> Option<u64> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    statuses.iter().find(|status| status["name"] == container)?["restartCount"].as_u64()
}

/// A page that never comes to rest: its capture is in flight until something ends it.
const ENDLESS: &str = "<script>while(true){}</script>";
/// Captures that a pod of two cores works on at the same time.
const SLOTS: usize = 4;

#[test]
fn a_killed_browser_container_fails_what_is_in_flight_and_recovers_by_itself_without_a_lost_slot() {
    let namespace = Namespace::create("e2e-jailer").unwrap();
    apply_in(&namespace.0, &service("shots", "{replicas: 1}"));
    wait_ready(&namespace.0, "shots").unwrap();
    let token = token(&namespace.0, "shots").unwrap();
    let pod = pods(&namespace.0, "shots").unwrap()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let restarts = |container: &str| restarts(&get(&namespace.0, Kind::Pod, &pod).ok()?, container);
    let forward = Forward::open(&namespace.0, &pod, 8080).unwrap();
    let health = Forward::open(&namespace.0, &pod, 8081).unwrap();
    let shoot = |html: &str| capture(forward.port(), Some(&token), &json!({"html_content": html})).unwrap();
    let ready = || fetch(health.port(), "/health/ready").unwrap().status == 200;
    assert!(ready() && shoot("<p>x").status == 200);

    thread::scope(|scope| {
        let doomed: Vec<_> = (0..SLOTS).map(|_| scope.spawn(|| shoot(ENDLESS))).collect();
        thread::sleep(Duration::from_secs(2));
        // It ends while it is asked to, so the answer says nothing.
        let stop = [
            "exec",
            &pod,
            "-c",
            "browser",
            "--",
            "/usr/local/bin/capture-jail",
            "stop",
        ];
        let _ = kubectl(&[&["-n", &namespace.0], &stop[..]].concat());
        eventually("the server turns unready", Duration::from_secs(10), || {
            (!ready()).then_some(())
        })
        .unwrap();
        for answer in doomed {
            let answer = answer.join().unwrap();
            let problem = answer.json()["type"].as_str().unwrap_or_default().to_owned();
            assert!(
                answer.status == 503 && problem.ends_with("/browser_lost"),
                "{}",
                answer.json()
            );
        }
    });
    eventually("the browser container restarts", Duration::from_secs(60), || {
        (restarts("browser") == Some(1)).then_some(())
    })
    .unwrap();
    eventually("the server is ready again", Duration::from_secs(60), || {
        ready().then_some(())
    })
    .unwrap();
    // Every slot works, at the same time and again.
    for _ in 0..2 {
        thread::scope(|scope| {
            let captures: Vec<_> = (0..SLOTS).map(|_| scope.spawn(|| shoot("<p>x").status)).collect();
            for capture in captures {
                assert_eq!(capture.join().unwrap(), 200);
            }
        });
    }
    assert_eq!(restarts("server"), Some(0), "the API must outlive its browsers");
}
