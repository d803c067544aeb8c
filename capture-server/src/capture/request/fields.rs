//! Reads one field after the other out of a JSON object, each with its rule.
//!
//! In: the object and a field's name. Out: a typed value or [`InvalidRequest`] that names the field and the rule, never
//! the caller's value. What is left over at the end is what nobody read: a field out of place. Must not: know defaults.

use serde_json::{Map, Value};

use super::InvalidRequest;

/// The fields that nobody has read yet.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a body.
    pub fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// Any value.
    pub fn take(&mut self, field: &'static str) -> Option<Value> {
        self.0.remove(field)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, field: &'static str) -> Result<Option<bool>, InvalidRequest> {
        self.take(field)
            .map(|value| value.as_bool().ok_or_else(|| wrong(field, "must be true or false")))
            .transpose()
    }

    /// A whole number from `least` to `most`.
    pub fn whole(&mut self, field: &'static str, least: u32, most: u32) -> Result<Option<u32>, InvalidRequest> {
        let rule = || wrong(field, format!("must be a whole number from {least} to {most}"));
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(rule)
    }

    /// A number from `least` to `most`.
    pub fn number(&mut self, field: &'static str, least: f64, most: f64) -> Result<Option<f64>, InvalidRequest> {
        let rule = || wrong(field, format!("must be a number from {least} to {most}"));
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(rule)
    }

    /// A text of 1 to `most` bytes.
    pub fn text(&mut self, field: &'static str, most: usize) -> Result<Option<String>, InvalidRequest> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=most).contains(&text.len()) => Ok(Some(text)),
            Some(_) => Err(wrong(field, format!("must be a string of 1 to {most} bytes"))),
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, field: &'static str, words: &[(&str, T)]) -> Result<Option<T>, InvalidRequest> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        found
            .map(|(_, meaning)| Some(*meaning))
            .ok_or_else(|| wrong(field, format!("must be one of {}", names.join(", "))))
    }

    /// Refuses the named fields if they are still there: they have no meaning beside what was read before.
    pub fn absent(&self, fields: &[&'static str], rule: &str) -> Result<(), InvalidRequest> {
        match fields.iter().find(|field| self.0.contains_key(**field)) {
            Some(field) => Err(wrong(field, rule)),
            None => Ok(()),
        }
    }
}

/// A field that breaks its rule.
pub fn wrong(field: &'static str, rule: impl Into<String>) -> InvalidRequest {
    InvalidRequest::Field {
        field,
        rule: rule.into(),
    }
}
