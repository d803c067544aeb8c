//! T13, for hosts that are known by their keys: TLS to them ends in the proxy, which keeps nothing of it either.

use crate::authority::{Browser, HELLO, pin, self_signed};
use crate::pins::{GET, exception, key, world};

#[tokio::test]
async fn t13_no_tls_session_of_a_named_host_is_gone_on_with_on_either_side_of_the_proxy() {
    let pair = key();
    let named = vec![exception("site.com", &[pin(&pair)])];
    let (world, site) = world(named, self_signed("other.com", &pair, |_| ()), &pair).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // The control: this browser and this server do go on where the proxy is not between them.
        for (host, goes_on) in [("other.com", true), ("site.com", false)] {
            let (proxy, browser) = (world.open().await, Browser::new(&[version]));
            let mut seen = Vec::new();
            for _ in 0..3 {
                let mut tunnel = browser.tunnelled(&proxy, host, 443).await.unwrap();
                assert_eq!(tunnel.ask(GET).await, HELLO);
                seen.push(tunnel.is_resumed());
            }
            let expected = [false, goes_on, goes_on];
            assert_eq!(seen, expected, "{host} {version:?}: towards the browser");
            let seen = std::mem::take(&mut *site.resumed.lock().unwrap());
            assert_eq!(seen, expected, "{host} {version:?}: towards the host");
        }
    }
}
