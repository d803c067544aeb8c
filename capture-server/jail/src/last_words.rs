//! What a browser said of its own end.
//!
//! In: the pipe that a browser's log goes to, which keeps the first of it and drops the rest. Out: whether it had no room for
//! a thread or a process, which no exit code tells. The log can hold URLs: it is read once, when the jail has ended, is
//! looked through for one phrase of the kernel's, and must not go anywhere else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

/// What a pipe holds.
const MOST: usize = 64 << 10;
/// The kernel's EAGAIN in the words of the C library, as Chromium prints it where a clone fails.
const NO_ROOM: &[u8] = b"Resource temporarily unavailable";

/// The jailer's end and the browser's. Neither waits: a browser that says much must not be held up by who does not listen.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Whether whoever wrote to this pipe had no room.
pub fn lacked_room(log: OwnedFd) -> bool {
    let mut said = vec![0; MOST];
    let mut length = 0;
    let mut log = File::from(log);
    while let Some(rest) = said.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match log.read(rest) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    said.truncate(length);
    said.windows(NO_ROOM.len()).any(|window| window == NO_ROOM)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn after(said: &[&str]) -> bool {
        let (log, browser) = pipe().unwrap();
        let mut browser = File::from(browser);
        for line in said {
            let _ = browser.write(line.as_bytes());
        }
        lacked_room(log)
    }

    #[test]
    fn only_the_kernel_s_phrase_counts_wherever_it_stands() {
        let phrase = "pthread_create: Resource temporarily unavailable (11)";
        assert!(after(&[phrase]) && after(&["[1:1:ERROR] x\n", phrase, "\nmore\n"]));
        assert!(!after(&[]) && !after(&["FATAL: No usable sandbox!\n"]));
    }

    #[test]
    fn whoever_says_too_much_is_cut_off_and_not_held_up() {
        let line = "x".repeat(1 << 12);
        let lines: Vec<&str> = (0..100).map(|_| line.as_str()).collect();
        assert!(!after(&lines));
    }
}
