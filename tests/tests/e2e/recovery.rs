//! A pod that loses its browsers, or whose jailer hangs.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use screenshot_tests::{
    AT_REST, Forward, Kind, Namespace, capture, eventually, fetch, get, kubectl, pods, service, token, wait_ready,
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
        let mut lost = 0;
        for answer in doomed {
            let answer = answer.join().unwrap();
            let problem = answer.json()["type"].as_str().unwrap_or_default().to_owned();
            let is = |word: &str| problem.ends_with(word);
            // On a busy node one may still have waited for its browser.
            assert!(
                answer.status == 503 && (is("/browser_lost") || is("/no_browser")),
                "{}",
                answer.json()
            );
            lost += usize::from(is("/browser_lost"));
        }
        assert!(lost > 0, "nothing was in flight");
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

/// The jailer of a pod as the machine sees it that the node runs on: inside its container nobody can stop process 1.
fn jailer(pod: &str) -> Option<Pid> {
    let of_pod = |process: &fs::DirEntry| {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        let (hostname, program) = (format!("HOSTNAME={pod}"), &b"/usr/local/bin/capture-jail\0serve\0"[..]);
        let mut environment = read("environ");
        environment.push(0);
        read("cmdline").starts_with(program)
            && environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == hostname.as_bytes())
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    // A jail's first process is a copy of the jailer until its browser runs; the jailer is the older one.
    let pids = processes
        .filter(of_pod)
        .filter_map(|process| process.file_name().to_str()?.parse().ok());
    Pid::from_raw(pids.min()?)
}

#[test]
fn a_hung_browser_container_is_restarted_by_its_liveness_and_the_service_is_ready_again() {
    let namespace = Namespace::create("e2e-hung").unwrap();
    apply_in(&namespace.0, &service("shots", &format!("{{replicas: 1, {AT_REST}}}")));
    wait_ready(&namespace.0, "shots").unwrap();
    let pod = pods(&namespace.0, "shots").unwrap()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let restarts = |container: &str| restarts(&get(&namespace.0, Kind::Pod, &pod).ok()?, container);
    let hung = jailer(&pod).expect("the jailer of the pod");
    kill_process(hung, Signal::STOP).unwrap();
    eventually("the browser container restarts", Duration::from_secs(150), || {
        (restarts("browser") == Some(1)).then_some(())
    })
    .unwrap();
    eventually("the next jailer", Duration::from_secs(30), || {
        jailer(&pod).filter(|next| *next != hung)
    })
    .unwrap();
    wait_ready(&namespace.0, "shots").unwrap();
    let token = token(&namespace.0, "shots").unwrap();
    let forward = Forward::open(&namespace.0, &pod, 8080).unwrap();
    let answer = capture(forward.port(), Some(&token), &json!({"html_content": "<p>x"})).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(restarts("server"), Some(0), "the API must outlive its browsers");
}
