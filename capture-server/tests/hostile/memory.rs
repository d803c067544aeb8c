//! The container of the browsers driven to the memory limit of its control group: the kernel's own bound, not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use screenshot_policy::policy::CaptureLimits;
use serde_json::json;

use crate::harness::{Jailer, Running, Site, again_inside, get, key, keyset, limits, until};
use crate::kills::BOMB;

const LIMIT: u64 = 400 << 20;

/// Names of the files of one version of control groups.
struct Version {
    mount: &'static str,
    limit: &'static str,
    highest: &'static str,
}

const V1: Version = Version {
    mount: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    highest: "memory.max_usage_in_bytes",
};
const V2: Version = Version {
    mount: "/sys/fs/cgroup",
    limit: "memory.max",
    highest: "memory.peak",
};

/// A control group of this test's own, which stands where a container's stands: at the mount. In a mount namespace that is
/// the test's alone.
struct Group {
    version: Version,
    directory: PathBuf,
}

fn mount(arguments: &[&str]) {
    let done = Command::new(arguments[0]).args(&arguments[1..]).status().unwrap();
    assert!(done.success(), "{arguments:?}");
}

impl Group {
    /// Root makes it or the test fails.
    fn make() -> Self {
        let version = if Path::new(V1.mount).join(V1.limit).exists() {
            V1
        } else {
            V2
        };
        let directory = Path::new(version.mount).join(format!("capture-hostile-{}", std::process::id()));
        let made = fs::create_dir(&directory);
        assert!(made.is_ok(), "{} cannot be made: {made:?}", directory.display());
        let group = Self { version, directory };
        if group.version.mount == V2.mount {
            // Where it is on already, or the mount is a container's own, this is refused.
            let _ = fs::write(Path::new(V2.mount).join("cgroup.subtree_control"), "+memory");
        }
        fs::write(group.directory.join(group.version.limit), LIMIT.to_string()).unwrap();
        mount(&[
            "mount",
            "--bind",
            group.directory.to_str().unwrap(),
            group.version.mount,
        ]);
        group
    }

    /// A file of the group.
    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.version.mount).join(name)
    }

    fn highest(&self) -> u64 {
        fs::read_to_string(self.file(self.version.highest))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.version.mount).status();
        // Whoever was killed in it leaves it a moment later.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_group_driven_to_its_limit_costs_captures_and_never_the_api() {
    const NAME: &str = "memory::a_control_group_driven_to_its_limit_costs_captures_and_never_the_api";
    if !geteuid().is_root() {
        println!("not run: only root makes control groups");
        return;
    }
    if !again_inside("-m", NAME, "GROUP") {
        return;
    }
    let group = Group::make();
    let site = Site::new(CaptureLimits {
        concurrency: screenshot_policy::unit::Count::nearest(3),
        ..limits(8_000)
    });
    site.write("keyset.json", &keyset(1, &[1, 2]));
    let jailer = Jailer::start(&site);
    // Before the first browser: the server, which asks for it, is not there yet.
    fs::write(group.file("cgroup.procs"), jailer.pid().to_string()).unwrap();
    let args = site.args();
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    assert_eq!(server.html("<p>before").await.status, 200);
    let mut lost = 0;
    for _ in 0..3 {
        let (token, _) = key(2);
        let bomb = || server.capture_as(token.text(), json!({"html_content": BOMB}));
        let neighbour = async {
            for _ in 0..10 {
                let status = server.html("<p>beside").await.status;
                assert!([200, 502, 503].contains(&status), "{status}");
                assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
            }
        };
        let (one, other, ()) = tokio::join!(bomb(), bomb(), neighbour);
        for answer in [one, other] {
            let (status, word) = answer.problem();
            println!("{status} {word}, highest {} MiB", group.highest() >> 20);
            assert!([502, 503].contains(&status), "{status} {word}");
            lost += u32::from(word == "page_crashed");
        }
    }
    assert!(lost > 0, "no page was ended for its memory");
    assert!(
        group.highest() * 10 >= LIMIT * 9,
        "driven to {} of {LIMIT}",
        group.highest()
    );
    until("a picture", async || server.html("<p>after").await.status == 200).await;
    assert!(server.reasons().await.is_empty());
    drop(jailer);
    server.stop().await;
}
