//! A service whose only way out is a forward proxy, here one that stands in for the internet and leads to the demo site.

use std::time::Duration;

use screenshot_tests::{
    Forward, Kind, Namespace, capture, condition, eventually, get, kubectl, list, merge, service, token, wait_ready,
};
use serde_json::json;

use crate::apply_in;
use crate::network::{CLOSED, dial};

/// A public address that nothing in the cluster has.
const PUBLIC: &str = "93.184.216.34";

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
  ports: [{port: 3128, targetPort: 3128}]
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
          args: ["-proxy=:3128", "-proxy-user=ada"]
          env: [{name: PROXY_PASSWORD, valueFrom: {secretKeyRef: {name: proxy-login, key: password}}}]
          readinessProbe: {tcpSocket: {port: 3128}, periodSeconds: 2}
          resources: {requests: {cpu: 5m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"#;

#[test]
fn a_service_behind_an_upstream_proxy_reaches_the_world_through_it_alone() {
    let namespace = Namespace::create("e2e-upstream").unwrap();
    let name = namespace.0.as_str();
    apply_in(name, UPSTREAM);
    let spec = format!(
        "{{replicas: 1, network: {{egress: {{upstreamProxy: {{url: 'http://upstream.{name}.svc.cluster.local:3128', \
         credentialsSecretName: proxy-login}}}}}}}}"
    );
    apply_in(name, &service("shots", &spec));
    kubectl(&["-n", name, "rollout", "status", "deployment/upstream", "--timeout=60s"]).unwrap();
    wait_ready(name, "shots").unwrap();
    let checked = condition(name, "shots", "AddressesChecked").unwrap();
    assert_eq!(
        (checked.status.as_str(), checked.reason.as_str()),
        ("True", "LocalResolution")
    );

    let token = token(name, "shots").unwrap();
    let api = Forward::open(name, "service/shots", 80).unwrap();
    let shoot = |url: &str| capture(api.port(), Some(&token), &json!({"url": url})).unwrap();
    let picture = shoot(&format!("http://{PUBLIC}/"));
    assert_eq!(picture.status, 200, "{}", picture.json());
    for closed in ["http://169.254.169.254/", "http://10.96.0.1:443/"] {
        assert_eq!(shoot(closed).status, 403, "{closed}");
    }
    let log = kubectl(&["-n", name, "logs", "deployment/upstream"]).unwrap();
    assert!(log.contains(&format!("connect {PUBLIC}:80")), "{log}");
    assert!(
        !log.contains("refused") && !log.contains("169.254") && !log.contains("10.96"),
        "{log}"
    );

    // Past the proxy the pod's labels open the upstream and nothing else.
    let deployment = get(name, Kind::Deployment, "shots").unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"].to_string();
    let pods = list(name, Kind::Pod, "app=upstream").unwrap();
    let address = pods[0]["status"]["podIP"].as_str().unwrap();
    let mut expected = vec![format!("+{address}:3128"), format!("-{address}:8080")];
    expected.extend(CLOSED.iter().map(|target| format!("-{target}")));
    let walk = dial(name, "probe", &labels, &expected);
    assert!(walk.as_expected, "{}", walk.log);

    // Names handed on are shown for what they are.
    let remote = json!({"spec": {"network": {"egress": {"upstreamProxy": {"resolve": "Remote"}}}}});
    merge(name, Kind::ScreenshotService, "shots", &remote).unwrap();
    let told = eventually("the weakening is told", Duration::from_secs(120), || {
        let ready = condition(name, "shots", "Ready")?;
        (ready.status == "True" && ready.reason == "Degraded").then_some(ready)
    });
    assert!(told.unwrap().message.contains("looks names up"));
    let checked = condition(name, "shots", "AddressesChecked").unwrap();
    assert_eq!(
        (checked.status.as_str(), checked.reason.as_str()),
        ("False", "RemoteResolution")
    );
}
