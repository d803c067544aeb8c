//! Which keyset is in force, whatever file and operator bring in whatever order.

use super::super::tests::key;
use super::*;
use screenshot_policy::keyset::VERSION;

/// A keyset whose only key tells its revision apart.
fn text(revision: u64) -> Vec<u8> {
    let n = u8::try_from(revision).unwrap();
    let keyset = Keyset {
        version: VERSION,
        revision,
        keys: vec![key(n, None).1],
    };
    keyset.canonical_json().into_bytes()
}

fn revision(state: &State) -> u64 {
    state.current.as_ref().unwrap().revision
}

/// With this file read.
fn filed(n: u64, now: Instant) -> State {
    let mut state = State::default();
    assert!(state.take(Ok(&text(n)), now));
    state
}

#[test]
fn a_bad_new_file_keeps_the_old_keyset_and_is_named() {
    let now = Instant::now();
    let mut state = filed(1, now);
    assert!(state.take(Ok(b"{"), now));
    assert_eq!((revision(&state), state.refused), (1, Some("keyset_syntax")));
    assert!(state.take(Ok(&text(2)), now));
    assert_eq!((revision(&state), state.refused), (2, None));
    assert!(!state.take(Ok(&text(2)), now));
}

#[test]
fn a_bad_first_file_leaves_no_keyset_and_nothing_that_is_brought_replaces_it() {
    let mut state = State::default();
    assert!(state.take(Err("keyset_missing"), Instant::now()));
    assert!(!state.brought(&text(1)));
    assert_eq!((&state.current, state.refused), (&None, Some("keyset_missing")));
}

#[test]
fn a_file_put_back_counts_at_once_while_nothing_was_brought() {
    let now = Instant::now();
    let mut state = filed(5, now);
    assert!(state.take(Ok(&text(3)), now));
    assert_eq!(revision(&state), 3);
}

#[test]
fn what_is_brought_counts_if_it_is_newer_and_until_the_file_has_caught_up() {
    let now = Instant::now();
    let mut state = filed(4, now);
    for old_or_bad in [text(3), text(4), b"{".to_vec()] {
        assert!(!state.brought(&old_or_bad));
        assert_eq!(revision(&state), 4);
    }
    assert!(state.brought(&text(5)) && state.brought(&text(6)));
    assert!(!state.brought(&text(5)), "an earlier message played again");
    // The kubelet brings one after the other, or spares some.
    assert!(state.take(Ok(&text(5)), now));
    assert_eq!(revision(&state), 6);
    assert!(state.take(Ok(&text(6)), now));
    assert!(!state.lapse(now + 2 * LAG), "the file has caught up");
    assert!(state.take(Ok(&text(2)), now));
    assert_eq!(revision(&state), 2, "the file is the truth again");
}

#[test]
fn a_kubelet_that_never_comes_does_not_take_away_what_was_brought() {
    let now = Instant::now();
    let mut state = filed(4, now);
    assert!(state.brought(&text(5)));
    assert!(!state.lapse(now + 100 * LAG));
    assert!(state.take(Err("keyset_missing"), now));
    assert_eq!(revision(&state), 5);
}

#[test]
fn a_file_put_back_while_it_was_behind_counts_after_a_while() {
    let now = Instant::now();
    let mut state = filed(4, now);
    assert!(state.brought(&text(6)));
    assert!(state.take(Ok(&text(3)), now));
    assert!(!state.lapse(now + LAG / 2));
    assert_eq!(revision(&state), 6);
    assert!(state.lapse(now + LAG));
    assert_eq!(revision(&state), 3);
    assert!(state.brought(&text(4)), "and is mended from there");
}
