//! Lists of names and ranges in the policy, as a page of the real server meets them.
//!
//! Nothing is on the network of these tests: what a list lets through fails for another reason than the policy, and what
//! it does not is refused by the list's own word. A server that ignored the list would say something else.

use serde_json::json;

use screenshot_policy::cluster::ClusterRanges;
use screenshot_policy::policy::PolicyDocument;

use crate::harness::{Jailer, Running, Site, limits, policy_of, until, without_a_route_out};

async fn under(change: impl FnOnce(&mut PolicyDocument)) -> (Running, Jailer) {
    let site = Site::new(limits(20_000));
    site.write("policy.json", &policy_of(limits(20_000), change).canonical_json());
    let args = site.args();
    let jailer = Jailer::start(&site);
    let server = Running::with(site, args).await;
    server.until_ready(true).await;
    (server, jailer)
}

/// Every listed refusal of a page with one picture from each of the addresses.
async fn refusals(server: &Running, sources: &[&str]) -> Vec<String> {
    let pictures: Vec<String> = sources.iter().map(|source| format!("<img src='{source}'>")).collect();
    let answer = server.html(&format!("<body>{}", pictures.concat())).await;
    assert_eq!(answer.status, 200);
    let mut listed: Vec<String> = answer
        .header("x-capture-refusals")
        .unwrap_or_default()
        .split(", ")
        .map(str::to_owned)
        .collect();
    listed.sort();
    listed
}

async fn kind(server: &Running, url: &str) -> String {
    server.capture(json!({"url": url})).await.problem().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asks_only_for_names_that_the_lists_let_through() {
    if !without_a_route_out("lists::a_page_asks_only_for_names_that_the_lists_let_through") {
        return;
    }
    let (server, _jailer) = under(|document| {
        let domains = &mut document.egress.domains;
        domains.allow = vec!["good.com".parse().unwrap(), "*.good.com".parse().unwrap()];
        domains.deny = vec!["ads.good.com".parse().unwrap()];
    })
    .await;
    for url in [
        "http://evil.net/",
        "https://evil.net/",
        "https://ads.good.com/",
        "http://good.com.evil.net/",
        "http://93.184.216.34/",
    ] {
        assert_eq!(kind(&server, url).await, "target_blocked", "{url}");
    }
    for url in ["http://good.com/", "https://www.good.com/"] {
        assert_eq!(kind(&server, url).await, "dns_failed", "{url}");
    }
    let sources = [
        "http://evil.net/a.png",
        "https://ads.good.com/b.png",
        "http://93.184.216.34/c.png",
    ];
    assert_eq!(
        refusals(&server, &sources).await,
        [
            "93.184.216.34:80;unlisted_name",
            "ads.good.com:443;denied_name",
            "evil.net:80;unlisted_name"
        ]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reaches_only_addresses_that_the_lists_let_through() {
    if !without_a_route_out("lists::a_page_reaches_only_addresses_that_the_lists_let_through") {
        return;
    }
    let (server, _jailer) = under(|document| {
        let cidrs = &mut document.egress.cidrs;
        // The private range is allowed, and stays closed.
        cidrs.allow = vec!["8.0.0.0/7".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        cidrs.deny = vec!["8.8.0.0/16".parse().unwrap()];
    })
    .await;
    for url in [
        "http://8.8.8.8/",
        "https://93.184.216.34/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
    ] {
        assert_eq!(kind(&server, url).await, "target_blocked", "{url}");
    }
    assert_eq!(kind(&server, "http://9.9.9.9/").await, "connect_failed");
    let sources = [
        "http://8.8.8.8/a.png",
        "http://93.184.216.34/b.png",
        "http://10.0.0.1/c.png",
    ];
    assert_eq!(
        refusals(&server, &sources).await,
        [
            "10.0.0.1:80;private_address",
            "8.8.8.8:80;denied_address",
            "93.184.216.34:80;unlisted_address"
        ]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_public_addresses_are_closed_and_opened_again_in_a_running_server() {
    if !without_a_route_out("lists::the_clusters_own_public_addresses_are_closed_and_opened_again_in_a_running_server")
    {
        return;
    }
    let (server, _jailer) = under(|_| {}).await;
    let page = "http://20.1.2.3/";
    assert_eq!(kind(&server, page).await, "connect_failed");
    let ranges = ClusterRanges::closing(["20.1.2.0/24".parse().unwrap()]);
    server.site.write("cluster-ranges.json", &ranges.canonical_json());
    until("the new ranges", async || kind(&server, page).await == "target_blocked").await;
    assert_eq!(
        refusals(&server, &["http://20.1.2.3/a.png"]).await,
        ["20.1.2.3:80;cluster_address"]
    );
    // A file that says nothing opens nothing.
    server.site.write("cluster-ranges.json", "{}");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(kind(&server, page).await, "target_blocked");
    std::fs::remove_file(server.site.path("cluster-ranges.json")).unwrap();
    until("the end of the ranges", async || {
        kind(&server, page).await == "connect_failed"
    })
    .await;
    server.stop().await;
}
