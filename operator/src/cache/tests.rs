use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;

fn meta(patch: &Value) -> ObjectMeta {
    let mut meta = json!({
        "namespace": "web", "name": "shots", "uid": "u1", "resourceVersion": "10", "generation": 1,
        "labels": {"app.kubernetes.io/instance": "shots"},
        "ownerReferences": [{"apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
            "name": "shots", "uid": "s1", "controller": true, "blockOwnerDeletion": true}],
    });
    meta.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    serde_json::from_value(meta).unwrap()
}

fn shots() -> Vec<Key> {
    vec![Key::new("web", "shots")]
}

const NOTHING: Vec<Key> = Vec::new();

/// A child as the event of its deletion shows it.
fn deleted(uid: &str, version: &str) -> ChildMeta {
    ChildMeta::of(&meta(&json!({"uid": uid, "resourceVersion": version})))
}

/// The Service "shots" as it is held, empty when it is not.
fn held(cache: &Cache) -> String {
    let known = cache.of(&shots()[0]);
    let child = known.children.get(Kind::Service, "shots");
    let text = child.map(|child| format!("{} at {}", child.uid, child.version));
    text.unwrap_or_default()
}

/// An answer that shows it. Returns how it is held then.
fn answer(cache: &Cache, uid: &str, version: &str) -> String {
    let meta = meta(&json!({"uid": uid, "resourceVersion": version}));
    cache.answered(Kind::Service, &meta, None);
    held(cache)
}

#[test]
fn a_status_write_on_a_child_concerns_nobody_and_an_edit_does() {
    let cache = Cache::default();
    let kind = Kind::PodDisruptionBudget;
    assert_eq!(cache.child(kind, &meta(&json!({})), None), shots());
    assert_eq!(
        cache.child(kind, &meta(&json!({"resourceVersion": "11"})), None),
        NOTHING
    );
    let revision = json!({"resourceVersion": "12", "annotations": {"deployment.kubernetes.io/revision": "2"}});
    assert_eq!(cache.child(kind, &meta(&revision), None), NOTHING);
    assert_eq!(
        cache.child(kind, &meta(&json!({"resourceVersion": "13", "generation": 2})), None),
        shots()
    );
    let edited = json!({"resourceVersion": "14", "generation": 2, "labels": {"x": "y"}});
    assert_eq!(cache.child(kind, &meta(&edited), None), shots());
    // A kind that counts no generations: every version counts.
    let plain = |version: &str| meta(&json!({"generation": null, "resourceVersion": version}));
    assert_eq!(cache.child(Kind::ConfigMap, &plain("1"), None), shots());
    assert_eq!(cache.child(Kind::ConfigMap, &plain("2"), None), shots());
}

#[test]
fn the_echo_of_an_older_write_does_not_undo_what_is_known() {
    let cache = Cache::default();
    let kind = Kind::Service;
    cache.child(kind, &meta(&json!({"resourceVersion": "20", "generation": 3})), None);
    assert_eq!(
        cache.child(kind, &meta(&json!({"resourceVersion": "9", "generation": 2})), None),
        NOTHING
    );
    let held = cache.of(&shots()[0]).children.get(kind, "shots").cloned().unwrap();
    assert_eq!(held.version, Id::from("20"));
    // Another object of that name counts, whatever its version.
    assert_eq!(
        cache.child(kind, &meta(&json!({"uid": "u2", "resourceVersion": "9"})), None),
        shots()
    );
}

#[test]
fn a_deletion_is_never_swallowed_and_that_of_a_predecessor_is() {
    let cache = Cache::default();
    let (kind, place) = (Kind::ServiceAccount, Key::new("web", "shots"));
    cache.child(kind, &meta(&json!({})), None);
    let (before, last) = (deleted("u0", "9"), deleted("u1", "11"));
    assert_eq!(cache.child_gone(kind, &place, Some(&before)), NOTHING);
    assert_eq!(cache.child_gone(kind, &place, Some(&last)), shots());
    assert_eq!(cache.child_gone(kind, &place, Some(&last)), NOTHING);
    assert!(cache.of(&shots()[0]).children.is_empty());
}

#[test]
fn an_answer_after_the_deletion_does_not_bring_the_child_back_and_a_new_child_of_that_name_is_taken() {
    let cache = Cache::default();
    let (kind, place) = (Kind::Service, Key::new("web", "shots"));
    let gone = |last: &ChildMeta| cache.child_gone(kind, &place, Some(last));
    assert_eq!(answer(&cache, "u1", "11"), "u1 at 11", "no watch has shown it yet");
    assert_eq!(gone(&deleted("u1", "15")), shots(), "no pass creates it anew");
    assert_eq!(answer(&cache, "u1", "14"), "", "a ghost");
    assert_eq!(answer(&cache, "u2", "16"), "u2 at 16");
    assert_eq!(answer(&cache, "u1", "14"), "u2 at 16", "a ghost in its place");
    assert_eq!(answer(&cache, "u2", "12"), "u2 at 16", "older than what is known");
    // One that was never held: created and deleted before the answer comes.
    assert_eq!(gone(&deleted("u3", "20")), NOTHING);
    assert_eq!(answer(&cache, "u3", "19"), "u2 at 16");
    // The watch has shown all of it before the answer comes.
    let next = json!({"uid": "u4", "resourceVersion": "22"});
    assert_eq!(cache.child(kind, &meta(&next), None), shots());
    assert_eq!(gone(&deleted("u4", "23")), shots());
    assert_eq!(answer(&cache, "u4", "22"), "");
}

#[test]
fn a_deployment_that_was_deleted_has_no_view_after_a_late_answer() {
    let cache = Cache::default();
    let view = || Some(View::Deployment(DeploymentView::default()));
    let (kind, place) = (Kind::Deployment, Key::new("web", "shots"));
    cache.answered(kind, &meta(&json!({})), view());
    assert!(cache.of(&place).deployment.is_some());
    cache.child_gone(kind, &place, Some(&deleted("u1", "12")));
    cache.answered(kind, &meta(&json!({"resourceVersion": "11"})), view());
    let known = cache.of(&place);
    assert!(known.deployment.is_none() && known.children.is_empty());
}

/// Its watch, which selects by labels, shows that as a deletion.
#[test]
fn a_child_that_only_lost_its_labels_is_held_again_with_the_answer_that_gives_them_back() {
    let cache = Cache::default();
    let (kind, place) = (Kind::Service, Key::new("web", "shots"));
    cache.child(kind, &meta(&json!({})), None);
    cache.child_gone(kind, &place, Some(&deleted("u1", "12")));
    assert_eq!(answer(&cache, "u1", "12"), "", "read without its labels");
    assert_eq!(answer(&cache, "u1", "13"), "u1 at 13");
    let back = meta(&json!({"resourceVersion": "13"}));
    assert_eq!(cache.child(kind, &back, None), NOTHING);
    assert_eq!(answer(&cache, "u1", "14"), "u1 at 14");
}

#[test]
fn an_answer_does_not_bring_back_what_a_list_lacked_until_the_watch_shows_it() {
    let cache = Cache::default();
    let kind = Kind::Service;
    cache.child(kind, &meta(&json!({})), None);
    assert_eq!(cache.keep_children(kind, None, &HashSet::new()), shots());
    assert_eq!(answer(&cache, "u1", "11"), "");
    let shown = meta(&json!({"resourceVersion": "11"}));
    assert_eq!(cache.child(kind, &shown, None), shots());
    assert_eq!(answer(&cache, "u1", "12"), "u1 at 12");
}

#[test]
fn an_answer_from_before_the_owner_was_edited_away_does_not_bring_the_child_back() {
    let cache = Cache::default();
    let kind = Kind::Service;
    cache.child(kind, &meta(&json!({})), None);
    let orphan = meta(&json!({"ownerReferences": [], "resourceVersion": "12"}));
    assert_eq!(cache.child(kind, &orphan, None), shots());
    assert_eq!(answer(&cache, "u1", "11"), "");
    assert_eq!(answer(&cache, "u1", "13"), "u1 at 13", "it has its owner back");
}

#[test]
fn a_child_whose_owner_was_edited_away_is_missed_by_its_service() {
    let cache = Cache::default();
    cache.child(Kind::Service, &meta(&json!({})), None);
    let orphan = meta(&json!({"ownerReferences": [], "resourceVersion": "11"}));
    assert_eq!(cache.child(Kind::Service, &orphan, None), shots());
    assert!(cache.of(&shots()[0]).children.is_empty());
}

#[test]
fn a_watch_that_begins_anew_takes_away_what_it_does_not_show_in_its_own_namespace() {
    let cache = Cache::default();
    let elsewhere = meta(&json!({"namespace": "other"}));
    cache.child(Kind::Service, &meta(&json!({})), None);
    cache.child(Kind::Service, &elsewhere, None);
    cache.child(Kind::Secret, &meta(&json!({})), None);
    let shown = HashSet::from([Key::new("web", "shots")]);
    assert_eq!(cache.keep_children(Kind::Service, Some("web"), &shown), NOTHING);
    assert_eq!(
        cache.keep_children(Kind::Service, Some("web"), &HashSet::new()),
        shots()
    );
    assert!(!cache.of(&Key::new("other", "shots")).children.is_empty());
    assert!(cache.of(&shots()[0]).children.get(Kind::Secret, "shots").is_some());
}

#[test]
fn a_pod_concerns_its_service_when_its_facts_change_and_when_it_goes() {
    let pod = |ready: &str, version: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "web", "name": "p", "uid": "p1", "resourceVersion": version,
                "labels": {"app.kubernetes.io/instance": "shots"}},
            "spec": {"containers": [], "nodeName": "n"},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    };
    let cache = Cache::default();
    assert_eq!(cache.pod(&pod("False", "1")), shots());
    assert_eq!(cache.pod(&pod("False", "2")), NOTHING);
    assert_eq!(cache.pod(&pod("True", "3")), shots());
    assert_eq!(cache.keep_pods(None, &HashSet::new()), shots());
    assert_eq!(cache.pod_gone(&Key::new("web", "p")), NOTHING);
}

/// As `kubectl label --overwrite` does it, to look at a pod that its Deployment then replaces.
#[test]
fn a_pod_that_is_labelled_away_leaves_its_service() {
    let pod = |labels: &Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "web", "name": "p", "uid": "p1", "labels": labels},
            "spec": {"containers": []},
        }))
        .unwrap()
    };
    let cache = Cache::default();
    let (mine, others) = (&shots()[0], Key::new("web", "debug"));
    cache.pod(&pod(&json!({"app.kubernetes.io/instance": "shots"})));
    let moved = cache.pod(&pod(&json!({"app.kubernetes.io/instance": "debug"})));
    assert_eq!(moved, [mine.clone(), others.clone()]);
    assert!(cache.of(mine).pods.is_empty());
    assert_eq!(cache.of(&others).pods.len(), 1);
    assert_eq!(cache.pod(&pod(&json!({}))), std::slice::from_ref(&others));
    assert!(cache.of(&others).pods.is_empty());
    assert_eq!(cache.keep_pods(None, &HashSet::new()), NOTHING);
}

/// A child of the service "shots-a", of any name.
fn named(name: &str, owner: &str) -> ObjectMeta {
    meta(
        &json!({"name": name, "ownerReferences": [{"apiVersion": "screenshot-operator.io/v1alpha1",
        "kind": "ScreenshotService", "name": owner, "uid": "s1", "controller": true}]}),
    )
}

#[test]
fn a_child_that_goes_is_found_by_its_name_whichever_services_names_begin_alike() {
    let cache = Cache::default();
    let kind = Kind::NetworkPolicy;
    let services = ["shots", "shots-a", "shots-a-b"];
    for owner in services {
        cache.child(kind, &named(&format!("{owner}-dns"), owner), None);
    }
    for owner in services {
        let place = Key::new("web", format!("{owner}-dns"));
        assert_eq!(cache.child_gone(kind, &place, None), [Key::new("web", owner)]);
        assert_eq!(cache.child_gone(kind, &place, None), NOTHING);
    }
}

#[test]
fn a_child_whose_name_does_not_tell_its_owner_is_found_too() {
    let cache = Cache::default();
    let (kind, place) = (Kind::ConfigMap, Key::new("web", "other"));
    let services = [Key::new("web", "shots"), Key::new("web", "shots-a")];
    assert_eq!(cache.child(kind, &named("other", "shots"), None), services[..1]);
    // Handed on to another one: both look again.
    assert_eq!(cache.child(kind, &named("other", "shots-a"), None), services);
    assert!(cache.of(&services[0]).children.is_empty());
    let last = deleted("u1", "11");
    assert_eq!(cache.child_gone(kind, &place, Some(&last)), services[1..]);
    assert_eq!(cache.child_gone(kind, &place, None), NOTHING);
    cache.child(kind, &named("other", "shots"), None);
    assert_eq!(cache.keep_children(kind, None, &HashSet::new()), services[..1]);
}

#[test]
fn a_child_named_after_one_service_and_owned_by_another_is_the_owners() {
    let cache = Cache::default();
    let (kind, place) = (Kind::ConfigMap, Key::new("web", "shots-a-policy"));
    for owner in ["shots-a", "shots", "shots-a"] {
        cache.child(kind, &named("shots-a-policy", owner), None);
        let holders = ["shots", "shots-a"].map(|service| !cache.of(&Key::new("web", service)).children.is_empty());
        assert_eq!(holders, [owner == "shots", owner == "shots-a"]);
    }
    assert_eq!(cache.child_gone(kind, &place, None), [Key::new("web", "shots-a")]);
}
