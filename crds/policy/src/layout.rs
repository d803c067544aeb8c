//! Where things are in a capture pod: names that the operator writes and the server reads.
//!
//! Only constants. A path or port that both sides must agree on stands here and nowhere else.

/// TCP port of the capture API in the pod.
pub const API_PORT: u16 = 8080;
/// TCP port of `/health/*` and `/internal/attest` in the pod.
pub const HEALTH_PORT: u16 = 8081;
/// Path on the health port that says for the browser container, which has no port, whether its jailer answers.
pub const BROWSER_HEALTH_PATH: &str = "/health/browser";
/// TCP port of `/metrics` in the pod.
pub const METRICS_PORT: u16 = 9090;

/// Directory where the ConfigMap with the policy is mounted.
pub const POLICY_DIR: &str = "/etc/screenshot/policy";
/// File name (and ConfigMap key) of the policy.
pub const POLICY_FILE: &str = "policy.json";
/// Path of the policy in the pod.
pub const POLICY_PATH: &str = "/etc/screenshot/policy/policy.json";

/// File name (and ConfigMap key) of the cluster's own public ranges, beside the policy; absent when there are none.
pub const CLUSTER_RANGES_FILE: &str = "cluster-ranges.json";

/// Directory where the Secret with the keyset is mounted.
pub const KEYSET_DIR: &str = "/etc/screenshot/keyset";
/// File name (and Secret key) of the keyset.
pub const KEYSET_FILE: &str = "keyset.json";
/// Path of the keyset in the pod.
pub const KEYSET_PATH: &str = "/etc/screenshot/keyset/keyset.json";

/// Directory where the Secret with the attestation key is mounted.
pub const INTERNAL_KEY_DIR: &str = "/etc/screenshot/internal";
/// File name (and Secret key) of the attestation key.
pub const INTERNAL_KEY_FILE: &str = "key";
/// File name (and Secret key) of the attestation key to come, there only while the key is replaced.
pub const INTERNAL_NEXT_KEY_FILE: &str = "next";
/// Path of the attestation key in the pod.
pub const INTERNAL_KEY_PATH: &str = "/etc/screenshot/internal/key";

/// Directory where the upstream proxy's credentials and certificate authorities are mounted, if there are any.
pub const UPSTREAM_DIR: &str = "/etc/screenshot/upstream";
/// File name of the user name there, and key of a Secret of type `kubernetes.io/basic-auth`.
pub const UPSTREAM_USERNAME_FILE: &str = "username";
/// File name of the password there, and key of that Secret.
pub const UPSTREAM_PASSWORD_FILE: &str = "password";
/// File name of the certificate authorities there, and key of their ConfigMap.
pub const UPSTREAM_CA_FILE: &str = "ca.crt";

/// Directory of the Unix socket that the two containers share.
pub const JAIL_DIR: &str = "/run/jail";
/// The jailer's Unix socket.
pub const JAIL_SOCKET: &str = "/run/jail/jailer.sock";

/// What the image says of the browser in it: `{"version": …, "builtAt": RFC 3339}`.
pub const BROWSER_BUILD_PATH: &str = "/usr/lib/chromium/build.json";

/// Environment variable with the digest that the policy file must have.
pub const ENV_POLICY_DIGEST: &str = "SHOT_POLICY_DIGEST";
/// Environment variable with the pod's name.
pub const ENV_POD_NAME: &str = "POD_NAME";

/// Name of the container with the API, the Secrets and the egress proxy.
pub const SERVER_CONTAINER: &str = "server";
/// Name of the container with the jailer and the browsers.
pub const BROWSER_CONTAINER: &str = "browser";
/// Numeric user and group of both containers: at least 10000 for scanners, at most 65535 for pod user namespaces.
pub const UID: i64 = 65532;

/// The Localhost seccomp profile of the browser container, relative to the kubelet's seccomp directory.
pub const SECCOMP_PROFILE: &str = "screenshot-operator/capture-jail.json";
/// Annotation on the pod template: the digest of the policy that its pods run under.
pub const POLICY_DIGEST_ANNOTATION: &str = "screenshot-operator.io/policy-digest";
/// Path of the attestation endpoint on the health port.
pub const ATTEST_PATH: &str = "/internal/attest";
/// Path on the health port to which the operator brings a keyset before the kubelet does.
pub const KEYSET_BRING_PATH: &str = "/internal/keyset";
