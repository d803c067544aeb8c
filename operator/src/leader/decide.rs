//! Who leads: client-go's algorithm, as a pure decision.
//!
//! In: the Lease as read, who we are, for how long the Lease has not changed by our own monotonic clock. Out: what to do.
//! The clocks of other machines are never compared with ours: a holder is given up when its Lease has not changed for the
//! Lease's own duration while we watched.

use std::time::Duration;

/// A Lease as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// When the holder says it renewed it. Only compared for equality.
    pub renewed: Option<String>,
    /// For how long a renewal is good.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is no Lease: create it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It was released or given up: take it over.
    Take,
    /// Somebody else leads.
    Wait,
}

/// Decides. `unchanged` is how long ago we first saw the Lease as it is.
pub fn decide(me: &str, lease: Option<&Record>, unchanged: Duration) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    match lease.holder.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged >= lease.duration => Decision::Take,
        Some(_) => Decision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Record {
        Record {
            holder: holder.map(str::to_owned),
            renewed: Some("then".into()),
            duration: Duration::from_secs(15),
            transitions: 3,
        }
    }

    #[test]
    fn a_holder_is_given_up_only_after_its_lease_stood_still_for_its_whole_duration() {
        let seconds = Duration::from_secs;
        for (lease, unchanged, expected) in [
            (None, 0, Decision::Create),
            (Some(lease(None)), 0, Decision::Take),
            (Some(lease(Some(""))), 0, Decision::Take),
            (Some(lease(Some("me"))), 0, Decision::Renew),
            (Some(lease(Some("me"))), 60, Decision::Renew),
            (Some(lease(Some("other"))), 0, Decision::Wait),
            (Some(lease(Some("other"))), 14, Decision::Wait),
            (Some(lease(Some("other"))), 15, Decision::Take),
        ] {
            assert_eq!(
                decide("me", lease.as_ref(), seconds(unchanged)),
                expected,
                "{lease:?} {unchanged}"
            );
        }
    }
}
