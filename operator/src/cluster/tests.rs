//! When the cluster's ranges are published: not before all is known, at once when they grow, late when they shrink.

use super::*;

fn key(name: &str) -> Key {
    Key::new("", name)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn all(objects: &[(&str, &[&str])]) -> HashMap<Key, Vec<IpNet>> {
    objects.iter().map(|(name, texts)| (key(name), nets(texts))).collect()
}

fn shown(cluster: &Cluster, now: Instant) -> Vec<String> {
    let view = cluster.view(now).unwrap();
    view.ranges.cidrs().iter().map(ToString::to_string).collect()
}

/// A cluster whose sources have all been read, with one public node.
fn read() -> Cluster {
    let cluster = Cluster::default();
    cluster.begin(&Source::ALL);
    for source in Source::ALL {
        cluster.only(source, HashMap::new());
    }
    cluster.only(Source::Nodes, all(&[("a", &["20.1.2.3/32", "10.0.0.7/32"])]));
    cluster
}

#[test]
fn nothing_is_known_before_every_source_was_read_or_refused() {
    let (cluster, now) = (Cluster::default(), Instant::now());
    assert!(cluster.view(now).is_err(), "nothing has begun");
    cluster.begin(&Source::ALL);
    for source in [Source::Nodes, Source::Services, Source::ServiceCidrs] {
        cluster.only(source, HashMap::new());
        assert_eq!(cluster.publish(now), (false, None));
        assert_eq!(cluster.view(now).unwrap_err().reason(), "NotSynced");
    }
    cluster.failed(Source::ApiServer, "ApiUnreachable");
    assert!(!cluster.publish(now).0, "it may come back");
    assert_eq!(cluster.view(now).unwrap_err().reason(), "ApiUnreachable");
    cluster.failed(Source::ApiServer, "Forbidden");
    assert!(cluster.publish(now).0);
    assert_eq!(cluster.view(now).unwrap().unread, [Source::ApiServer]);
    cluster.only(Source::ApiServer, all(&[("kubernetes", &["20.0.0.1/32"])]));
    assert!(cluster.publish(now).0);
    assert_eq!(
        (shown(&cluster, now), cluster.view(now).unwrap().unread),
        (vec!["20.0.0.1/32".into()], vec![])
    );
}

#[test]
fn an_operator_of_single_namespaces_waits_for_nothing_and_says_what_it_does_not_read() {
    let (cluster, now) = (Cluster::default(), Instant::now());
    cluster.begin(&[]);
    assert!(cluster.publish(now).0);
    let view = cluster.view(now).unwrap();
    assert_eq!(
        (view.unread.as_slice(), view.ranges.is_empty()),
        (Source::ALL.as_slice(), true)
    );
}

#[test]
fn a_source_that_fails_later_keeps_what_it_showed() {
    let (cluster, now) = (read(), Instant::now());
    assert!(cluster.publish(now).0);
    assert!(cluster.failed(Source::Nodes, "ApiUnreachable"));
    assert!(!cluster.failed(Source::Nodes, "ApiUnreachable"));
    assert_eq!(cluster.publish(now), (false, None));
    assert_eq!(cluster.view(now).unwrap().unread, []);
    assert_eq!(shown(&cluster, now), ["20.1.2.3/32"]);
}

#[test]
fn a_source_that_is_refused_later_is_unread_until_it_is_heard_again_and_what_it_showed_stays() {
    for reason in ["Forbidden", "NotServed"] {
        let (cluster, now) = (read(), Instant::now());
        assert!(cluster.publish(now).0);
        let unread = || (cluster.publish(now), cluster.view(now).unwrap().unread);
        assert!(cluster.failed(Source::Nodes, reason) && !cluster.failed(Source::Nodes, reason));
        assert_eq!(unread(), ((true, None), vec![Source::Nodes]));
        assert_eq!(shown(&cluster, now), ["20.1.2.3/32"]);
        // The API server is away for a moment, and others are heard.
        assert!(!cluster.failed(Source::Nodes, "ApiUnreachable"));
        cluster.heard(Source::Services);
        assert_eq!(unread(), ((false, None), vec![Source::Nodes]));
        cluster.heard(Source::Nodes);
        assert_eq!(unread(), ((true, None), vec![]));
        assert_eq!(shown(&cluster, now), ["20.1.2.3/32"]);
        assert!(cluster.failed(Source::Nodes, reason), "it is news again");
    }
}

#[test]
fn a_source_that_was_never_read_is_not_read_because_it_is_heard() {
    let (cluster, now) = (Cluster::default(), Instant::now());
    cluster.begin(&Source::ALL);
    for source in Source::ALL {
        cluster.failed(source, "Forbidden");
    }
    assert!(cluster.publish(now).0);
    cluster.heard(Source::Nodes);
    assert_eq!(cluster.publish(now), (false, None));
    assert_eq!(cluster.view(now).unwrap().unread, Source::ALL);
}

#[test]
fn a_private_node_is_no_news_a_public_one_is_and_its_end_is_told_late() {
    let (cluster, start) = (read(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(cluster.publish(at(0)), (true, None));
    cluster.put(Source::Nodes, key("b"), nets(&["10.0.0.8/32", "10.244.3.0/24"]));
    assert_eq!(cluster.publish(at(1)), (false, None), "nothing of it is public");
    cluster.put(Source::Nodes, key("c"), nets(&["20.1.2.9/32"]));
    assert!(cluster.publish(at(2)).0);
    assert_eq!(shown(&cluster, at(2)), ["20.1.2.3/32", "20.1.2.9/32"]);
    cluster.put(Source::Nodes, key("c"), Vec::new());
    assert_eq!(cluster.publish(at(3)), (false, Some(at(603))));
    assert_eq!(shown(&cluster, at(3)).len(), 2);
    // It comes back in time: nothing ever happened.
    cluster.put(Source::Nodes, key("d"), nets(&["20.1.2.9/32"]));
    assert_eq!(cluster.publish(at(4)), (false, None));
    cluster.put(Source::Nodes, key("d"), Vec::new());
    assert_eq!(cluster.publish(at(10)), (false, Some(at(610))));
    assert!(cluster.publish(at(610)).0);
    assert_eq!(shown(&cluster, at(610)), ["20.1.2.3/32"]);
}

#[test]
fn a_pod_has_some_minutes_to_pick_new_ranges_up_and_no_more() {
    let (cluster, start) = (read(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    cluster.publish(at(0));
    let old = cluster.view(at(0)).unwrap().ranges.digest();
    cluster.put(Source::Services, key("lb"), nets(&["20.7.7.7/32"]));
    assert_eq!(cluster.publish(at(1)), (true, Some(at(301))));
    let view = cluster.view(at(100)).unwrap();
    assert!(view.accepts(old.as_ref()) && view.accepts(view.ranges.digest().as_ref()));
    assert!(!view.accepts(None) && !view.accepts(Some(&"sha256:other".to_owned())));
    assert!(!cluster.view(at(302)).unwrap().accepts(old.as_ref()));
}

#[test]
fn the_domain_is_read_from_the_search_list_of_a_pod() {
    for (text, domain) in [
        (
            "search web.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\n",
            Some("cluster.local"),
        ),
        (
            "nameserver 1.1.1.1\nsearch web.svc.k8s.example.org svc.k8s.example.org k8s.example.org lan\n",
            Some("k8s.example.org"),
        ),
        ("search example.org\n", None),
        ("search svc.one\nsearch example.org\n", None),
        ("nameserver 1.1.1.1\n", None),
        ("search svc.\n", None),
    ] {
        assert_eq!(
            domain_of(text).map(|name| name.to_string()).as_deref(),
            domain,
            "{text}"
        );
    }
}
