//! Spellings of hosts, and names that only mean something inside.

use super::*;

#[test]
fn names_are_lowered_and_lose_one_trailing_dot() {
    assert_eq!(
        "WWW.Example.COM.".parse::<Host>().unwrap().to_string(),
        "www.example.com"
    );
    assert_eq!("a..b".parse::<Host>(), Err(HostError::Label));
    assert_eq!("a.b..".parse::<Host>(), Err(HostError::Label));
}

#[test]
fn every_other_spelling_of_an_ipv4_address_is_refused() {
    for text in [
        "2130706433",
        "0x7f000001",
        "0X7F000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "127.0.0.0x1",
    ] {
        assert_eq!(text.parse::<Host>(), Err(HostError::Ipv4Form), "{text}");
    }
    assert_eq!("127.0.0.1".parse::<Host>(), Ok(Host::Ip("127.0.0.1".parse().unwrap())));
}

#[test]
fn ipv6_needs_brackets_and_has_no_zone() {
    assert_eq!("[::1]".parse::<Host>(), Ok(Host::Ip("::1".parse().unwrap())));
    assert_eq!("::1".parse::<Host>(), Err(HostError::Character));
    assert_eq!("[fe80::1%25eth0]".parse::<Host>(), Err(HostError::Ipv6Form));
    assert_eq!("[::1".parse::<Host>(), Err(HostError::Ipv6Form));
}

#[test]
fn names_outside_the_ldh_rule_are_refused() {
    for text in ["a b", "a/b", "a@b", "a%2e", "ex\u{e4}mple.com", "a\0b", "a:80"] {
        assert_eq!(text.parse::<Host>(), Err(HostError::Character), "{text}");
    }
    for text in ["-a.com", "a-.com", "www.-", "-"] {
        assert_eq!(text.parse::<Host>(), Err(HostError::Label), "{text}");
    }
    assert_eq!("".parse::<Host>(), Err(HostError::Empty));
}

#[test]
fn labels_have_at_most_63_characters_and_names_253() {
    let label = |length| format!("{}.com", "a".repeat(length)).parse::<Host>().err();
    assert_eq!((label(63), label(64)), (None, Some(HostError::Label)));
    let longest = format!("{}{}", "abcdefg.".repeat(31), "abcde");
    assert_eq!(longest.len(), 253);
    assert_eq!(longest.parse::<Host>().err(), None);
    assert_eq!(format!("{longest}.").parse::<Host>().err(), None);
    assert_eq!(format!("{longest}f").parse::<Host>().err(), Some(HostError::TooLong));
}

#[test]
fn names_that_only_mean_something_inside_are_special() {
    let special = |text: &str| text.parse::<HostName>().unwrap().special();
    assert_eq!(special("kubernetes"), Some("single_label_name"));
    // Written out once more, so that none of them goes by accident.
    for (suffix, rule) in [
        ("metadata.google.internal", "metadata_name"),
        ("metadata.packet.net", "metadata_name"),
        ("metadata.platformequinix.com", "metadata_name"),
        ("metadata.tencentyun.com", "metadata_name"),
        ("svc", "cluster_name"),
        ("cluster.local", "cluster_name"),
        ("local", "local_name"),
        ("localhost", "localhost_name"),
        ("localdomain", "local_name"),
        ("internal", "internal_name"),
        ("home.arpa", "home_name"),
        ("in-addr.arpa", "reverse_name"),
        ("ip6.arpa", "reverse_name"),
        ("onion", "onion_name"),
        ("test", "test_name"),
        ("example", "test_name"),
        ("invalid", "invalid_name"),
        ("alt", "alt_name"),
        ("lan", "local_name"),
        ("intranet", "local_name"),
        ("corp", "local_name"),
        ("home", "local_name"),
    ] {
        for name in [
            suffix.to_owned(),
            suffix.to_uppercase() + ".",
            format!("web.t1.{suffix}"),
        ] {
            assert_eq!(special(&name), Some(rule), "{name}");
        }
        assert_eq!(special(&format!("{suffix}.com")), None, "{suffix}.com");
        assert_eq!(special(&format!("not{}.com", suffix.replace('.', "-"))), None);
    }
    assert_eq!(special("example.com"), None);
    assert_eq!(special("notlocalhost.com"), None);
    assert_eq!(special("mylocal.org"), None);
}

#[test]
fn cluster_names_name_a_service() {
    let of = |text: &str, domain: &str| {
        text.parse::<Host>()
            .unwrap()
            .in_cluster_service(&domain.parse().unwrap())
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let web = Some(("web".to_owned(), "t1".to_owned()));
    assert_eq!(of("web.t1.svc.cluster.local", "cluster.local"), web);
    assert_eq!(of("web.t1.svc.k8s.example.org", "k8s.example.org"), web);
    for domain in ["cluster.local", "k8s.example.org"] {
        assert_eq!(of("web.t1.svc", domain), web);
        assert_eq!(of("pod.web.t1.svc", domain), None);
        assert_eq!(of("example.com", domain), None);
        assert_eq!(of(domain, domain), None);
    }
    let full = |text: &str| {
        let name = text
            .parse::<Host>()
            .unwrap()
            .full_name(&"k8s.example.org".parse().unwrap());
        name.map(|name| name.to_string())
    };
    let service = Some("web.t1.svc.k8s.example.org".to_owned());
    assert_eq!(full("web.t1.svc"), service);
    assert_eq!(full("web.t1.svc.k8s.example.org"), service);
    assert_eq!(full("example.com").as_deref(), Some("example.com"));
    assert_eq!(full("192.0.2.1"), None);
    assert_eq!(
        of("web.t1.svc.cluster.local", "k8s.example.org"),
        None,
        "no name of this cluster"
    );
    assert_eq!(of("web.t1.svck8s.example.org", "k8s.example.org"), None);
}
