//! What a service may ask for beside its pods: ways in, autoscaling, monitoring.

use super::*;

#[test]
fn what_the_cluster_lacks_is_shown_and_only_a_way_in_that_is_missing_stalls() {
    let mut world = good(|spec| spec.monitoring.pod_monitor.enabled = true);
    assert_eq!(world.says("MonitoringInPlace"), is("True", "MonitoringInPlace"));
    world.unserved = BTreeSet::from([Kind::PodMonitor, Kind::PrometheusRule]);
    assert_eq!(world.says("MonitoringInPlace"), is("False", "MonitoringCRDMissing"));
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));

    let mut world = good(|spec| spec.network.exposure = Some(route()));
    assert_eq!(world.says("Exposed"), is("True", "RouteInPlace"));
    world.unserved = BTreeSet::from([Kind::HttpRoute]);
    assert_eq!(world.says("Exposed"), is("False", "GatewayCRDMissing"));
    assert_eq!(world.says("Ready"), is("False", "GatewayCRDMissing"));
    assert_eq!(world.says("Stalled"), is("True", "GatewayCRDMissing"));

    for absent in ["MonitoringInPlace", "Exposed", "AutoscalingActive"] {
        assert_eq!(good(|_| {}).says(absent), None, "{absent} is not asked for");
    }
}

fn route() -> screenshot_api::Exposure {
    serde_json::from_value(
        serde_json::json!({"httpRoute": {"parentRefs": [{"name": "g"}], "hostnames": ["b.example", "a.example"]}}),
    )
    .unwrap()
}

#[test]
fn the_url_is_that_of_the_way_in_from_outside_if_there_is_one() {
    let url = |exposure: serde_json::Value| {
        let world = good(|spec| spec.network.exposure = serde_json::from_value(exposure).unwrap());
        world.status(&ScreenshotServiceStatus::default(), now()).url.unwrap()
    };
    assert_eq!(url(serde_json::Value::Null), "http://shots.web.svc");
    assert_eq!(
        url(serde_json::json!({"ingress": {"host": "a.example"}})),
        "http://a.example"
    );
    assert_eq!(
        url(serde_json::json!({"ingress": {"host": "a.example", "tlsSecretName": "t"}})),
        "https://a.example"
    );
    assert_eq!(url(serde_json::to_value(route()).unwrap()), "https://b.example");
}

#[test]
fn autoscaling_is_told_apart_from_readiness() {
    let mut world = good(|spec| {
        spec.autoscaling = serde_json::from_value(serde_json::json!({"minReplicas": 1, "maxReplicas": 3})).unwrap();
    });
    assert_eq!(world.says("AutoscalingActive"), is("False", "ScalingPending"));
    let view = |active| AutoscalerView {
        active: Some(active),
        said: Said {
            reason: "FailedGetContainerResourceMetric".into(),
            message: "the HPA was unable to compute the replica count: failed to get cpu usage: pod x at 12:00".into(),
            since: None,
        },
    };
    world.autoscaler = Some(view(true));
    assert_eq!(world.says("AutoscalingActive"), is("True", "ScalingActive"));
    world.autoscaler = Some(view(false));
    assert_eq!(world.says("AutoscalingActive"), is("False", "ScalingInactive"));
    assert_eq!(
        world.says("Ready"),
        is("True", "AsWanted"),
        "captures are served all the same"
    );
    // More pods than the fewest are as wanted when the autoscaler asked for them.
    if let Some(deployment) = &mut world.deployment {
        (
            deployment.desired,
            deployment.replicas,
            deployment.updated,
            deployment.ready,
        ) = (3, 3, 3, 3);
    }
    assert_eq!(world.says("Ready"), is("True", "AsWanted"));
}
