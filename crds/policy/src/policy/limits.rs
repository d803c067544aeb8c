//! The bounds of one capture and of the server's work in hand.
//!
//! In: what a service asks for. Out: the same, none above the ceiling. Each bound is an amount of its own kind
//! (`unit`), so that bytes are never compared with pixels; the table below is the only place with the numbers.

use serde::{Deserialize, Serialize};

use crate::unit::{Bytes, Count, CssPixels, Millis, Pixels};

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, default $default:literal, ceiling $ceiling:literal;)*) => {
        /// Bounds of one capture and of the server's work in hand. Each is at least 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct CaptureLimits { $($(#[$doc])* pub $name: $kind,)* }

        impl CaptureLimits {
            /// What a service gets that asks for nothing.
            pub const DEFAULT: Self = Self { $($name: $kind::nearest($default),)* };
            /// What no service gets more of.
            pub const CEILING: Self = Self { $($name: $kind::nearest($ceiling),)* };

            pub(super) fn capped(self, ceiling: &Self) -> Self {
                Self { $($name: self.$name.min(ceiling.$name),)* }
            }

            /// Whether no limit exceeds the other's.
            pub fn within(&self, other: &Self) -> bool {
                true $(&& self.$name <= other.$name)*
            }
        }

        /// Limits of every size, for property tests.
        #[cfg(test)]
        pub(crate) fn any_limits() -> impl proptest::strategy::Strategy<Value = CaptureLimits> {
            use proptest::prelude::*;
            let amount = prop_oneof![any::<u64>(), 0u64..200_000_000];
            prop::collection::vec(amount, 16).prop_map(|amounts| {
                let mut amounts = amounts.into_iter();
                CaptureLimits { $($name: $kind::nearest(amounts.next().unwrap_or(1)),)* }
            })
        }
    };
}

limits! {
    /// Milliseconds from the request's arrival to its answer.
    deadline_ms: Millis, default 30_000, ceiling 120_000;
    /// Viewport width in CSS pixels.
    max_width: CssPixels, default 4_096, ceiling 16_384;
    /// Viewport height in CSS pixels.
    max_height: CssPixels, default 8_192, ceiling 16_384;
    /// Height of a full-page picture in CSS pixels; what lies below is an error, never cut off.
    max_full_page_height: CssPixels, default 16_384, ceiling 32_768;
    /// Pixels of the picture.
    max_pixels: Pixels, default 33_554_432, ceiling 67_108_864;
    /// Bytes of a request's body.
    max_body_bytes: Bytes, default 2_097_152, ceiling 8_388_608;
    /// Bytes of the picture.
    max_output_bytes: Bytes, default 67_108_864, ceiling 134_217_728;
    /// Requests that a page may make: plain ones and tunnels as the proxy counts them, and all, those inside of tunnels
    /// too, as the browser does once the page has been loading for half a second.
    max_requests: Count, default 500, ceiling 5_000;
    /// Different hosts that a page may name.
    max_hosts: Count, default 100, ceiling 500;
    /// Open connections of a page at one time.
    max_sockets: Count, default 64, ceiling 256;
    /// Bytes from and to the network.
    max_wire_bytes: Bytes, default 52_428_800, ceiling 524_288_000;
    /// Bytes that a page may unpack what came from the network to.
    max_decoded_bytes: Bytes, default 209_715_200, ceiling 2_147_483_648;
    /// Cores that captures may use at one time; each is given two captures, as one alone would wait half of its time.
    concurrency: Count, default 2, ceiling 64;
    /// Captures that wait for their turn.
    queue: Count, default 64, ceiling 4_096;
}
