//! The next step of the token's life: verifier first.
//!
//! In: the Secrets as observed, what each pod attested, the spec, the time. Out: one [`Step`], at most one write.
//! Pure, and without memory: a crash after any write is met by deciding anew. The invariants, which the tests hold:
//! every serving pod always accepts the token in the client Secret; at most one key is staged; it comes to rest by itself.
//! It never sees a token's text, only its id and digest.

use jiff::{SignedDuration, Timestamp};
use screenshot_policy::keyset::{self, Key, KeyState, Keyset, Scope};
use screenshot_policy::token::Kid;

/// Keys in overlap at one time; a further rotation waits for the oldest, if clients have a token that works.
const MAX_RETIRING: usize = 4;

/// What a Secret says of the token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Id of its key.
    pub kid: Kid,
    /// SHA-256 of its text, hexadecimal.
    pub digest: String,
    /// When it was made; `None` when the note is missing or unreadable.
    pub issued_at: Option<Timestamp>,
    /// The nonce that asked for it.
    pub nonce: Option<String>,
}

/// A Secret that should hold a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// There is no such Secret.
    Absent,
    /// There is one, but no token in it.
    Malformed,
    /// A token.
    Token(TokenFacts),
}

impl Held {
    /// The token, if there is one.
    pub fn token(&self) -> Option<&TokenFacts> {
        match self {
            Self::Token(facts) => Some(facts),
            Self::Absent | Self::Malformed => None,
        }
    }
}

/// What one pod, that serves or may come to serve, attested of its keyset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodKeyset {
    /// The pod's name.
    pub pod: String,
    /// Digest of the keyset in force there; `None` when it did not say.
    pub digest: Option<String>,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The keyset, if there is a readable one.
    pub keyset: Option<Keyset>,
    /// The client Secret.
    pub client: Held,
    /// The pending Secret.
    pub pending: Held,
    /// The pods that could answer a client.
    pub pods: Vec<PodKeyset>,
}

impl Facts {
    /// Pods that have not shown that they loaded the present keyset. None without a keyset.
    pub fn behind(&self) -> Vec<String> {
        let digest = self.keyset.as_ref().map(Keyset::digest);
        let lagging = self.pods.iter().filter(|pod| digest.is_none() || pod.digest != digest);
        lagging.map(|pod| pod.pod.clone()).collect()
    }

    /// Whether the keyset accepts the client's token.
    pub fn client_works(&self, now: Timestamp) -> bool {
        let mut keys = self.keyset.iter().flat_map(|keyset| &keyset.keys);
        self.client
            .token()
            .is_some_and(|token| keys.any(|key| key.digest == token.digest && key.at(now).is_ok()))
    }
}

/// What the spec asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whose token it is.
    pub client: String,
    /// Age at which a token is replaced.
    pub period: SignedDuration,
    /// For how long the replaced one still works.
    pub overlap: SignedDuration,
    /// Another value than the last one handled replaces the token at once.
    pub nonce: Option<String>,
    /// Whether the service rests: no new rotation begins.
    pub suspended: bool,
}

/// Why nothing is written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Pods have not loaded the keyset yet.
    Pickup(Vec<String>),
    /// Too many keys are in overlap; the first retires then.
    Overlap(Timestamp),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a token and keep it in the pending Secret (created, never overwritten).
    Mint {
        /// The nonce to note on it.
        nonce: Option<String>,
    },
    /// Make the first token of a service without pods: nobody has to be asked, so it goes to the client Secret at once
    /// (created, never overwritten).
    Issue {
        /// The nonce to note on it.
        nonce: Option<String>,
    },
    /// Write the keyset.
    WriteKeyset(Keyset, Change),
    /// Copy the pending token to the client Secret.
    WriteClient,
    /// Delete the pending Secret.
    DropPending,
    /// Nothing, until something else happens.
    Wait(Wait),
    /// Nothing, until then at most.
    Rest(Timestamp),
}

/// What a new keyset changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first keyset, or one that was lost.
    Establish,
    /// A key to come.
    Stage,
    /// The staged key becomes the active one.
    Promote,
    /// A staged key whose token is lost goes.
    Abandon,
    /// Keys whose overlap ended go.
    Retire,
    /// The client's name changed.
    Rename,
}

impl Step {
    /// One word out of a bounded set, for metrics and events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mint { .. } => "Mint",
            Self::Issue { .. } => "Issue",
            Self::WriteKeyset(_, Change::Establish) => "Establish",
            Self::WriteKeyset(_, Change::Stage) => "Stage",
            Self::WriteKeyset(_, Change::Promote) => "Promote",
            Self::WriteKeyset(_, Change::Abandon) => "Abandon",
            Self::WriteKeyset(_, Change::Retire) => "Retire",
            Self::WriteKeyset(_, Change::Rename) => "Rename",
            Self::WriteClient => "WriteClient",
            Self::DropPending => "DropPending",
            Self::Wait(_) => "Wait",
            Self::Rest(_) => "Rest",
        }
    }
}

/// Decides the next step.
pub fn decide(facts: &Facts, rules: &Rules, now: Timestamp) -> Step {
    let Some(keyset) = &facts.keyset else {
        return establish(facts, rules, now);
    };
    match &facts.pending {
        Held::Malformed => Step::DropPending,
        Held::Token(pending) => finish(facts, keyset, pending, rules, now),
        Held::Absent => begin(facts, keyset, rules, now),
    }
}

/// There is no keyset: the first pass of a service, or it was lost. The client's token stays valid.
fn establish(facts: &Facts, rules: &Rules, now: Timestamp) -> Step {
    if facts.pending == Held::Malformed {
        return Step::DropPending;
    }
    let Some(token) = facts.client.token().or_else(|| facts.pending.token()) else {
        let nonce = rules.nonce.clone();
        let new = facts.client == Held::Absent && facts.pods.is_empty();
        return if new {
            Step::Issue { nonce }
        } else {
            Step::Mint { nonce }
        };
    };
    // Higher than any revision of a lost keyset, as those count by one.
    let revision = u64::try_from(now.as_second()).unwrap_or(1);
    let keys = vec![key(token, rules, KeyState::Active)];
    Step::WriteKeyset(
        Keyset {
            version: keyset::VERSION,
            revision,
            keys,
        },
        Change::Establish,
    )
}

/// A rotation is under way.
fn finish(facts: &Facts, keyset: &Keyset, pending: &TokenFacts, rules: &Rules, now: Timestamp) -> Step {
    let given = facts
        .client
        .token()
        .is_some_and(|client| client.digest == pending.digest);
    let state = keyset
        .keys
        .iter()
        .find(|key| key.digest == pending.digest)
        .map(|key| key.state);
    match (state, given) {
        // The keyset was restored from before the rotation. Clients hold the token already: accept it at once.
        (None, true) => Step::WriteKeyset(with(keyset, key(pending, rules, KeyState::Staged)), Change::Stage),
        (None, false) => {
            let cleaned = without(keyset, |key| key.state == KeyState::Staged);
            Step::WriteKeyset(with(&cleaned, key(pending, rules, KeyState::Staged)), Change::Stage)
        }
        (Some(KeyState::Staged), true) => promote(keyset, &pending.digest, rules, now),
        (Some(KeyState::Staged), false) => give(facts),
        // The first token of a service: usually there is no pod yet. After a loss of keyset and client Secret there are.
        (Some(KeyState::Active), false) if facts.client.token().is_none() => give(facts),
        (Some(_), _) => Step::DropPending,
    }
}

/// Proof first; only then do clients get the token.
fn give(facts: &Facts) -> Step {
    match facts.behind() {
        behind if behind.is_empty() => Step::WriteClient,
        behind => Step::Wait(Wait::Pickup(behind)),
    }
}

/// No rotation is under way: mend, retire, begin one, or rest.
fn begin(facts: &Facts, keyset: &Keyset, rules: &Rules, now: Timestamp) -> Step {
    let client = facts.client.token();
    let own = client.and_then(|token| keyset.keys.iter().find(|key| key.digest == token.digest));
    match own.map(|key| key.state) {
        // Clients hold it: it is the active one, whatever was interrupted.
        Some(KeyState::Staged | KeyState::Retiring) => {
            return client.map_or(Step::DropPending, |token| promote(keyset, &token.digest, rules, now));
        }
        Some(KeyState::Active) if keyset.keys.iter().any(|key| key.client != rules.client) => {
            return rename(keyset, rules);
        }
        _ => {}
    }
    if keyset.keys.iter().any(|key| key.state == KeyState::Staged) {
        return Step::WriteKeyset(
            bumped(without(keyset, |key| key.state == KeyState::Staged)),
            Change::Abandon,
        );
    }
    let ended = |key: &Key| key.state == KeyState::Retiring && key.retire_after.is_none_or(|end| end <= now);
    if keyset.keys.iter().any(ended) && !keyset.keys.iter().all(ended) {
        return Step::WriteKeyset(bumped(without(keyset, ended)), Change::Retire);
    }
    match due(client.filter(|_| own.is_some()), rules, now) {
        Due::Now => mint(keyset, rules, own.is_some()),
        Due::At(next) => match facts.behind() {
            behind if behind.is_empty() => Step::Rest(retirements(keyset).min().map_or(next, |end| end.min(next))),
            behind => Step::Wait(Wait::Pickup(behind)),
        },
    }
}

/// Clients whose token works can wait for the oldest key to retire; others wait only for room in the keyset.
fn mint(keyset: &Keyset, rules: &Rules, works: bool) -> Step {
    let full = if works {
        retirements(keyset).count() >= MAX_RETIRING
    } else {
        keyset.keys.len() >= keyset::MAX_KEYS
    };
    match retirements(keyset).min() {
        Some(first) if full => Step::Wait(Wait::Overlap(first)),
        _ => Step::Mint {
            nonce: rules.nonce.clone(),
        },
    }
}

enum Due {
    Now,
    At(Timestamp),
}

/// Without a token that pods accept, clients need one now; that is mending and not stopped by `suspend`.
fn due(client: Option<&TokenFacts>, rules: &Rules, now: Timestamp) -> Due {
    let Some(client) = client else { return Due::Now };
    if rules.suspended {
        return Due::At(Timestamp::MAX);
    }
    if rules.nonce.is_some() && rules.nonce != client.nonce {
        return Due::Now;
    }
    match next_rotation(client, rules) {
        Some(next) if next > now => Due::At(next),
        _ => Due::Now,
    }
}

/// When a token is replaced because of its age; `None` when its age is not known.
pub fn next_rotation(client: &TokenFacts, rules: &Rules) -> Option<Timestamp> {
    client.issued_at.and_then(|at| at.checked_add(rules.period).ok())
}

fn promote(keyset: &Keyset, digest: &str, rules: &Rules, now: Timestamp) -> Step {
    let end = now.checked_add(rules.overlap).unwrap_or(Timestamp::MAX);
    let mut next = bumped(keyset.clone());
    for key in &mut next.keys {
        if key.digest == digest {
            (key.state, key.retire_after) = (KeyState::Active, None);
        } else if key.state == KeyState::Active {
            (key.state, key.retire_after) = (KeyState::Retiring, Some(end));
        }
    }
    Step::WriteKeyset(next, Change::Promote)
}

fn rename(keyset: &Keyset, rules: &Rules) -> Step {
    let mut next = bumped(keyset.clone());
    next.keys
        .iter_mut()
        .for_each(|key| key.client.clone_from(&rules.client));
    Step::WriteKeyset(next, Change::Rename)
}

fn retirements(keyset: &Keyset) -> impl Iterator<Item = Timestamp> {
    keyset
        .keys
        .iter()
        .filter(|key| key.state == KeyState::Retiring)
        .filter_map(|key| key.retire_after)
}

fn key(token: &TokenFacts, rules: &Rules, state: KeyState) -> Key {
    Key {
        kid: token.kid.clone(),
        client: rules.client.clone(),
        scopes: Scope::ALL.into(),
        digest: token.digest.clone(),
        state,
        not_before: None,
        retire_after: None,
    }
}

fn with(keyset: &Keyset, key: Key) -> Keyset {
    let mut next = bumped(without(keyset, |old| old.kid == key.kid));
    next.keys.push(key);
    next
}

fn without(keyset: &Keyset, gone: impl Fn(&Key) -> bool) -> Keyset {
    let mut next = keyset.clone();
    next.keys.retain(|key| !gone(key));
    next
}

fn bumped(mut keyset: Keyset) -> Keyset {
    keyset.revision = keyset.revision.saturating_add(1);
    keyset
}

#[cfg(test)]
mod tests;
