//! Children that were deleted, so that a late answer to a call does not bring one back.
//!
//! In: deletions, as the watches show them. Out: whether an answer shows a child as it was before it was deleted.
//! Bounded: the last deletion of each name is remembered, and of so many names; an answer is late by moments. Pure.

use std::collections::VecDeque;

use super::{Key, older};
use crate::compact::Id;
use crate::observe::ChildMeta;
use crate::plan::Kind;

/// So many are remembered at most.
const REMEMBERED: usize = 1024;

/// A child that its watch shows no longer: it was deleted, or lost our labels or its owner.
#[derive(Debug)]
struct Deletion {
    kind: Kind,
    place: Key,
    uid: Id,
    /// Its resourceVersion; empty when it is not known.
    version: Id,
}

impl Deletion {
    fn is_of(&self, kind: Kind, place: &Key) -> bool {
        self.kind == kind && self.place == *place
    }
}

/// The last ones, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Deletions(VecDeque<Deletion>);

impl Deletions {
    /// A child was deleted, at that resourceVersion; an empty one is not known.
    pub(super) fn note(&mut self, kind: Kind, place: Key, uid: Id, version: Id) {
        let held = self.0.iter().position(|held| held.is_of(kind, &place));
        let held = held.and_then(|at| self.0.remove(at));
        // Our own call to delete may be answered after the event came.
        let newer = held.filter(|held| held.uid == uid && older(&version, &held.version));
        let version = newer.map_or(version, |held| held.version);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Deletion {
            kind,
            place,
            uid,
            version,
        });
    }

    /// Whether the child was deleted after it was as shown here. One that only lost its labels has a newer version when
    /// it has them back.
    pub(super) fn follow(&self, kind: Kind, place: &Key, child: &ChildMeta) -> bool {
        let mut held = self.0.iter();
        held.any(|held| {
            let same = held.is_of(kind, place) && held.uid == child.uid;
            same && !older(&held.version, &child.version)
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    const KIND: Kind = Kind::Service;

    fn child(uid: &str, version: &str) -> ChildMeta {
        ChildMeta::of(&ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        })
    }

    fn place(n: usize) -> Key {
        Key::new("web", n.to_string())
    }

    #[test]
    fn only_the_last_deletion_of_each_name_is_remembered_and_only_of_so_many_names() {
        let mut deletions = Deletions::default();
        for n in 0..=REMEMBERED {
            deletions.note(KIND, place(n), Id::from("u"), Id::from("5"));
        }
        for n in 0..2 * REMEMBERED {
            let uid = n.to_string();
            deletions.note(KIND, place(1), Id::from(uid.as_str()), Id::from("6"));
        }
        assert_eq!(deletions.0.len(), REMEMBERED);
        let remembered = |n: usize| deletions.follow(KIND, &place(n), &child("u", "4"));
        assert_eq!(
            [0, 1, 2, REMEMBERED].map(remembered),
            [false, false, true, true],
            "the first made room, the second has a later one"
        );
    }

    #[test]
    fn a_deletion_follows_what_is_not_newer_of_the_same_kind_place_and_uid() {
        let mut deletions = Deletions::default();
        deletions.note(KIND, place(1), Id::from("u"), Id::from("9"));
        // Our own call to delete, answered late.
        deletions.note(KIND, place(1), Id::from("u"), Id::from("7"));
        let follow = |uid: &str, version: &str| deletions.follow(KIND, &place(1), &child(uid, version));
        assert_eq!(
            [
                follow("u", "8"),
                follow("u", "9"),
                follow("u", "10"),
                follow("other", "8")
            ],
            [true, true, false, false]
        );
        assert!(!deletions.follow(Kind::Secret, &place(1), &child("u", "8")));
        assert!(!deletions.follow(KIND, &place(2), &child("u", "8")));
    }

    #[test]
    fn a_deletion_of_unknown_version_follows_every_version() {
        let mut deletions = Deletions::default();
        deletions.note(KIND, place(1), Id::from("u"), Id::default());
        assert!(deletions.follow(KIND, &place(1), &child("u", "10")));
    }
}
