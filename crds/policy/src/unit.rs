//! Amounts, ports and short texts: the scalars of the contract as types with bounds.
//!
//! In: integers and strings of a document. Out: values that are in bounds and cannot be confused with each other, or
//! the rule that was broken. Every rule is a constant text without the offending value, so it may stand in a log or a
//! condition; [`RULES`] lists them all.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The largest amount: what every JSON reader keeps exactly (RFC 7493 section 2.2).
pub const MAX_AMOUNT: u64 = (1 << 53) - 1;
/// The longest [`Reason`] in characters.
pub const MAX_REASON: usize = 256;

/// Every rule of this module.
pub const RULES: [&str; 4] = [AMOUNT_RULE, PORT_RULE, REASON_RULE, NAME_RULE];

const AMOUNT_RULE: &str = "an amount must be between 1 and 9007199254740991";
const PORT_RULE: &str = "a port must be between 1 and 65535";
const REASON_RULE: &str = "a reason must have 1 to 256 characters and no control characters";
const NAME_RULE: &str = "an object's name must be a lower-case DNS name of at most 253 characters";

/// A scalar is out of its bounds; says which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

impl UnitError {
    /// The rule, one of [`RULES`].
    pub fn rule(self) -> &'static str {
        self.0
    }
}

macro_rules! amounts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// The amount nearest to `amount` that is in bounds: 1 for 0, [`MAX_AMOUNT`] for more than that.
            pub const fn nearest(amount: u64) -> Self {
                match amount {
                    0 => Self(1),
                    1..=MAX_AMOUNT => Self(amount),
                    _ => Self(MAX_AMOUNT),
                }
            }

            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = UnitError;

            fn try_from(amount: u64) -> Result<Self, UnitError> {
                if (1..=MAX_AMOUNT).contains(&amount) {
                    Ok(Self(amount))
                } else {
                    Err(UnitError(AMOUNT_RULE))
                }
            }
        }

        impl From<$name> for u64 {
            fn from(amount: $name) -> Self {
                amount.0
            }
        }
    )*};
}

amounts! {
    /// A duration in whole milliseconds, 1 to [`MAX_AMOUNT`].
    Millis;
    /// A length in CSS pixels, 1 to [`MAX_AMOUNT`].
    CssPixels;
    /// An area in pixels, 1 to [`MAX_AMOUNT`].
    Pixels;
    /// A number of bytes, 1 to [`MAX_AMOUNT`].
    Bytes;
    /// A number of things, 1 to [`MAX_AMOUNT`].
    Count;
}

impl Millis {
    /// The same as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u16")]
pub struct Port(u16);

impl Port {
    /// HTTP.
    pub const HTTP: Self = Self(80);
    /// HTTPS.
    pub const HTTPS: Self = Self(443);

    /// The bare number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Port {
    type Error = UnitError;

    fn try_from(number: u64) -> Result<Self, UnitError> {
        u16::try_from(number)
            .ok()
            .filter(|port| *port != 0)
            .map(Self)
            .ok_or(UnitError(PORT_RULE))
    }
}

impl TryFrom<u16> for Port {
    type Error = UnitError;

    fn try_from(number: u16) -> Result<Self, UnitError> {
        u64::from(number).try_into()
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($good:path, $rule:ident);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                if $good(text) { Ok(Self(text.to_owned())) } else { Err(UnitError($rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts! {
    /// Why something is needed: 1 to [`MAX_REASON`] characters, no control characters.
    Reason(is_reason, REASON_RULE);
    /// A Kubernetes object's name: lower-case labels of letters, digits and hyphens (RFC 1123), at most 253 characters.
    ObjectName(is_object_name, NAME_RULE);
}

fn is_reason(text: &str) -> bool {
    (1..=MAX_REASON).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_object_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_hold_their_bounds_and_name_the_rule() {
        assert_eq!(Bytes::try_from(0), Err(UnitError(AMOUNT_RULE)));
        assert_eq!(Bytes::try_from(MAX_AMOUNT + 1), Err(UnitError(AMOUNT_RULE)));
        assert_eq!(Bytes::try_from(MAX_AMOUNT).map(Bytes::get), Ok(MAX_AMOUNT));
        assert_eq!(
            (Count::nearest(0).get(), Count::nearest(u64::MAX).get()),
            (1, MAX_AMOUNT)
        );
        assert!(AMOUNT_RULE.contains(&MAX_AMOUNT.to_string()));
        assert_eq!(Millis::nearest(1500).duration(), Duration::from_millis(1500));
    }

    #[test]
    fn ports_are_1_to_65535_whatever_the_width_of_the_number() {
        for number in [0, 65_536, 65_536 + 443, u64::MAX] {
            assert_eq!(Port::try_from(number), Err(UnitError(PORT_RULE)), "{number}");
        }
        assert_eq!(Port::try_from(65_535u64).map(Port::get), Ok(65_535));
        assert_eq!(Port::try_from(443u16), Ok(Port::HTTPS));
    }

    #[test]
    fn a_reason_is_short_plain_text() {
        assert!("a".repeat(MAX_REASON).parse::<Reason>().is_ok());
        assert!(
            "\u{e4}".repeat(MAX_REASON).parse::<Reason>().is_ok(),
            "characters, not bytes"
        );
        for text in [
            String::new(),
            "a".repeat(MAX_REASON + 1),
            "a\nb".into(),
            "\u{1b}[31m".into(),
        ] {
            assert_eq!(text.parse::<Reason>(), Err(UnitError(REASON_RULE)), "{text:?}");
        }
    }

    #[test]
    fn object_names_are_those_of_kubernetes() {
        for text in ["web", "a.b-c.1", &"a".repeat(63)] {
            assert!(text.parse::<ObjectName>().is_ok(), "{text}");
        }
        for text in [
            "",
            "Web",
            "-a",
            "a-",
            "a..b",
            "a_b",
            "a/b",
            &"a".repeat(64),
            &"ab.".repeat(85),
        ] {
            assert_eq!(text.parse::<ObjectName>(), Err(UnitError(NAME_RULE)), "{text}");
        }
    }
}
