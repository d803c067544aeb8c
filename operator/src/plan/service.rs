//! The Service: port 80 to the API port of the pods; health and metrics are not exposed.

use screenshot_policy::layout;
use serde_json::json;

use super::{Child, Kind};
use crate::validate::Identity;

/// Port of the Service.
pub(crate) const PORT: u16 = 80;
/// Name of that port.
pub(super) const PORT_NAME: &str = "http";

pub(super) fn build(identity: &Identity) -> Child {
    let content = json!({"spec": {
        "type": "ClusterIP",
        "selector": identity.names.selector(),
        "ports": [{
            "name": PORT_NAME, "port": PORT, "protocol": "TCP", "targetPort": layout::API_PORT, "appProtocol": "http",
        }],
    }});
    Child::new(identity, Kind::Service, identity.names.main(), content)
}
