//! The four Secrets of a service: reads them, and carries out the steps that `rotation` decides.
//!
//! In: Secrets as stored, steps. Out: facts without plaintext for the decision, and one write per step.
//! Plaintext is only here, between the pending Secret and the client Secret; nothing here is `Debug`, and errors name
//! kinds only. Every write has a precondition, so that of two writers one is refused and decides anew.

mod edits;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use screenshot_policy::attest::{InternalKey, InternalKeyError};
use screenshot_policy::keyset::Keyset;
use screenshot_policy::layout;
use screenshot_policy::token::{Kid, Token};
use zeroize::Zeroizing;

use crate::context::{Context, random};
use crate::error::Error;
use crate::internal_key::{self, Next};
use crate::names::{ISSUED_AT, NONCE};
use crate::observe::{self, ChildMeta, PodView};
use crate::plan::{Child, Kind, secrets};
use crate::rotation::{Facts, Held, PodKeyset, Rules, Step, TokenFacts, Wait, decide};
use crate::validate::{Identity, Validated};
use crate::{apply, clock};
use edits::Edits;

/// A rotation has no more steps than this between two waits, the bringing of keysets included.
const MAX_STEPS: usize = 16;

/// One key of a Secret.
type Entry = (Box<str>, Zeroizing<Box<[u8]>>);

/// A Secret as it is in the API server.
pub struct Stored {
    meta: ChildMeta,
    data: Box<[Entry]>,
    issued_at: Option<Timestamp>,
    nonce: Option<Box<str>>,
    edits: Edits,
}

impl Stored {
    /// Copies what matters of a Secret.
    pub fn of(secret: &Secret) -> Self {
        let data = secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str().into(), Zeroizing::new(value.0.as_slice().into())));
        let note = |name: &str| secret.metadata.annotations.as_ref()?.get(name).map(String::as_str);
        Self {
            meta: ChildMeta::of(&secret.metadata),
            data: data.collect(),
            issued_at: note(ISSUED_AT).and_then(|text| text.parse().ok()).map(clock::whole),
            nonce: note(NONCE).map(Into::into),
            edits: Edits::of(secret),
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &ChildMeta {
        &self.meta
    }

    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.data
            .iter()
            .find(|(name, _)| **name == *key)
            .map(|(_, bytes)| &***bytes)
    }

    fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }
}

/// A token with the notes on it.
#[derive(Clone)]
struct WithNotes {
    token: Option<Token>,
    issued_at: Option<Timestamp>,
    nonce: Option<String>,
    meta: ChildMeta,
}

impl WithNotes {
    fn of(stored: &Stored) -> Self {
        let token = stored.text(secrets::TOKEN_KEY).and_then(|text| Token::parse(text).ok());
        Self {
            token: token.filter(|token| stored.text(secrets::KEY_ID_KEY) == Some(token.kid().as_str())),
            issued_at: stored.issued_at,
            nonce: stored.nonce.as_deref().map(str::to_owned),
            meta: stored.meta.clone(),
        }
    }

    fn facts(held: Option<&Self>) -> Held {
        let Some(held) = held else { return Held::Absent };
        let Some(token) = &held.token else {
            return Held::Malformed;
        };
        Held::Token(TokenFacts {
            kid: token.kid().clone(),
            digest: token.digest_hex(),
            issued_at: held.issued_at,
            nonce: held.nonce.clone(),
        })
    }
}

/// The four Secrets.
pub struct Credentials {
    /// The attestation key and where it is stored; `None` when absent or unreadable.
    pub internal: Option<(InternalKey, ChildMeta)>,
    broken_internal: Option<ChildMeta>,
    next_internal: Option<Result<InternalKey, InternalKeyError>>,
    internal_issued_at: Option<Timestamp>,
    keyset: Option<Keyset>,
    keyset_meta: Option<ChildMeta>,
    client: Option<WithNotes>,
    pending: Option<WithNotes>,
}

impl Credentials {
    /// Reads the Secrets, each of which may be absent.
    pub fn read(
        internal: Option<&Stored>,
        keyset: Option<&Stored>,
        client: Option<&Stored>,
        pending: Option<&Stored>,
    ) -> Self {
        let key = internal
            .and_then(|s| s.text(layout::INTERNAL_KEY_FILE))
            .and_then(|t| InternalKey::parse(t).ok());
        let internal_meta = internal.map(|stored| stored.meta.clone());
        let bytes = keyset.and_then(|stored| stored.bytes(layout::KEYSET_FILE));
        Self {
            broken_internal: internal_meta.clone().filter(|_| key.is_none()),
            internal: key.zip(internal_meta),
            next_internal: internal
                .filter(|stored| stored.bytes(layout::INTERNAL_NEXT_KEY_FILE).is_some())
                .map(|stored| InternalKey::parse(stored.text(layout::INTERNAL_NEXT_KEY_FILE).unwrap_or_default())),
            internal_issued_at: internal.and_then(|stored| stored.issued_at),
            keyset: bytes.and_then(|bytes| Keyset::parse(bytes).ok()),
            keyset_meta: keyset.map(|stored| stored.meta.clone()),
            client: client.map(WithNotes::of),
            pending: pending.map(WithNotes::of),
        }
    }

    /// Digest of the keyset that every pod should have in force.
    pub fn keyset_digest(&self) -> Option<String> {
        self.keyset.as_ref().map(Keyset::digest)
    }

    /// Whether a pod holds an older keyset and would take this one.
    pub fn can_be_brought(&self, pods: &[PodView]) -> bool {
        let keyset = self.keyset.as_ref().filter(|_| self.internal.is_some());
        keyset.is_some_and(|keyset| pods.iter().any(|pod| pod.takes(keyset)))
    }

    /// Id of the internal key to come, which pods should know.
    pub fn next_internal_id(&self) -> Option<String> {
        self.next_internal.as_ref()?.as_ref().ok().map(InternalKey::id)
    }

    /// What to do about the internal key.
    pub fn internal_step(&self, pods: &[PodView], now: Timestamp) -> internal_key::Step {
        let running = pods.iter().filter(|pod| pod.started);
        let facts = internal_key::Facts {
            current: self.internal.is_some(),
            issued_at: self.internal_issued_at,
            next: match &self.next_internal {
                None => Next::Absent,
                Some(Err(_)) => Next::Malformed,
                Some(Ok(key)) => Next::Key(key.id()),
            },
            pods: running
                .map(|pod| pod.attested.as_ref().ok().map(|report| report.internal_keys.clone()))
                .collect(),
        };
        internal_key::decide(&facts, now)
    }

    /// What the decision needs, without plaintext.
    pub fn facts(&self, pods: &[PodView]) -> Facts {
        // A pod whose server does not run yet will mount the present keyset.
        let pods = pods.iter().filter(|pod| pod.started).map(|pod| PodKeyset {
            pod: pod.name.clone(),
            digest: pod
                .attested
                .as_ref()
                .ok()
                .and_then(|r| r.keyset.as_ref())
                .map(|k| k.digest.clone()),
        });
        Facts {
            keyset: self.keyset.clone(),
            client: WithNotes::facts(self.client.as_ref()),
            pending: WithNotes::facts(self.pending.as_ref()),
            pods: pods.collect(),
        }
    }
}

/// What the spec asks of the rotation.
pub fn rules(wanted: &Validated) -> Rules {
    Rules {
        client: wanted.client.clone(),
        period: SignedDuration::from_hours(i64::from(wanted.rotation.period_days) * 24),
        overlap: SignedDuration::from_hours(i64::from(wanted.rotation.overlap_hours)),
        nonce: wanted.rotation.nonce.clone(),
        suspended: wanted.suspended,
    }
}

/// What came of the rotation in this pass.
pub struct Turn {
    /// The facts at its end.
    pub facts: Facts,
    /// The step at which it stopped: `Wait` or `Rest`.
    pub stopped: Step,
}

/// Carries out steps until the decision is to wait. Each that is done is remembered until it is told, whatever fails
/// after it.
///
/// # Errors
/// What a write reports; [`Error::Conflict`] means that somebody else was faster and the next pass decides anew.
pub async fn settle(
    context: &Context,
    wanted: &Validated,
    credentials: &mut Credentials,
    pods: &mut [PodView],
) -> Result<Turn, Error> {
    turn_internal(context, &wanted.identity, credentials, pods).await?;
    let rules = rules(wanted);
    for _ in 0..MAX_STEPS {
        let facts = credentials.facts(pods);
        let step = decide(&facts, &rules, (context.now)());
        if matches!(step, Step::Wait(Wait::Pickup(_))) && bring(context, &wanted.identity, credentials, pods).await? {
            continue;
        }
        if matches!(step, Step::Wait(_) | Step::Rest(_)) {
            return Ok(Turn { facts, stopped: step });
        }
        let name = step.name();
        carry_out(context, &wanted.identity, credentials, step).await?;
        context.metrics.step(name);
        context
            .memories
            .with(&wanted.identity.key(), |memory| memory.took(name));
        tracing::info!(
            namespace = wanted.identity.namespace,
            service = wanted.identity.names.main(),
            step = name,
            "rotation"
        );
    }
    Err(Error::Restless)
}

/// Brings the keyset to pods that have not loaded it. Returns whether that changed anything.
async fn bring(
    context: &Context,
    identity: &Identity,
    credentials: &Credentials,
    pods: &mut [PodView],
) -> Result<bool, Error> {
    match (&credentials.internal, &credentials.keyset) {
        (Some((key, _)), Some(keyset)) => observe::bring(context, identity, key, keyset, pods).await,
        _ => Ok(false),
    }
}

/// The internal key's steps, until there is nothing to do or pods have to be waited for.
async fn turn_internal(
    context: &Context,
    identity: &Identity,
    credentials: &mut Credentials,
    pods: &[PodView],
) -> Result<(), Error> {
    // Making one, staging one and using it, where there is no pod to wait for.
    for _ in 0..3 {
        let now = (context.now)();
        let step = credentials.internal_step(pods, now);
        let (key, next, issued_at, existing) = match (step, credentials.internal.clone()) {
            (internal_key::Step::Create, _) => {
                if let Some(broken) = credentials.broken_internal.take() {
                    apply::delete(context, identity, Kind::Secret, &broken).await?;
                }
                (InternalKey::from_bytes(random()?), None, now, None)
            }
            (internal_key::Step::Stage, Some((key, meta))) => {
                let issued_at = credentials.internal_issued_at.unwrap_or(now);
                (key, Some(InternalKey::from_bytes(random()?)), issued_at, Some(meta))
            }
            (internal_key::Step::Promote, Some((_, meta))) => {
                let Some(Ok(next)) = credentials.next_internal.take() else {
                    return Ok(());
                };
                (next, None, now, Some(meta))
            }
            _ => return Ok(()),
        };
        let child = secrets::internal(identity, &key, next.as_ref(), issued_at);
        let meta = put(context, identity, &child, existing.as_ref()).await?;
        if step.replaces() {
            context.metrics.step(step.name());
            tracing::info!(step = step.name(), "internal key");
        }
        credentials.internal = Some((key, meta));
        credentials.next_internal = next.map(Ok);
        credentials.internal_issued_at = Some(issued_at);
    }
    Ok(())
}

async fn carry_out(context: &Context, identity: &Identity, state: &mut Credentials, step: Step) -> Result<(), Error> {
    match step {
        Step::Mint { nonce } => {
            let token = Token::generate(&Kid::from_bytes(random()?), random()?);
            let now = (context.now)();
            let child = secrets::pending(identity, &token, now, nonce.as_deref());
            let meta = put(context, identity, &child, None).await?;
            state.pending = Some(WithNotes {
                token: Some(token),
                issued_at: Some(now),
                nonce,
                meta,
            });
        }
        Step::Issue { nonce } => {
            let token = Token::generate(&Kid::from_bytes(random()?), random()?);
            let now = (context.now)();
            let child = secrets::client(identity, &token, now, nonce.as_deref());
            let meta = put(context, identity, &child, None).await?;
            state.client = Some(WithNotes {
                token: Some(token),
                issued_at: Some(now),
                nonce,
                meta,
            });
        }
        Step::WriteKeyset(keyset, _) => {
            let child = secrets::keyset(identity, &keyset);
            state.keyset_meta = Some(put(context, identity, &child, state.keyset_meta.as_ref()).await?);
            state.keyset = Some(keyset);
        }
        Step::WriteClient => {
            let Some(held) = state.pending.clone() else {
                return Ok(());
            };
            let Some(token) = &held.token else { return Ok(()) };
            let issued_at = held.issued_at.unwrap_or_else(context.now);
            let child = secrets::client(identity, token, issued_at, held.nonce.as_deref());
            let existing = state.client.as_ref().map(|client| &client.meta);
            let meta = put(context, identity, &child, existing).await?;
            state.client = Some(WithNotes {
                issued_at: Some(issued_at),
                meta,
                ..held
            });
        }
        Step::DropPending => {
            if let Some(held) = state.pending.take() {
                apply::delete(context, identity, Kind::Secret, &held.meta).await?;
            }
        }
        Step::Wait(_) | Step::Rest(_) => {}
    }
    Ok(())
}

/// Creates or replaces a Secret, and remembers what is in it, so that the next pass need not read it.
async fn put(
    context: &Context,
    identity: &Identity,
    child: &Child,
    existing: Option<&ChildMeta>,
) -> Result<ChildMeta, Error> {
    let edited = context.memories.with(&identity.key(), |memory| {
        let stored = memory.secret(&child.name)?;
        stored
            .edits
            .put_back(identity, child, |key| stored.bytes(key).is_some())
    });
    let written = match existing {
        Some(meta) => apply::update(context, identity, child, &meta.version).await?,
        None => apply::create(context, identity, child).await?,
    };
    let secret: Secret = written.try_parse().map_err(|_| Error::Encode)?;
    let stored = Arc::new(Stored::of(&secret));
    let meta = stored.meta.clone();
    context.memories.with(&identity.key(), |memory| {
        memory.read_secret(stored);
        memory.put_back.extend(edited);
    });
    Ok(meta)
}
