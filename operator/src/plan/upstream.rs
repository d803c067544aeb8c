//! What pods are given for the upstream proxy: one volume out of a Secret and a ConfigMap, for the server's container alone.
//!
//! In: the names of both. Out: the volume and where it is mounted, or neither. Both may be missing when a pod starts: the server
//! says so, and is not ready, where a volume that cannot be mounted would say nothing. Only the keys that are needed are
//! projected.

use screenshot_policy::layout;
use serde_json::{Value, json};

use crate::validate::{Mounts, Validated};

const NAME: &str = "upstream";

pub(super) fn volume(wanted: &Validated) -> Option<Value> {
    let Mounts { secret, config_map } = &wanted.upstream;
    let source = |kind: &str, name: &String, keys: &[&str]| {
        let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
        json!({kind: {"name": name, "optional": true, "items": items}})
    };
    let credentials = [layout::UPSTREAM_USERNAME_FILE, layout::UPSTREAM_PASSWORD_FILE];
    let secret = secret.as_ref().map(|name| source("secret", name, &credentials));
    let authorities = config_map
        .as_ref()
        .map(|name| source("configMap", name, &[layout::UPSTREAM_CA_FILE]));
    let sources: Vec<Value> = secret.into_iter().chain(authorities).collect();
    (!sources.is_empty()).then(|| json!({"name": NAME, "projected": {"defaultMode": 0o440, "sources": sources}}))
}

pub(super) fn mount(wanted: &Validated) -> Option<Value> {
    (wanted.upstream != Mounts::default())
        .then(|| json!({"name": NAME, "mountPath": layout::UPSTREAM_DIR, "readOnly": true}))
}
