//! The world that plans are made in: the time, the operator, and the Services that exceptions may name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use screenshot_operator::cluster::ClusterSettings;
use screenshot_operator::context::Settings;
use screenshot_operator::plan::{OperatorPods, PortTarget, ServiceTarget, Targets};

const OPERATOR: &str = "screenshot-operator";

pub fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub fn settings() -> Settings {
    Settings {
        capture_image: Some("example.com/capture-server@sha256:0000".into()),
        operator_namespace: OPERATOR.into(),
        operator_name: OPERATOR.into(),
        cluster: ClusterSettings::default(),
    }
}

pub fn operator() -> OperatorPods {
    OperatorPods {
        namespace: OPERATOR.into(),
        name: OPERATOR.into(),
    }
}

/// `web.shop` translates 80 and a named port, `db.shop` is headless.
pub fn targets() -> Targets {
    let selector = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let web = ServiceTarget {
        selector: selector("web"),
        ports: BTreeMap::from([(80, PortTarget::Number(8080)), (8443, PortTarget::Name("tls".into()))]),
        headless: false,
    };
    let db = ServiceTarget {
        selector: selector("db"),
        ports: BTreeMap::new(),
        headless: true,
    };
    Targets::from([(("shop".into(), "web".into()), web), (("shop".into(), "db".into()), db)])
}
