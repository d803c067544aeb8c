//! The way in from outside of the cluster: an Ingress or an HTTPRoute, and the URL that follows from it.
//!
//! Neither has a default host or a wildcard: a service is exposed under the names that its spec spells out.

use screenshot_api::{HttpRouteExposure, IngressExposure, ParentReference, Scheme};
use serde_json::{Value, json};

use super::{Child, Kind, service};
use crate::validate::Validated;

/// Seconds that a gateway waits longer than the longest capture may take.
const TIMEOUT_MARGIN_SECONDS: u64 = 5;

pub(super) fn ingress(wanted: &Validated) -> Option<Child> {
    let exposure = wanted.exposure.as_ref()?.ingress.as_ref()?;
    let names = &wanted.identity.names;
    let mut spec = json!({"rules": [{
        "host": exposure.host,
        "http": {"paths": [{
            "path": "/",
            "pathType": "Prefix",
            "backend": {"service": {"name": names.main(), "port": {"name": service::PORT_NAME}}},
        }]},
    }]});
    if let Some(class) = &exposure.class_name {
        spec["ingressClassName"] = json!(class);
    }
    if let Some(secret) = &exposure.tls_secret_name {
        spec["tls"] = json!([{"hosts": [exposure.host], "secretName": secret}]);
    }
    let child = Child::new(&wanted.identity, Kind::Ingress, names.main(), json!({"spec": spec}));
    Some(child.annotated(&exposure.annotations))
}

pub(super) fn http_route(wanted: &Validated) -> Option<Child> {
    let exposure = wanted.exposure.as_ref()?.http_route.as_ref()?;
    let names = &wanted.identity.names;
    let timeout = wanted.policy.limits().deadline_ms.get().div_ceil(1000) + TIMEOUT_MARGIN_SECONDS;
    let content = json!({"spec": {
        "parentRefs": exposure.parent_refs.iter().map(parent).collect::<Vec<_>>(),
        "hostnames": exposure.hostnames,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"group": "", "kind": "Service", "name": names.main(), "port": service::PORT, "weight": 1}],
            "timeouts": {"request": format!("{timeout}s")},
        }],
    }});
    Some(Child::new(&wanted.identity, Kind::HttpRoute, names.main(), content))
}

/// With what the API server would fill in: inside a list that is applied as a whole, its defaults would look like an edit.
fn parent(parent: &ParentReference) -> Value {
    let mut reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": parent.name});
    for (key, value) in [("namespace", &parent.namespace), ("sectionName", &parent.section_name)] {
        if let Some(value) = value {
            reference[key] = json!(value);
        }
    }
    reference
}

/// Where clients send captures.
pub fn url(wanted: &Validated) -> String {
    let exposure = wanted.exposure.as_ref();
    let outside = exposure.and_then(|exposure| match (&exposure.ingress, &exposure.http_route) {
        (Some(ingress), _) => Some(ingress_url(ingress)),
        (None, Some(route)) => route_url(route),
        (None, None) => None,
    });
    let id = &wanted.identity;
    outside.unwrap_or_else(|| format!("http://{}.{}.svc", id.names.main(), id.namespace))
}

fn ingress_url(ingress: &IngressExposure) -> String {
    let scheme = if ingress.tls_secret_name.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", ingress.host)
}

fn route_url(route: &HttpRouteExposure) -> Option<String> {
    let scheme = match route.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    route.hostnames.first().map(|host| format!("{scheme}://{host}"))
}
