//! Spellings of addresses, and addresses that are forgotten: T2 to T6.

use super::both;
use crate::harness::{World, refusal, with_site};

#[tokio::test]
async fn t2_a_scheme_is_no_way_around_however_it_is_spelled() {
    let world = with_site().await;
    let proxy = world.open().await;
    for url in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "File://localhost/etc/passwd",
        "view-source:http://site.com/",
        "ftp://site.com/",
        "gopher://site.com/",
        "chrome://version/",
        "data:text/html,x",
        "javascript:x",
        "blob:http://site.com/x",
        "ws://site.com/",
        "https://site.com/",
        "\thttp://site.com/",
        "ht\ttp://site.com/",
        "http:/site.com/",
        "http:\\\\site.com\\",
    ] {
        assert_eq!(refusal(&proxy.get(url).await).0, 400, "{url}");
    }
    for url in ["HTTP://SITE.COM/", "Http://Site.Com./", "http://site.com.:80/"] {
        assert!(proxy.get(url).await.starts_with("HTTP/1.1 200"), "{url}");
    }
    for host in ["LOCALHOST", "LocalHost.", "KUBERNETES.default.SVC", "x.INTERNAL."] {
        for word in both(&proxy, host).await {
            assert!(word.ends_with("_name"), "{host}: {word}");
        }
    }
    for host in ["%6cocalhost", "local%68ost", "127%2e0.0.1", "[%3a:1]"] {
        assert_eq!(both(&proxy, host).await, ["head_authority"; 2], "{host}");
    }
}

#[tokio::test]
async fn t3_every_spelling_of_loopback_is_refused() {
    let world = World::new();
    let proxy = world.open().await;
    for (host, word) in [
        ("[::ffff:7f00:1]", "loopback_address"),
        ("[::ffff:127.0.0.1]", "loopback_address"),
        ("[0:0:0:0:0:ffff:127.0.0.1]", "loopback_address"),
        ("[::1]", "loopback_address"),
        ("[0000:0000:0000:0000:0000:0000:0000:0001]", "loopback_address"),
        ("[::]", "unspecified_address"),
        ("0.0.0.0", "unspecified_address"),
        ("127.0.0.1", "loopback_address"),
        ("localhost", "localhost_name"),
        ("localhost.", "localhost_name"),
        ("a.localhost", "localhost_name"),
        ("localhost.localdomain", "local_name"),
        ("ip6-localhost", "single_label_name"),
        ("2130706433", "head_authority"),
        ("017700000001", "head_authority"),
        ("0177.0.0.1", "head_authority"),
        ("0x7f000001", "head_authority"),
        ("0X7F.0.0.1", "head_authority"),
        ("127.1", "head_authority"),
        ("127.0.1", "head_authority"),
        ("0", "head_authority"),
        ("127.0.0.1.", "head_authority"),
        ("[::1%25lo]", "head_authority"),
        ("[::1%lo]", "head_authority"),
        ("::1", "head_authority"),
    ] {
        assert_eq!(both(&proxy, host).await, [word; 2], "{host}");
    }
    // Ideographic full stops and full-width digits never reach a proxy as such; if they do, they are no host.
    for host in ["127\u{3002}0.0.1", "\u{ff11}27.0.0.1", "lo\u{24d2}alhost"] {
        assert_eq!(refusal(&proxy.get(&format!("http://{host}/")).await).0, 400, "{host}");
    }
    assert!(world.names.asked().is_empty() && world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t4_an_ipv4_address_wrapped_in_ipv6_is_refused_as_literal_and_as_answer() {
    let world = World::new();
    let proxy = world.open().await;
    for wrapped in [
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:53aa:64c:0:0:5601:5601",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "2606:4700::5efe:a9fe:a9fe",
        "2606:4700::200:5efe:a9fe:a9fe",
    ] {
        assert_eq!(
            both(&proxy, &format!("[{wrapped}]")).await,
            ["embedded_ipv4_address"; 2],
            "{wrapped}"
        );
        world.names.set("evil.com", &[&[wrapped]]);
        assert_eq!(
            both(&proxy, "evil.com").await,
            ["embedded_ipv4_address"; 2],
            "{wrapped}"
        );
    }
    for (ip, class) in [
        ("fec0::1", "site_local_address"),
        ("::ffff:a9fe:a9fe", "metadata_address"),
    ] {
        assert_eq!(both(&proxy, &format!("[{ip}]")).await, [class; 2], "{ip}");
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t5_ranges_that_others_forget_are_refused() {
    let world = World::new();
    let proxy = world.open().await;
    for ip in [
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "198.18.0.1",
        "198.19.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "192.88.99.1",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[2001:db8::1]",
        "[ff02::1]",
    ] {
        for word in both(&proxy, ip).await {
            assert!(word.ends_with("_address"), "{ip}: {word}");
        }
    }
    assert!(world.wires.dialled().is_empty());
}

#[tokio::test]
async fn t6_a_service_that_asked_for_nothing_refuses_everything_special() {
    let world = World::new();
    assert!(world.policy().exceptions().is_empty());
    let proxy = world.open().await;
    for host in [
        "127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ] {
        let plain = refusal(&proxy.get(&format!("http://{host}/")).await);
        assert_eq!(
            (plain.0, plain.1.as_str()),
            (403, "destination_ip_prohibited"),
            "{host}"
        );
    }
}
