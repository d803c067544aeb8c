//! Whether every address that a page is led to was checked here. Said only where there is an upstream proxy.
//!
//! In: the policy. Out: the verdict `AddressesChecked`: false where the upstream resolves names, as the spec asks for by name.

use screenshot_policy::egress::Resolution;
use screenshot_policy::policy::EffectivePolicy;

use super::verdict::{Verdict, Weight, verdict};

pub(super) const KIND: &str = "AddressesChecked";
/// The upstream resolves names, as `resolve: Remote` accepts.
pub(super) const REMOTE: &str = "RemoteResolution";

pub(super) fn checked(policy: &EffectivePolicy) -> Option<Verdict> {
    let verdict = match policy.upstream()?.resolve {
        Resolution::Local => verdict(
            KIND,
            true,
            "LocalResolution",
            "capture pods look names up, check the addresses and ask the upstream proxy for those",
        ),
        Resolution::Remote => {
            let message = "the upstream proxy looks names up, as the spec accepts: capture pods do not see the addresses that \
                           pages are led to, and private ones are closed only by the upstream proxy";
            verdict(KIND, false, REMOTE, message)
        }
    };
    Some(verdict.weighing(Weight::Shown))
}
