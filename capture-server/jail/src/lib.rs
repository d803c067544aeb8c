//! Browser jails: one headless browser each, in its own user, network and pid namespace.
//!
//! In: a spawn request over one Unix socket ([`protocol`]; [`client`] is the server's side of it).
//! Out: the two ends of the browser's CDP pipe, listening sockets that were made inside the jail's network, and
//! facts read from /proc about what really confines the browser ([`facts`]).
//! It must not hold a Secret, listen on a network port, or start threads: cloning into a user namespace is only
//! sound from a single-threaded process. Every unsafe line is in `sys.rs`. `SECURITY.md` says what is promised.

pub mod brake;
pub mod census;
pub mod child;
pub mod client;
pub mod error;
pub mod facts;
pub mod flags;
pub mod inside;
pub mod inspect;
pub mod landlock;
pub mod last_words;
pub mod launch;
pub mod probe;
pub mod profile;
pub mod protocol;
pub mod report;
pub mod resources;
pub mod seccomp;
pub mod server;
pub mod session;
pub mod socket_filter;
pub mod switches;
pub mod sys;
pub mod watchdog;
