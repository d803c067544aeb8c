//! A service whose only way out is a forward proxy, here one that stands in for the internet and leads to the demo site. It
//! is asked in each way that there is, and one of the hosts behind it is known by its key.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use screenshot_policy::tls::SpkiPin;
use screenshot_tests::{
    Answer, Forward, Kind, Namespace, capture, condition, eventually, get, kubectl, list, merge, service, token,
    wait_ready,
};
use serde_json::{Value, json};

use crate::apply_in;
use crate::network::{CLOSED, OPEN, dial};

/// Public addresses that nothing in the cluster has. The second is the host that is known by a key that it does not have.
const PUBLIC: &str = "93.184.216.34";
const IMPOSTOR: &str = "93.184.216.35";
/// A name that only the upstream could look up.
const NAME: &str = "known.example.com";

const UPSTREAM: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: proxy-login}
type: kubernetes.io/basic-auth
stringData: {username: ada, password: h4rd-to-guess}
---
apiVersion: v1
kind: Service
metadata: {name: upstream}
spec:
  selector: {app: upstream}
  ports: [{name: http, port: 3128}, {name: https, port: 3129}, {name: socks5, port: 1080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: upstream}
spec:
  selector: {matchLabels: {app: upstream}}
  template:
    metadata: {labels: {app: upstream}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: site
          image: localhost/demo-site:dev
          imagePullPolicy: IfNotPresent
          args: ["-proxy-user=ada", "-certificate=/certificate"]
          env: [{name: PROXY_PASSWORD, valueFrom: {secretKeyRef: {name: proxy-login, key: password}}}]
          readinessProbe: {tcpSocket: {port: 1080}, periodSeconds: 2}
          resources: {requests: {cpu: 5m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: certificate, mountPath: /certificate, readOnly: true}]
      volumes: [{name: certificate, secret: {secretName: upstream-certificate}}]
"#;

/// What upstream and site show, which only its owner vouches for, and the pin of its key.
fn certificate(namespace: &str) -> String {
    let pair = KeyPair::generate().unwrap();
    let own = CertificateParams::new([host(namespace)])
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    let identity = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "upstream-certificate"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": own.pem(), "tls.key": pair.serialize_pem()},
    });
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "upstream-ca"}, "data": {"ca.crt": own.pem()},
    });
    apply_in(namespace, &format!("{identity}\n---\n{authority}"));
    SpkiPin::of(&pair.subject_public_key_info()).to_string()
}

fn host(namespace: &str) -> String {
    format!("upstream.{namespace}.svc.cluster.local")
}

/// The service as a client uses it.
struct Shots<'n> {
    namespace: &'n str,
    token: String,
}

impl Shots<'_> {
    fn shoot(&self, api: &Forward, url: &str) -> Answer {
        capture(api.port(), Some(&self.token), &json!({"url": url})).unwrap()
    }

    fn api(&self) -> Forward {
        Forward::open(self.namespace, "service/shots", 80).unwrap()
    }

    /// Goes over to another upstream, and waits for pods that have it.
    fn change(&self, egress: &Value) -> Forward {
        let patch = json!({"spec": {"network": {"egress": egress}}});
        merge(self.namespace, Kind::ScreenshotService, "shots", &patch).unwrap();
        wait_ready(self.namespace, "shots").unwrap();
        self.api()
    }

    /// Whether its pods reach the upstream on this port past the proxy, and nothing else.
    fn walk(&self, probe: &str, port: u16) {
        let deployment = get(self.namespace, Kind::Deployment, "shots").unwrap();
        let labels = deployment["spec"]["template"]["metadata"]["labels"].to_string();
        let pods = list(self.namespace, Kind::Pod, "app=upstream").unwrap();
        let address = pods[0]["status"]["podIP"].as_str().unwrap();
        let closed = [3128, 3129, 1080, 8080].into_iter().filter(|other| *other != port);
        let mut expected = vec![format!("+{address}:{port}")];
        expected.extend(closed.map(|other| format!("-{address}:{other}")));
        expected.extend(CLOSED.iter().chain([&OPEN]).map(|target| format!("-{target}")));
        let walk = dial(self.namespace, probe, &labels, &expected);
        assert!(walk.as_expected, "{}", walk.log);
    }
}

/// A picture of the host under its right key, and none of the host that has another.
fn keys_decide(shots: &Shots<'_>, api: &Forward, right: &str) {
    let picture = shots.shoot(api, &format!("https://{right}/"));
    assert_eq!(picture.status, 200, "{right}: {}", picture.json());
    let refused = shots.shoot(api, &format!("https://{IMPOSTOR}/"));
    let kind = refused.json()["type"].as_str().unwrap_or_default().to_owned();
    assert!(kind.ends_with("/tls_failed"), "{}", refused.json());
    assert_eq!(
        refused.header("proxy-status"),
        "capture-egress; error=tls_certificate_error"
    );
}

#[test]
fn a_service_behind_an_upstream_proxy_reaches_the_world_through_it_alone() {
    let namespace = Namespace::create("e2e-upstream").unwrap();
    let name = namespace.0.as_str();
    let pin = certificate(name);
    apply_in(name, UPSTREAM);
    let at = host(name);
    let spec = format!(
        "{{replicas: 1, network: {{egress: {{upstreamProxy: {{url: 'http://{at}:3128', credentialsSecretName: proxy-login}}}}}}}}"
    );
    apply_in(name, &service("shots", &spec));
    kubectl(&["-n", name, "rollout", "status", "deployment/upstream", "--timeout=60s"]).unwrap();
    wait_ready(name, "shots").unwrap();
    let checked = || {
        let checked = condition(name, "shots", "AddressesChecked").unwrap();
        (checked.status, checked.reason)
    };
    assert_eq!(checked(), ("True".to_owned(), "LocalResolution".to_owned()));

    let shots = Shots {
        namespace: name,
        token: token(name, "shots").unwrap(),
    };
    let api = shots.api();
    let picture = shots.shoot(&api, &format!("http://{PUBLIC}/"));
    assert_eq!(picture.status, 200, "{}", picture.json());
    for closed in ["http://169.254.169.254/", "http://10.96.0.1:443/"] {
        assert_eq!(shots.shoot(&api, closed).status, 403, "{closed}");
    }
    // Nobody vouches for the site's certificate, and its key has not been named yet.
    let unknown = shots.shoot(&api, &format!("https://{PUBLIC}/"));
    assert!(unknown.json()["type"].as_str().unwrap().ends_with("/tls_failed"));
    let said = || kubectl(&["-n", name, "logs", "deployment/upstream"]).unwrap();
    let log = said();
    assert!(log.contains(&format!(" connect {PUBLIC}:80")), "{log}");
    shots.walk("http", 3128);

    // Over TLS, to whom the bundle vouches for; and hosts that are known by their keys.
    let known = |host: &str, pin: &str| json!({"host": host, "trust": "PinnedKey", "spkiPins": [pin], "reason": "a test", "expires": "2099-01-01T00:00:00Z"});
    let other = SpkiPin::of(b"another key").to_string();
    let hosts = json!([known(PUBLIC, &pin), known(NAME, &pin), known(IMPOSTOR, &other)]);
    let api = shots.change(&json!({
        "upstreamProxy": {"url": format!("https://{at}:3129"), "caBundleConfigMapName": "upstream-ca"},
        "tls": {"hosts": hosts},
    }));
    keys_decide(&shots, &api, PUBLIC);
    let log = said();
    assert!(log.contains(&format!(" connect over TLS {PUBLIC}:443")), "{log}");

    // SOCKS5, and names handed on, which is shown for what it is.
    let api = shots.change(&json!({
        "upstreamProxy": {"url": format!("socks5://{at}:1080"), "caBundleConfigMapName": null, "resolve": "Remote"},
    }));
    let told = eventually("the weakening is told", Duration::from_secs(120), || {
        let ready = condition(name, "shots", "Ready")?;
        (ready.status == "True" && ready.reason == "Degraded").then_some(ready)
    });
    assert!(told.unwrap().message.contains("looks names up"));
    assert_eq!(checked(), ("False".to_owned(), "RemoteResolution".to_owned()));
    keys_decide(&shots, &api, NAME);
    shots.walk("socks", 1080);
    let log = said();
    assert!(log.contains(&format!(" socks {NAME}:443")), "{log}");
    assert!(
        !log.contains("refused") && !log.contains("169.254") && !log.contains("10.96"),
        "{log}"
    );
}
