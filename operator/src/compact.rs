//! Identifiers that are kept by the thousand, in little memory.
//!
//! In: texts that the API server gives: uids, resourceVersions. Out: the same texts, equal exactly when they were. A UUID
//! and a number are kept as such, in place; any other text as it is. Pure.

use std::fmt;

use uuid::Uuid;

/// A text that mostly is a UUID or a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Form);

/// Each text has one form only, so that equal texts have equal forms.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Number(u64),
    Uuid(Uuid),
    Text(Box<str>),
}

impl Id {
    /// The number that it is, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self.0 {
            Form::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        let number = text.parse::<u64>().ok().map(Form::Number);
        let form = number.or_else(|| Uuid::try_parse(text).ok().map(Form::Uuid)).map(Self);
        // What reads as another text, such as a number with zeros before it, is kept as it is.
        form.filter(|id| id.to_string() == text)
            .unwrap_or_else(|| Self(Form::Text(text.into())))
    }
}

impl From<Uuid> for Id {
    fn from(uuid: Uuid) -> Self {
        Self(Form::Uuid(uuid))
    }
}

impl Default for Id {
    fn default() -> Self {
        Self::from("")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Number(number) => write!(f, "{number}"),
            Form::Uuid(uuid) => write!(f, "{uuid}"),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "7a1e1bb1-0000-4000-8000-00000000000f";

    #[test]
    fn a_uid_and_a_version_take_no_memory_of_their_own_and_any_text_is_given_back() {
        assert!(matches!(Id::from(UID).0, Form::Uuid(_)));
        assert!(matches!(Id::from("18446744073709551615").0, Form::Number(u64::MAX)));
        assert!(size_of::<Id>() <= 24);
        let upper = UID.to_uppercase();
        let moved = "7a1e1bb10-000-4000-8000-00000000000f";
        for text in [
            UID,
            &upper,
            moved,
            "18446744073709551616",
            "0",
            "00",
            "+1",
            "-1",
            "",
            "u1",
        ] {
            assert_eq!(Id::from(text).to_string(), text);
        }
        assert_eq!(Id::from("12").number(), Some(12));
        assert_eq!(Id::from("012").number(), None);
    }

    proptest! {
        #[test]
        fn ids_are_equal_exactly_when_their_texts_are(a in "[0-9a-f-]{0,3}|[0-9]{36}|.{0,8}", b in "[0-9a-f-]{0,3}|.{0,8}") {
            prop_assert_eq!(Id::from(a.as_str()).to_string(), a.clone());
            let (left, right) = (Id::from(a.as_str()), Id::from(b.as_str()));
            prop_assert_eq!(left == right, a == b);
        }
    }
}
