//! Who holds which field, as managedFields tell it.
//!
//! In: the managedFields of a live object. Out: the manager of a field that is not us; whether we hold what is planned no
//! more. Pure.
//! The notation: `f:name` is a field, `k:{"key":"value"}` the element of a keyed list, `v:"value"` that of a set, `i:0` that
//! of any other list, `.` the thing itself; what has no children is held whole.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

use super::{Path, Step};
use crate::names::MANAGER;

/// The managers of one object.
pub struct Managers<'a>(&'a [ManagedFieldsEntry]);

impl<'a> Managers<'a> {
    /// Reads them.
    pub fn of(entries: &'a [ManagedFieldsEntry]) -> Self {
        Self(entries)
    }

    /// Who else holds the field, or a part of it, or the whole that it is part of; the latest if there are several.
    pub fn of_field(&self, path: &Path) -> Option<&'a str> {
        let holding = self.others().filter(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            fields.is_some_and(|fields| holds(fields, &path.0))
        });
        holding
            .max_by_key(|entry| time(entry))
            .and_then(|entry| entry.manager.as_deref())
    }

    /// Who else wrote the object itself last: the likely one for a field that is gone. An autoscaler, which writes through
    /// a subresource, takes none away.
    pub fn latest(&self) -> Option<&'a str> {
        let whole = self.others().filter(|entry| is_whole(entry));
        whole.max_by_key(|entry| time(entry))?.manager.as_deref()
    }

    /// Whether our last apply held a field that the plan lacks: it was planned once, and the next apply lets go of it.
    pub fn outgrown(&self, planned: &Value) -> bool {
        let ours = self.0.iter().filter(|entry| {
            entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply") && is_whole(entry)
        });
        ours.filter_map(|entry| entry.fields_v1.as_ref())
            .any(|fields| !covers(planned, &fields.0))
    }

    /// All but us and those who write the status.
    fn others(&self) -> impl Iterator<Item = &'a ManagedFieldsEntry> {
        self.0
            .iter()
            .filter(|entry| entry.manager.as_deref() != Some(MANAGER) && entry.subresource.as_deref() != Some("status"))
    }
}

/// Whether it was written as a whole, not through a subresource.
fn is_whole(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref().is_none_or(str::is_empty)
}

fn time(entry: &ManagedFieldsEntry) -> Option<jiff::Timestamp> {
    entry.time.as_ref().map(|time| time.0)
}

fn holds(fields: &Value, path: &[Step]) -> bool {
    let Some(map) = fields.as_object() else { return false };
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let child = match step {
        Step::Field(name) => map.get(&format!("f:{name}")),
        Step::Element(keys) => element(map, keys),
    };
    match child {
        None => false,
        Some(Value::Object(child)) if child.keys().all(|key| key == ".") => true,
        Some(child) => holds(child, rest),
    }
}

fn element<'a>(map: &'a Map<String, Value>, keys: &Map<String, Value>) -> Option<&'a Value> {
    map.iter().find_map(|(name, child)| {
        let id: Value = serde_json::from_str(name.strip_prefix("k:")?).ok()?;
        (id.as_object() == Some(keys)).then_some(child)
    })
}

/// Whether the value has all of these fields.
fn covers(value: &Value, fields: &Value) -> bool {
    let mut fields = fields.as_object().into_iter().flatten();
    fields.all(|(name, inner)| name == "." || part(value, name).is_some_and(|part| covers(part, inner)))
}

fn part<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let (notation, text) = name.split_once(':')?;
    if notation == "f" {
        return value.get(text);
    }
    let (id, list): (Value, _) = (serde_json::from_str(text).ok()?, value.as_array()?);
    match (notation, &id) {
        ("k", Value::Object(keys)) => list
            .iter()
            .find(|element| keys.iter().all(|(key, value)| element.get(key) == Some(value))),
        ("v", _) => list.iter().find(|element| **element == id),
        ("i", _) => list.get(usize::try_from(id.as_u64()?).ok()?),
        _ => None,
    }
}
