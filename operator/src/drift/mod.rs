//! What differs between a child as planned and as it is, and whose hand it was.
//!
//! In: the planned body, the live object with its managedFields. Out: the fields that differ, each with the field manager
//! that holds it now. Pure. Values never leave here: they may be secret.
//! A field that we did not plan is somebody else's and no difference, with two exceptions. In a NetworkPolicy every
//! addition opens something, so there anything unplanned is a difference. And what the API server replaces as a whole is
//! ours as a whole: an addition inside of it changes what we planned, and the next write would take it away. What the API
//! server itself fills in there is therefore planned, too.

mod managers;

use serde_json::{Map, Value, json};

pub use managers::Managers;

/// Lists that the API server merges by these keys; all others are replaced as a whole, with all that is in them.
const KEYED: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ownerReferences", &["uid"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("hostAliases", &["ip"]),
    ("groups", &["name"]),
];
/// `ports` is keyed in containers and Services, and atomic in NetworkPolicies.
const PORT_KEYS: [&[&str]; 2] = [&["containerPort", "protocol"], &["port", "protocol"]];
/// Maps that are replaced as a whole, and keyed lists whose elements are.
const WHOLE: [&str; 6] = [
    "selector",
    "labelSelector",
    "nodeSelector",
    "fieldRef",
    "ownerReferences",
    "imagePullSecrets",
];

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// The element of a keyed list with these keys.
    Element(Map<String, Value>),
}

/// The way to a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path(pub Vec<Step>);

impl Path {
    fn field(&self, name: &str) -> Self {
        self.then(Step::Field(name.to_owned()))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    fn name(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Element(_) => None,
        })
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if n == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(keys) => {
                    let first = keys.values().next().unwrap_or(&Value::Null);
                    match first {
                        Value::String(text) => write!(f, "[{text}]")?,
                        other => write!(f, "[{other}]")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// A field that is not as planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which.
    pub path: Path,
    /// Whether it was not planned at all.
    pub extra: bool,
}

/// The fields in which the live object is not as planned, in no particular order.
pub fn differences(planned: &Value, live: &Value) -> Vec<Difference> {
    let exact = planned.get("kind").and_then(Value::as_str) == Some("NetworkPolicy");
    let mut found = Vec::new();
    for section in planned.as_object().into_iter().flat_map(Map::keys) {
        if matches!(section.as_str(), "apiVersion" | "kind" | "status") {
            continue;
        }
        let walk = Walk {
            exact: exact && section == "spec",
        };
        let path = Path::default().field(section);
        walk.compare(&path, planned.get(section), live.get(section), &mut found);
    }
    found
}

/// The planned body, with what nobody planned stated as empty: only so does an apply take it away.
pub fn mending(planned: &Value, found: &[Difference]) -> Value {
    let mut body = planned.clone();
    for difference in found.iter().filter(|difference| difference.extra) {
        // Deeper additions are inside of lists that are replaced as a whole.
        if let [Step::Field(section), Step::Field(name)] = difference.path.0.as_slice()
            && let Some(section) = body.get_mut(section).and_then(Value::as_object_mut)
        {
            section.entry(name.clone()).or_insert_with(|| json!([]));
        }
    }
    body
}

struct Walk {
    /// Whether what is not planned is a difference.
    exact: bool,
}

impl Walk {
    fn compare(&self, path: &Path, planned: Option<&Value>, live: Option<&Value>, found: &mut Vec<Difference>) {
        match (planned.filter(|v| !empty(v)), live.filter(|v| !empty(v))) {
            (None, None) => {}
            (None, Some(_)) => {
                if self.exact {
                    found.push(Difference {
                        path: path.clone(),
                        extra: true,
                    });
                }
            }
            (Some(Value::Object(planned)), Some(Value::Object(live))) => self.objects(path, planned, live, found),
            (Some(Value::Array(planned)), Some(Value::Array(live))) => self.lists(path, planned, live, found),
            (Some(planned), Some(live)) if same(planned, live, path) => {}
            (Some(_), _) => found.push(Difference {
                path: path.clone(),
                extra: false,
            }),
        }
    }

    fn objects(
        &self,
        path: &Path,
        planned: &Map<String, Value>,
        live: &Map<String, Value>,
        found: &mut Vec<Difference>,
    ) {
        let walk = Self {
            exact: self.exact || path.name().is_some_and(|name| WHOLE.contains(&name)),
        };
        for (name, value) in planned {
            walk.compare(&path.field(name), Some(value), live.get(name), found);
        }
        if walk.exact {
            for (name, value) in live.iter().filter(|(name, _)| !planned.contains_key(*name)) {
                walk.compare(&path.field(name), None, Some(value), found);
            }
        }
    }

    fn lists(&self, path: &Path, planned: &[Value], live: &[Value], found: &mut Vec<Difference>) {
        let keys = if self.exact { None } else { keys(path, planned) };
        let Some(keys) = keys else {
            // A list that is replaced as a whole differs as a whole.
            let mut inner = Vec::new();
            let same_length = planned.len() == live.len();
            if same_length {
                for (planned, live) in planned.iter().zip(live) {
                    Self { exact: true }.compare(path, Some(planned), Some(live), &mut inner);
                }
            }
            if !same_length || !inner.is_empty() {
                found.push(Difference {
                    path: path.clone(),
                    extra: false,
                });
            }
            return;
        };
        for element in planned {
            let id = id(element, keys);
            let twin = live.iter().find(|live| self::id(live, keys) == id);
            self.compare(&path.then(Step::Element(id)), Some(element), twin, found);
        }
    }
}

fn keys(path: &Path, planned: &[Value]) -> Option<&'static [&'static str]> {
    let name = path.name()?;
    if name == "ports" {
        let has = |key: &str| planned.iter().all(|element| element.get(key).is_some());
        return PORT_KEYS.into_iter().find(|keys| keys.iter().all(|key| has(key)));
    }
    KEYED.iter().find(|(list, _)| *list == name).map(|(_, keys)| *keys)
}

fn id(element: &Value, keys: &[&str]) -> Map<String, Value> {
    let pairs = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), element.get(*key)?.clone())));
    pairs.collect()
}

/// The API server drops what is empty.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn same(planned: &Value, live: &Value, path: &Path) -> bool {
    if planned == live {
        return true;
    }
    if let (Some(a), Some(b)) = (planned.as_f64(), live.as_f64()) {
        return (a - b).abs() < f64::EPSILON;
    }
    match (planned.as_str(), live.as_str()) {
        (Some(a), Some(b)) => is_quantity(path) && crate::quantity::same(a, b),
        _ => false,
    }
}

fn is_quantity(path: &Path) -> bool {
    path.0.iter().any(|step| {
        matches!(step, Step::Field(name) if ["requests", "limits", "sizeLimit", "averageValue"].contains(&name.as_str()))
    })
}

#[cfg(test)]
mod tests;
