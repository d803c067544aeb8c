//! The field's advisories, by their number in our list (T1 to T31), as far as a proxy alone can stand against them.
//!
//! Not here: what only a browser, a jail or the API can show (T1, T12, most of T13 and T17 (`capture-server`), T15, T18 to T20, T22 to T26, T30, T31),
//! rebinding over real sockets (T8, `rebinding`), and that nothing dials without a decision (T14, the compile-fail
//! examples on `Pinned`).

mod addresses;
mod hops;
mod known;
mod lists;
pub mod told;

use crate::harness::{Proxy, reason};

/// Asks in both ways that a browser has; both answers' reasons.
async fn both(proxy: &Proxy, host: &str) -> [String; 2] {
    let plain = reason(&proxy.get(&format!("http://{host}/")).await);
    [plain, reason(&proxy.tunnel(&format!("{host}:443")).await.1)]
}
