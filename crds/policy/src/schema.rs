//! The JSON Schemas of the documents, generated from the types that read them and committed.
//!
//! In: the types. Out: `schema/policy.json` and `schema/keyset.json`. A test compares; with `UPDATE_SCHEMA` set in the
//! environment it writes instead (`make crds` does). Compiled for tests only: what ships does not carry a generator.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;

use crate::address::Nat64Prefix;
use crate::cidr::Cidr;
use crate::domain::DomainRule;
use crate::egress::{EgressException, Resolution, UpstreamProxy, UpstreamScheme};
use crate::host::{Host, HostName};
use crate::keyset::Keyset;
use crate::policy::PolicyDocument;
use crate::tls::{SpkiPin, TlsHost, Trust};
use crate::token::Kid;
use crate::unit::{Bytes, Count, CssPixels, MAX_AMOUNT, MAX_REASON, Millis, ObjectName, Pixels, Port, Reason};

macro_rules! schemas {
    ($($name:ident: $schema:tt;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schemas! {
    Millis: {"description": "A duration in milliseconds.", "type": "integer", "minimum": 1, "maximum": MAX_AMOUNT};
    CssPixels: {"description": "A length in CSS pixels.", "type": "integer", "minimum": 1, "maximum": MAX_AMOUNT};
    Pixels: {"description": "An area in pixels.", "type": "integer", "minimum": 1, "maximum": MAX_AMOUNT};
    Bytes: {"description": "A number of bytes.", "type": "integer", "minimum": 1, "maximum": MAX_AMOUNT};
    Count: {"description": "A number of things.", "type": "integer", "minimum": 1, "maximum": MAX_AMOUNT};
    Port: {"description": "A TCP port.", "type": "integer", "minimum": 1, "maximum": 65535};
    Reason: {"description": "Why something is needed.", "type": "string", "minLength": 1, "maxLength": MAX_REASON};
    ObjectName: {
        "description": "The name of a Kubernetes object.", "type": "string", "minLength": 1, "maxLength": 253,
        "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
    };
    HostName: {"description": "A DNS name.", "type": "string", "minLength": 1, "maxLength": 254};
    Host: {
        "description": "A DNS name, an IPv4 address, or an IPv6 address in square brackets.",
        "type": "string", "minLength": 1, "maxLength": 254
    };
    DomainRule: {
        "description": "A DNS name, or `*.` and a DNS name for every name below it.",
        "type": "string", "minLength": 1, "maxLength": 256
    };
    Cidr: {
        "description": "A range of addresses in CIDR notation, without host bits.",
        "type": "string", "pattern": "^[0-9a-f:.]+/[0-9]{1,3}$", "maxLength": 43
    };
    Nat64Prefix: {
        "description": "A NAT64 prefix of RFC 6052.",
        "type": "string", "pattern": "^[0-9a-f:.]+/(32|40|48|56|64|96)$", "maxLength": 43
    };
    SpkiPin: {
        "description": "SHA-256 of a key as it stands in a certificate, in base64 (RFC 7469).",
        "type": "string", "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"
    };
    Kid: {"description": "A key id.", "type": "string", "pattern": "^[a-z2-7]{8}$"};
}

/// A point in time, RFC 3339.
pub(crate) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// 64 lower-case hexadecimal digits.
pub(crate) fn sha256(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
}

fn text<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())
}

/// Cargo says at run time where the crate is: what is compiled then serves every checkout.
#[expect(clippy::disallowed_methods, reason = "see above")]
fn path(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("schema")
        .join(name)
}

fn documents() -> [(&'static str, String); 2] {
    [
        ("policy.json", text::<PolicyDocument>()),
        ("keyset.json", text::<Keyset>()),
    ]
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the switch with which a person renews the files"
)]
fn the_committed_schemas_are_what_the_types_say() {
    for (name, generated) in documents() {
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path(name), &generated).unwrap();
        }
        let committed = std::fs::read_to_string(path(name)).unwrap();
        assert!(
            committed == generated,
            "crds/policy/schema/{name} is out of date: make crds"
        );
    }
}

#[test]
fn every_object_of_the_schemas_is_closed_and_every_string_list_and_number_is_bounded() {
    for (name, generated) in documents() {
        closed(&serde_json::from_str(&generated).unwrap(), name);
    }
}

fn closed(node: &Value, at: &str) {
    let Value::Object(map) = node else { return };
    let has = |key: &str| map.contains_key(key);
    match map.get("type").and_then(Value::as_str) {
        Some("object") => assert_eq!(map.get("additionalProperties"), Some(&Value::Bool(false)), "{at}"),
        Some("string") => {
            assert!(
                has("maxLength") || has("pattern") || has("enum") || has("const") || has("format"),
                "{at}"
            );
        }
        Some("array") => assert!(has("maxItems"), "{at}"),
        Some("integer") => assert!(has("minimum") && has("maximum"), "{at}"),
        _ => {}
    }
    for (key, child) in map {
        match child {
            Value::Array(items) => items.iter().for_each(|item| closed(item, &format!("{at}/{key}"))),
            other => closed(other, &format!("{at}/{key}")),
        }
    }
}

#[test]
fn a_whole_document_has_no_field_that_its_schema_lacks() {
    fn covered(schema: &Value, value: &Value, root: &Value, at: &str) {
        let schema = match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let property = schema.pointer(&format!("/properties/{name}"));
                    covered(
                        property.unwrap_or_else(|| panic!("{at}/{name}")),
                        field,
                        root,
                        &format!("{at}/{name}"),
                    );
                }
            }
            Value::Array(items) => items.iter().for_each(|item| covered(&schema["items"], item, root, at)),
            _ => {}
        }
    }
    let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
    document.egress.exceptions = vec![EgressException {
        host: "web.t1.svc".parse().unwrap(),
        ports: vec![Port::HTTP],
        cidr: Some("10.0.0.0/8".parse().unwrap()),
        reason: "a test".parse().unwrap(),
        expires: "2027-01-01T00:00:00Z".parse().unwrap(),
    }];
    document.egress.upstream_proxy = Some(UpstreamProxy {
        scheme: UpstreamScheme::Https,
        host: "proxy.example.com".parse().unwrap(),
        port: Port::HTTPS,
        cidr: Some("10.0.0.0/8".parse().unwrap()),
        resolve: Resolution::Remote,
        authenticated: true,
        ca_bundle: true,
    });
    document.egress.tls.hosts = vec![TlsHost {
        host: "web.t1.svc".parse().unwrap(),
        trust: Trust::PinnedKey,
        spki_pins: vec![SpkiPin::of(b"a key")],
        reason: Some("a test".parse().unwrap()),
        expires: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    }];
    let schema: Value = serde_json::from_str(&text::<PolicyDocument>()).unwrap();
    covered(
        &schema,
        &serde_json::to_value(document).unwrap(),
        &schema,
        "policy.json",
    );
}
