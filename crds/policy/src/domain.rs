//! Lists of names that a page may or may not ask for.
//!
//! In: rules (`example.com`, or `*.example.com` for every name below it) and a parsed name. Out: whether a rule holds
//! it. Rules compare whole labels of parsed names, never text of a URL, so `https://good.com@evil.com` and
//! `notgood.com` match nothing. No patterns: the time taken grows with the name's labels and the logarithm of the list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::{HostError, HostName};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainRule {
    name: HostName,
    below: bool,
}

impl DomainRule {
    /// The shortest kind of name that the rule is about: its own, or one directly below it. `None` if no name below can
    /// be made, as the rule is as long as a name may be.
    pub fn sample(&self) -> Option<HostName> {
        if self.below {
            format!("x.{}", self.name).parse().ok()
        } else {
            Some(self.name.clone())
        }
    }
}

/// Whether one of the rules, which stand in order as those of a policy in force do, is about the name: its own rule is
/// looked up, and one for what lies below each of its parents.
pub fn any_holds(rules: &[DomainRule], name: &HostName) -> bool {
    debug_assert!(rules.is_sorted(), "rules out of order");
    let is_there = |text: &str, below: bool| {
        let order = |rule: &DomainRule| (rule.name.as_str(), rule.below).cmp(&(text, below));
        rules.binary_search_by(order).is_ok()
    };
    is_there(name.as_str(), false) || name.parents().any(|parent| is_there(parent, true))
}

impl FromStr for DomainRule {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        name.parse().map(|name| Self { name, below })
    }
}

impl TryFrom<String> for DomainRule {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<DomainRule> for String {
    fn from(rule: DomainRule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for DomainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(rule: &str, name: &str) -> bool {
        any_holds(&[rule.parse().unwrap()], &name.parse().unwrap())
    }

    /// What the look-up is compared with: one rule, without any order.
    fn alone(rule: &DomainRule, name: &HostName) -> bool {
        let is_it = *name == rule.name;
        if rule.below {
            !is_it && name.is_or_under(rule.name.as_str())
        } else {
            is_it
        }
    }

    #[test]
    fn a_rule_holds_its_name_or_what_lies_below_and_never_both() {
        assert!(holds("example.com", "EXAMPLE.com."));
        assert!(!holds("example.com", "www.example.com"));
        assert!(holds("*.example.com", "www.example.com"));
        assert!(holds("*.example.com", "a.b.example.com"));
        assert!(!holds("*.example.com", "example.com"));
    }

    #[test]
    fn a_list_holds_what_one_of_its_rules_holds() {
        let longer = |names: &[String]| -> Vec<String> {
            let each = |name: &String| ["a", "b-"].map(|label| format!("{label}x.{name}"));
            names.iter().flat_map(each).collect()
        };
        let one = vec!["ax".to_owned(), "b-x".to_owned()];
        let (two, three) = (longer(&one), longer(&longer(&one)));
        let names: Vec<HostName> = [one, two, three]
            .concat()
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let mut rules: Vec<DomainRule> = names
            .iter()
            .flat_map(|name| {
                [false, true].map(|below| DomainRule {
                    name: name.clone(),
                    below,
                })
            })
            .collect();
        rules.sort_unstable();
        let mut held = 0;
        for (at, first) in rules.iter().enumerate() {
            for second in &rules[at..] {
                let list = [first.clone(), second.clone()];
                for name in &names {
                    let any = list.iter().any(|rule| alone(rule, name));
                    assert_eq!(any_holds(&list, name), any, "{first} {second}: {name}");
                    held += usize::from(any);
                }
            }
        }
        assert!(held > 500, "{held}");
        assert!(!any_holds(&[], &names[0]));
    }

    #[test]
    fn a_name_that_only_ends_alike_is_not_held() {
        for name in ["notexample.com", "example.com.evil.net", "example.comm", "xample.com"] {
            assert!(!holds("example.com", name) && !holds("*.example.com", name), "{name}");
        }
    }

    #[test]
    fn only_one_leading_wildcard_label_is_a_rule() {
        for text in [
            "*", "*.", "a.*.com", "*a.com", "*.*.com", "**.com", "1.2.3.4", "[::1]", "a.com/",
        ] {
            assert!(text.parse::<DomainRule>().is_err(), "{text}");
        }
        assert_eq!(
            "*.Example.COM".parse::<DomainRule>().unwrap().to_string(),
            "*.example.com"
        );
    }
}
