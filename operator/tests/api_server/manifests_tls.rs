//! Hosts that are known by their keys: what the API server says of entries that make no sense.

use serde_json::{Value, json};

const PIN: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn hosts(hosts: &[Value]) -> Value {
    json!({"network": {"egress": {"tls": {"hosts": hosts}}}})
}

/// A good entry with `more` put over it.
fn host(more: &Value) -> Value {
    let mut host = json!({"host": "a.example", "spkiPins": [PIN]});
    for (key, value) in more.as_object().expect("an object") {
        host[key] = value.clone();
    }
    host
}

/// The spec, the field that is blamed, and what is said.
pub fn refused() -> Vec<(Value, &'static str, &'static str)> {
    let one = |more: &Value| hosts(&[host(more)]);
    vec![
        (
            one(&json!({"trust": "PinnedKey", "expires": "2030-01-01T00:00:00Z"})),
            "spec.network.egress.tls.hosts[0].expires",
            "Required value: `reason` and `expires` must be set with `trust: PinnedKey`, which is an exception",
        ),
        (
            one(&json!({"trust": "PinnedKey", "reason": "r"})),
            "spec.network.egress.tls.hosts[0].expires",
            "Required value: `reason` and `expires` must be set with `trust: PinnedKey`, which is an exception",
        ),
        (
            one(&json!({"reason": "r"})),
            "spec.network.egress.tls.hosts[0].expires",
            "Forbidden: `reason` and `expires` must be left out without `trust: PinnedKey`",
        ),
        (
            one(&json!({"spkiPins": []})),
            "spec.network.egress.tls.hosts[0].spkiPins",
            "Invalid value: 0: spec.network.egress.tls.hosts[0].spkiPins in body should have at least 1 items",
        ),
        (
            one(&json!({"spkiPins": [PIN, PIN]})),
            "spec.network.egress.tls.hosts[0].spkiPins[1]",
            "Duplicate value: \"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"",
        ),
        (
            // A bit that no digest has.
            one(&json!({"spkiPins": ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV="]})),
            "spec.network.egress.tls.hosts[0].spkiPins[0]",
            "Invalid value: \"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\": spec.network.egress.tls.hosts[0].spkiPins[0] in body should match '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'",
        ),
        (
            hosts(&[host(&json!({})), host(&json!({}))]),
            "spec.network.egress.tls.hosts[1]",
            "Duplicate value: {\"host\":\"a.example\"}",
        ),
        (
            one(&json!({"trust": "Nobody"})),
            "spec.network.egress.tls.hosts[0].trust",
            "Unsupported value: \"Nobody\": supported values: \"PublicAuthorities\", \"PinnedKey\"",
        ),
    ]
}

pub fn taken() -> Vec<Value> {
    let exception =
        json!({"host": "[fd00::1]", "trust": "PinnedKey", "reason": "r", "expires": "2030-01-01T00:00:00Z"});
    vec![
        hosts(&[host(&json!({})), host(&exception)]),
        hosts(
            &(0..32)
                .map(|n| host(&json!({"host": format!("a{n}.example")})))
                .collect::<Vec<_>>(),
        ),
    ]
}
