//! What the schema cannot see.

use super::*;

#[test]
fn what_the_schema_cannot_see_is_refused_with_the_field_and_the_rule() {
    let metadata = r#"{network: {egress: {exceptions: [{host: 169.254.169.254, ports: [80], reason: r, expires: "2027-01-01T00:00:00Z"}]}}}"#;
    let error = try_validated(metadata).unwrap_err();
    assert_eq!(error.reason(), "InvalidPolicy");
    assert!(
        error
            .to_string()
            .starts_with("spec.network.egress: egress exception 0:"),
        "{error}"
    );
    for (spec, reason, message) in [
        (
            r"{network: {ingress: {cidrs: ['10.0.0.0/8', '::ffff:10.0.0.0/104']}}}",
            "InvalidRange",
            "spec.network.ingress.cidrs[1]: must be an IPv4 or IPv6 range; an IPv4 range must not be written as IPv6",
        ),
        (
            "{network: {egress: {tls: {hosts: [{host: a.com, spkiPins: [x]}]}}}}",
            "InvalidTlsHost",
            "spec.network.egress.tls.hosts[0].spkiPins: a pin must be 32 bytes in base64: 43 characters and '='",
        ),
        (
            "{network: {egress: {tls: {hosts: [{host: '[::1]', spkiPins: ['47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=']}, {host: '[0::1]', spkiPins: ['47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=']}]}}}}",
            "InvalidPolicy",
            "spec.network.egress: egress TLS host 1: the host has an earlier entry",
        ),
        (
            "{network: {egress: {domains: {allow: [example.com, 1.2.3.4]}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.allow[1]: an IPv4 host must be written as four decimal numbers",
        ),
        (
            "{network: {egress: {domains: {deny: ['a.*.com']}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.deny[0]: host must consist of letters, digits, '-', '_' and '.'",
        ),
        (
            "{network: {egress: {cidrs: {deny: [8.8.8.8/32, 8.8.8.8/24]}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.deny[1]: a range must have no bits set beyond its length",
        ),
        (
            "{network: {egress: {cidrs: {allow: ['::ffff:8.0.0.0/104']}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.allow[0]: a range must not be IPv4-mapped: write the IPv4 range",
        ),
        (
            "{network: {egress: {domains: {allow: [example.com, '*.svc']}}}}",
            "InvalidEntry",
            "spec.network.egress.domains.allow[1]: `*.svc` is no public name; an allow list only narrows what is public, anything else needs an entry in `exceptions`",
        ),
        (
            "{network: {egress: {cidrs: {allow: [8.0.0.0/8, 10.0.0.0/8]}}}}",
            "InvalidEntry",
            "spec.network.egress.cidrs.allow[1]: 10.0.0.0/8 holds no public address; an allow list only narrows what is public, anything else needs an entry in `exceptions`",
        ),
        (
            "{network: {egress: {upstreamProxy: {url: 'http://127.1:3128'}}}}",
            "InvalidUpstreamProxy",
            "spec.network.egress.upstreamProxy.url: an IPv4 host must be written as four decimal numbers",
        ),
        (
            "{network: {egress: {upstreamProxy: {url: 'http://169.254.169.254:80'}}}}",
            "InvalidPolicy",
            "spec.network.egress: upstream proxy: metadata_address can never be excepted",
        ),
        (
            "{podMetadata: {labels: {'not a key': x}}}",
            "InvalidKey",
            "spec.podMetadata.labels: a key must end in 1 to 63 letters, digits, '-', '_' or '.', the first and last a letter or digit",
        ),
    ] {
        let error = try_validated(spec).unwrap_err();
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, message));
    }
    let service = service("{}");
    let none = Settings {
        capture_image: None,
        ..settings()
    };
    assert_eq!(
        validate(identity(&service).unwrap(), &service, &none).unwrap_err(),
        Invalid::NoImage
    );
}
