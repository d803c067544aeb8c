//! Keys of labels and annotations: a schema cannot bound them, and a bad one would fail every child that carries it.
//!
//! The rules are those of Kubernetes ("qualified name"): an optional DNS subdomain with a slash, then up to 63 characters.

use std::collections::BTreeMap;

use screenshot_api::{Peer, ScreenshotServiceSpec};

use super::Invalid;

const PREFIX: &str = "must have a lower-case DNS name of at most 253 characters before its slash";
const NAME: &str = "must end in 1 to 63 letters, digits, '-', '_' or '.', the first and last a letter or digit";

/// Checks every map of the spec.
pub(super) fn check(spec: &ScreenshotServiceSpec) -> Result<(), Invalid> {
    let network = &spec.network;
    let monitoring = &spec.monitoring;
    for (field, entries) in [
        ("scheduling.nodeSelector", &spec.scheduling.node_selector),
        ("podMetadata.labels", &spec.pod_metadata.labels),
        ("podMetadata.annotations", &spec.pod_metadata.annotations),
        ("objectMetadata.labels", &spec.object_metadata.labels),
        ("objectMetadata.annotations", &spec.object_metadata.annotations),
        ("monitoring.podMonitor.labels", &monitoring.pod_monitor.labels),
        ("monitoring.prometheusRule.labels", &monitoring.prometheus_rule.labels),
        ("monitoring.dashboard.labels", &monitoring.dashboard.labels),
    ] {
        all(field, entries)?;
    }
    if let Some(ingress) = network.exposure.as_ref().and_then(|exposure| exposure.ingress.as_ref()) {
        all("network.exposure.ingress.annotations", &ingress.annotations)?;
    }
    peers("network.ingress.from", &network.ingress.from)?;
    peers("monitoring.from", &monitoring.from)
}

fn peers(field: &str, peers: &[Peer]) -> Result<(), Invalid> {
    for (index, peer) in peers.iter().enumerate() {
        for selector in [&peer.namespace_selector, &peer.pod_selector].into_iter().flatten() {
            all(&format!("{field}[{index}]"), &selector.match_labels)?;
        }
    }
    Ok(())
}

fn all(field: &str, entries: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let broken = entries.keys().find_map(|key| qualified(key).err());
    broken.map_or(Ok(()), |rule| {
        Err(Invalid::Key {
            field: field.to_owned(),
            rule,
        })
    })
}

fn qualified(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix
        && !subdomain(prefix)
    {
        return Err(PREFIX);
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let legal = (1..=63).contains(&name.len()) && name.bytes().all(inner) && ends_well(name);
    if legal { Ok(()) } else { Err(NAME) }
}

fn subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(legal) && ends_well(part)
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn ends_well(text: &str) -> bool {
    let edges = [text.bytes().next(), text.bytes().last()];
    edges
        .into_iter()
        .all(|edge| edge.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_judged_as_kubernetes_judges_them() {
        for key in [
            "a",
            "app.kubernetes.io/name",
            "A_b.c-1",
            "example.com/x",
            &"n".repeat(63),
        ] {
            assert_eq!(qualified(key), Ok(()), "{key}");
        }
        for (key, rule) in [
            ("", NAME),
            ("-a", NAME),
            ("a b", NAME),
            ("example.com/", NAME),
            (&"n".repeat(64), NAME),
            ("/a", PREFIX),
            ("Example.com/a", PREFIX),
            ("a..b/c", PREFIX),
            ("a/b/c", NAME),
            (&format!("{}/a", "p".repeat(254)), PREFIX),
        ] {
            assert_eq!(qualified(key), Err(rule), "{key}");
        }
    }

    #[test]
    fn every_map_of_the_spec_is_looked_at() {
        let bad = r#"{"-": "v"}"#;
        for (field, spec) in [
            (
                "scheduling.nodeSelector",
                format!(r#"{{"scheduling": {{"nodeSelector": {bad}}}}}"#),
            ),
            (
                "podMetadata.labels",
                format!(r#"{{"podMetadata": {{"labels": {bad}}}}}"#),
            ),
            (
                "podMetadata.annotations",
                format!(r#"{{"podMetadata": {{"annotations": {bad}}}}}"#),
            ),
            (
                "objectMetadata.labels",
                format!(r#"{{"objectMetadata": {{"labels": {bad}}}}}"#),
            ),
            (
                "objectMetadata.annotations",
                format!(r#"{{"objectMetadata": {{"annotations": {bad}}}}}"#),
            ),
            (
                "monitoring.podMonitor.labels",
                format!(r#"{{"monitoring": {{"podMonitor": {{"labels": {bad}}}}}}}"#),
            ),
            (
                "monitoring.prometheusRule.labels",
                format!(r#"{{"monitoring": {{"prometheusRule": {{"labels": {bad}}}}}}}"#),
            ),
            (
                "monitoring.dashboard.labels",
                format!(r#"{{"monitoring": {{"dashboard": {{"labels": {bad}}}}}}}"#),
            ),
            (
                "network.exposure.ingress.annotations",
                format!(r#"{{"network": {{"exposure": {{"ingress": {{"host": "h", "annotations": {bad}}}}}}}}}"#),
            ),
            (
                "network.ingress.from[0]",
                format!(r#"{{"network": {{"ingress": {{"from": [{{"podSelector": {{"matchLabels": {bad}}}}}]}}}}}}"#),
            ),
            (
                "monitoring.from[0]",
                format!(r#"{{"monitoring": {{"from": [{{"namespaceSelector": {{"matchLabels": {bad}}}}}]}}}}"#),
            ),
        ] {
            let spec: ScreenshotServiceSpec = serde_json::from_str(&spec).unwrap();
            let expected = Invalid::Key {
                field: field.to_owned(),
                rule: NAME,
            };
            assert_eq!(check(&spec), Err(expected), "{field}");
        }
    }
}
