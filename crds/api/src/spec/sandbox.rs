//! How browsers are confined.

use schemars::JsonSchema;
use screenshot_policy::layout::SECCOMP_PROFILE;
use serde::{Deserialize, Serialize};

/// How browsers are confined.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// `Required`: every browser runs in its own user, network and pid namespace with Chromium's sandbox on, or the pod
    /// does not become ready; the node needs the operator's seccomp profile. `Degraded`: pods run on nodes without the
    /// profile, with weaker confinement, and the status says so. Default: `Required`.
    #[serde(default)]
    pub mode: SandboxMode,
    /// How long a browser lives. `PerClient`: a client's captures share a browser, each in a fresh context without the
    /// others' cookies, cache or storage, until anything goes wrong in it or it grows old. `PerCapture`: a browser serves
    /// one capture and is killed, which costs two to three times the processor time. Different clients never share a
    /// browser. Default: `PerClient`.
    #[serde(default)]
    pub isolation: Isolation,
    /// Seccomp profile of the browser container in mode `Required`: a file below the kubelet's seccomp directory on every
    /// node. Default: `screenshot-operator/capture-jail.json`, which the operator's chart installs.
    #[serde(default = "default_profile")]
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*)*$"
        )
    )]
    pub seccomp_profile: String,
    /// When false, the pod gets a user namespace of its own: its users are nobody on the node. The node needs Linux 6.3 and
    /// a container runtime that can do it, or no pod starts. Default: not set, which is the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_users: Option<bool>,
    /// Name of the RuntimeClass of the pods, such as one of gVisor or Kata Containers. Default: the node's own runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub runtime_class_name: Option<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            mode: SandboxMode::default(),
            isolation: Isolation::default(),
            seccomp_profile: default_profile(),
            host_users: None,
            runtime_class_name: None,
        }
    }
}

fn default_profile() -> String {
    SECCOMP_PROFILE.to_owned()
}

/// How much confinement is demanded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum SandboxMode {
    /// All of it, verified, or not ready.
    #[default]
    Required,
    /// What the node offers.
    Degraded,
}

/// How long a browser lives.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, JsonSchema)]
pub enum Isolation {
    /// As long as nothing goes wrong, for one client's captures.
    #[default]
    PerClient,
    /// For one capture.
    PerCapture,
}
