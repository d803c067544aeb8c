//! The preflight: proves on a real jail with a real page that the sandbox holds, before any caller's page runs.
//!
//! In: a fresh link to the jailer and the mode that the policy asks for. Out: facts for readiness and attestation.
//! Walks the same path as a capture (spawn, open a page, take a throw-away picture), then asks the jailer what
//! confines each process and judges it. Must not: soften a finding; `Degraded` is the policy's word, never ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capture_jail::client::ClientError;
use capture_jail::facts::{Reason, verify};
use capture_jail::protocol::{JailFacts, JailId, Mode, SandboxReason};
use screenshot_policy::attest::SandboxFacts;
use screenshot_policy::policy::SandboxMode;

use crate::capture::link::Link;
use crate::capture::pool::cell::Cell;
use crate::capture::pool::{Config, PoolError};

/// How long the whole preflight may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long after a finding it is looked for again.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// What a passed or failed preflight has to say.
#[derive(Debug)]
pub struct Found {
    /// For attestation and readiness.
    pub sandbox: SandboxFacts,
    /// The browser's version, if one came up.
    pub browser: Option<String>,
    /// Whether captures may run.
    pub passed: bool,
}

/// Runs the preflight. The jail that passed it has only seen an empty page of ours and may serve.
pub async fn preflight(link: &Arc<Link>, config: &Config, mode: SandboxMode) -> (Found, Option<Cell>) {
    let walked = tokio::time::timeout(TIMEOUT, walk(link, config)).await;
    match walked.unwrap_or(Err(PoolError::Timeout)) {
        Ok((cell, version, facts)) => {
            let found = judge(&facts, mode, Some(version));
            let cell = found.passed.then_some(cell);
            (found, cell)
        }
        Err(error) => (failed(&error, mode), None),
    }
}

async fn walk(link: &Arc<Link>, config: &Config) -> Result<(Cell, String, JailFacts), PoolError> {
    // Opens a page and takes a throw-away picture of it.
    let cell = Cell::launch(link, config).await?;
    let version = cell.browser.version().await?;
    let facts = look(link, cell.jail.id(), config.mode).await?;
    Ok((cell, version, facts))
}

/// What confines a jail. A finding stands if it is found twice: a process that had only been started, or was about to
/// end, may have been read in the middle of that.
pub async fn look(link: &Link, jail: JailId, mode: Mode) -> Result<JailFacts, ClientError> {
    let facts = link.facts(Some(jail)).await?;
    let Err(finding) = accepts(&facts, mode) else {
        return Ok(facts);
    };
    tracing::info!(finding = finding.reason(), "looking again");
    tokio::time::sleep(SECOND_LOOK).await;
    link.facts(Some(jail)).await
}

/// What each check is called in the attestation, and the findings that fail it.
const CHECKS: [(&str, &[Reason]); 8] = [
    (
        "rendererSandboxed",
        &[Reason::NoRenderer, Reason::RendererUnfiltered, Reason::RendererSeesRoot],
    ),
    ("gpuSandboxed", &[Reason::NoGpuProcess, Reason::GpuUnfiltered]),
    (
        "ownNamespaces",
        &[
            Reason::SharedUserNamespace,
            Reason::SharedPidNamespace,
            Reason::SharedNetworkNamespace,
            Reason::Degraded,
        ],
    ),
    ("noPrivileges", &[Reason::CapabilitiesHeld, Reason::PrivilegesMayGrow]),
    ("onlyLoopback", &[Reason::ExtraInterface, Reason::RoutePresent]),
    ("landlock", &[Reason::LandlockUnavailable, Reason::LandlockIncomplete]),
    ("secretsUnreadable", &[Reason::SecretsReadable, Reason::SecretsUntried]),
    (
        "devtoolsUnreachable",
        &[Reason::DevtoolsReachable, Reason::DevtoolsUntried],
    ),
];

/// Whether a jail may serve: confined as promised, or degraded where that was asked for.
///
/// # Errors
/// What comes first of that which is wrong.
pub fn accepts(facts: &JailFacts, mode: Mode) -> Result<(), Reason> {
    match verify(facts) {
        Err(_) if facts.degraded && mode == Mode::Degraded => Ok(()),
        Err(_) if facts.degraded => Err(Reason::Degraded),
        Err(reasons) => reasons.first().map_or(Ok(()), |first| Err(*first)),
        Ok(()) => Ok(()),
    }
}

/// What these facts of a jail with a page say.
pub fn judge(facts: &JailFacts, mode: SandboxMode, browser: Option<String>) -> Found {
    let reasons = verify(facts).err().unwrap_or_default();
    let checks = CHECKS
        .iter()
        .map(|(name, fails)| (*name, !reasons.iter().any(|reason| fails.contains(reason))));
    // Each part by itself, whether the kernel has it or not.
    let parts = [
        ("landlockFiles", facts.landlock.files),
        ("landlockTcp", facts.landlock.tcp),
        ("landlockScopes", facts.landlock.scopes),
    ];
    let checks = checks.chain(parts).map(|(name, held)| (name.to_owned(), held));
    let verified = reasons.is_empty();
    let accepted = facts.degraded && mode == SandboxMode::Degraded;
    // The degraded kind explains every other finding, so it is named first.
    let first = if facts.degraded {
        Some(Reason::Degraded)
    } else {
        reasons.first().copied()
    };
    let named: Vec<&str> = reasons.iter().map(|reason| reason.reason()).collect();
    let message = if verified {
        "every process of a browser was found confined".to_owned()
    } else {
        format!("the preflight found: {}", named.join(", "))
    };
    let reason = first.map(|reason| reason.reason().to_owned());
    let sandbox = SandboxFacts {
        verified,
        mode,
        reason,
        blocker: None,
        message,
        checks: checks.collect(),
    };
    Found {
        sandbox,
        browser,
        passed: verified || accepted,
    }
}

fn failed(error: &PoolError, mode: SandboxMode) -> Found {
    let reason = match error {
        PoolError::Jailer(error) => error.reason(),
        PoolError::Ended(reason) => reason,
        PoolError::Unproven(finding) => finding.reason(),
        PoolError::Browser(_) => "BrowserFailed",
        PoolError::Timeout => "BrowserTimeout",
        PoolError::NoJailer | PoolError::Full | PoolError::Descriptors => "JailerProtocol",
    };
    let blocker = match error {
        PoolError::Jailer(ClientError::Jail(jail)) => match jail.reason {
            SandboxReason::UserNamespacesBlocked(blocker) => Some(format!("{blocker:?}")),
            _ => None,
        },
        _ => None,
    };
    let message = match error {
        PoolError::Jailer(ClientError::Jail(jail)) => {
            let blocker = blocker.as_ref().map(|word| format!(" ({word})")).unwrap_or_default();
            let errno = jail.errno.map(|errno| format!(", errno {errno}")).unwrap_or_default();
            format!("no jail: step {}{errno}: {reason}{blocker}", jail.step.name())
        }
        other => format!("no jail: {other}"),
    };
    let sandbox = SandboxFacts {
        verified: false,
        mode,
        reason: Some(reason.to_owned()),
        blocker,
        message,
        checks: BTreeMap::new(),
    };
    Found {
        sandbox,
        browser: None,
        passed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture_jail::inside::SECRETS;
    use std::collections::BTreeSet;

    use capture_jail::protocol::{ExitCause, JailerFacts, LandlockFacts, PortFacts, SecretFacts};
    use screenshot_policy::finding::Finding;
    use screenshot_policy::layout;

    fn bare(degraded: bool) -> JailFacts {
        JailFacts {
            degraded,
            interfaces: vec!["lo".into(), "eth0".into()],
            ..JailFacts::default()
        }
    }

    #[test]
    fn a_finding_fails_the_preflight_and_its_check() {
        let found = judge(&bare(false), SandboxMode::Required, None);
        assert!(!found.passed && !found.sandbox.verified);
        // Of a jail of which nothing is known nothing is said but what needs a process to be wrong.
        let held = found.sandbox.checks.iter().filter(|(_, held)| **held);
        let held: Vec<&str> = held.map(|(name, _)| name.as_str()).collect();
        assert_eq!(held, ["noPrivileges", "ownNamespaces"]);
    }

    #[test]
    fn a_secret_that_can_be_opened_and_a_port_that_answers_fail_their_checks_alone() {
        let sound = JailFacts {
            secrets: SecretFacts {
                witnesses: 1,
                opened: 0,
            },
            ports: PortFacts {
                asked: true,
                found: Vec::new(),
            },
            ..bare(false)
        };
        let checks = |facts: &JailFacts| {
            let checks = judge(facts, SandboxMode::Required, None).sandbox.checks;
            (checks["secretsUnreadable"], checks["devtoolsUnreachable"])
        };
        assert_eq!(checks(&sound), (true, true));
        let (mut open, mut listening) = (sound.clone(), sound);
        open.secrets.opened = 1;
        listening.ports.found.push(9222);
        assert_eq!((checks(&open), checks(&listening)), ((false, true), (true, false)));
    }

    #[test]
    fn each_part_of_landlock_is_attested() {
        let parts = |landlock: LandlockFacts| {
            let facts = JailFacts {
                jailer: JailerFacts {
                    landlock_abi: 7,
                    ..JailerFacts::default()
                },
                landlock,
                ..bare(false)
            };
            let checks = judge(&facts, SandboxMode::Required, None).sandbox.checks;
            ["landlock", "landlockFiles", "landlockTcp", "landlockScopes"].map(|name| checks[name])
        };
        let all = LandlockFacts::ALL;
        assert_eq!(parts(all), [true; 4]);
        assert_eq!(parts(LandlockFacts { tcp: false, ..all }), [false, true, false, true]);
        assert_eq!(
            parts(LandlockFacts { scopes: false, ..all }),
            [false, true, true, false]
        );
        assert_eq!(parts(LandlockFacts::default()), [false; 4]);
    }

    /// What a pod can attest as its reason, from whichever room: the operator knows each.
    #[test]
    fn every_reason_of_jail_and_jailer_is_a_finding_of_the_contract_and_the_other_way_round() {
        let jail = Reason::ALL.iter().map(|reason| reason.reason());
        let steps = SandboxReason::ALL.iter().map(|reason| reason.reason());
        let ends = ExitCause::ALL.iter().filter(|cause| **cause != ExitCause::Killed);
        let others = ["JailerAbsent", "JailerRefused", "JailerClosed", "JailerProtocol"];
        let own = ["BrowserFailed", "BrowserTimeout"];
        let said: BTreeSet<&str> = jail
            .chain(steps)
            .chain(ends.map(|cause| cause.reason()))
            .chain(others)
            .chain(own)
            .collect();
        assert_eq!(said, Finding::ALL.iter().map(|finding| finding.word()).collect());
    }

    #[test]
    fn a_jail_tries_every_place_where_a_pod_has_secrets() {
        for place in [layout::KEYSET_DIR, layout::INTERNAL_KEY_DIR, layout::UPSTREAM_DIR] {
            assert!(SECRETS.contains(&place), "{place}");
        }
    }

    #[test]
    fn a_degraded_jail_passes_only_where_the_policy_says_so_and_is_never_verified() {
        let allowed = judge(&bare(true), SandboxMode::Degraded, None);
        assert!(allowed.passed && !allowed.sandbox.verified);
        assert_eq!(allowed.sandbox.reason.as_deref(), Some("SandboxDegraded"));
        assert!(!judge(&bare(true), SandboxMode::Required, None).passed);
        assert!(!judge(&bare(false), SandboxMode::Degraded, None).passed);
    }
}
