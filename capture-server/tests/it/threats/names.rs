//! T18: names that a site gives to what it hands out, and that would be paths if they became names of files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use capture_server::server::Server;
use serde_json::json;

use super::{BLUE, HOLD, body, colour};
use crate::harness::{Jailer, Running, Site, limits, until};
use crate::web;

/// What is in each file, and part of each of its names.
const MARK: &str = "t18-canary";

/// Parameters of `Content-Disposition: attachment`.
const NAMES: &[&str] = &[
    "filename=t18-canary",
    "filename=\"../../../../tmp/t18-canary\"",
    "filename=\"/tmp/t18-canary\"",
    "filename=\"..\\\\..\\\\tmp\\\\t18-canary\"",
    "filename=\"C:\\\\t18-canary\"",
    "filename=\"\\\\\\\\127.0.0.1\\\\share\\\\t18-canary\"",
    "filename=\"%2e%2e%2f%2e%2e%2ft18-canary\"",
    "filename=\"a\0t18-canary\"",
    "filename=\"a\r\n b/../t18-canary\"",
    "filename=\"a\"\r\nx-injected: t18-canary",
    "filename*=UTF-8''..%2F..%2Ftmp%2Ft18-canary",
    "filename*=UTF-8''a%00%0D%0At18-canary",
    "filename=\"$(touch t18-canary)\"",
    "filename=\"~/t18-canary\"",
    "filename=\".t18-canary\"",
];

/// Wishes for files under names of the page's own, from its site and from itself. It is loaded when its site was asked.
const WISHER: &str = "<a id=own download='../../tmp/t18-canary' href=/wished></a>\
    <a id=data download='/tmp/t18-canary' href='data:application/octet-stream,t18%2Dcanary'></a>\
    <script>(async()=>{own.click();data.click();\
    while(await(await fetch('/asked')).text()!=='yes')await new Promise(done=>setTimeout(done,50))\
    })().finally(()=>hold.src='data:,')</script>";

/// Whether the site was asked for what the page wishes for.
static ASKED: AtomicBool = AtomicBool::new(false);

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let attachment = "application/octet-stream\r\ncontent-disposition: attachment";
    let (kind, text) = match path {
        "/wisher" => (
            "text/html",
            format!("<body style='margin:0;background:#00f'>{HOLD}{WISHER}"),
        ),
        "/wished" => {
            ASKED.store(true, Ordering::Relaxed);
            (attachment, MARK.to_owned())
        }
        "/asked" => {
            let asked = ASKED.load(Ordering::Relaxed);
            ("text/plain", if asked { "yes" } else { "not yet" }.to_owned())
        }
        "/never" => return Some((String::new(), Vec::new())),
        _ => return file(path),
    };
    Some((format!("200 OK\r\ncontent-type: {kind}"), text.into_bytes()))
}

fn file(path: &str) -> Option<(String, Vec<u8>)> {
    let number: usize = path.strip_prefix("/file/")?.parse().ok()?;
    let name = NAMES.get(number)?;
    let head = format!("200 OK\r\ncontent-type: application/octet-stream\r\ncontent-disposition: attachment; {name}");
    Some((head, MARK.into()))
}

/// Files below this directory that have the mark in their name, and those that have it in themselves.
fn marked(directory: &Path) -> (Vec<String>, usize) {
    let (mut named, mut holding) = (Vec::new(), 0);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains(MARK))
        {
            named.push(path.display().to_string());
        }
        if path.is_dir() && !path.is_symlink() {
            let below = marked(&path);
            named.extend(below.0);
            holding += below.1;
        } else if path.is_file() {
            let holds = |bytes: Vec<u8>| bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes());
            holding += usize::from(std::fs::read(&path).is_ok_and(holds));
        }
    }
    (named, holding)
}

/// Nothing is named so, ever; and what the browser held of it under a name of its own while it gave it up is gone soon.
async fn nothing_is_left(whole: &Path, what: &str) {
    until("the bytes are gone", async || {
        let (named, holding) = marked(whole);
        assert_eq!((named, strayed()), (Vec::new(), None), "{what}");
        holding == 0
    })
    .await;
}

/// One in a directory that is everybody's.
fn strayed() -> Option<String> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".into());
    ["/", "/tmp", "/var/tmp", "/dev/shm", ".", "..", &home]
        .into_iter()
        .find_map(|directory| {
            let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.into_iter().find(|name| name.contains(MARK))
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_a_name_that_a_site_gives_to_a_download_becomes_no_file_anywhere() {
    let site = Site::new(limits(10_000));
    // The only directory that a browser can write to.
    let profiles = site.path("profiles");
    std::fs::create_dir(&profiles).unwrap();
    std::fs::set_permissions(&profiles, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let jailer = Jailer::start_with(&site, &["--profile-dir".into(), profiles.clone().into_os_string()]);
    let whole = site.dir.path().to_path_buf();
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    assert!(
        std::fs::read_dir(&profiles).unwrap().next().is_some(),
        "the browsers are elsewhere"
    );
    for (number, name) in NAMES.iter().enumerate() {
        let url = format!("http://site.net/file/{number}");
        let (status, problem) = server.capture(json!({"url": url})).await.problem();
        // With NUL or a folded line in its head an answer is none.
        let ends: &[&str] = if name.contains('\0') || name.contains("\r\n ") {
            &["connect_failed", "navigation_failed"]
        } else {
            &["download"]
        };
        assert!(
            status >= 400 && ends.contains(&problem.as_str()),
            "{name:?}: {status} {problem}"
        );
        nothing_is_left(&whole, name).await;
    }
    // The same as the page's own wish: it was tried, and ends as nothing that the page shows.
    let answer = server.capture(body("http://site.net/wisher")).await;
    assert!(ASKED.load(Ordering::Relaxed), "{}", answer.status);
    assert_eq!(colour(&answer), BLUE);
    nothing_is_left(&whole, "the page's own wish").await;
    // And that a file would be found.
    std::fs::write(profiles.join(MARK), MARK).unwrap();
    assert!(matches!(marked(&whole), (named, 1) if named.len() == 1));
    server.stop().await;
    drop(jailer);
}
