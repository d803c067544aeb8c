//! Chromium with more on its command line than the jailer gives: this test binary in its place, which becomes it.
//!
//! What a jailed program may execute lies in its own directory, so that Chromium has to lie there, too: its files are
//! linked, or copied where that cannot be.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::CHROMIUM;

/// Known by this name.
const NAME: &str = "wrapped-browser";
const FLAGS: &str = "wrapped-flags";

/// Whether this process is one. Does not return if it is.
pub fn run() {
    let own = std::env::current_exe().unwrap_or_default();
    if own.file_name().is_none_or(|name| name != NAME) {
        return;
    }
    let here = own.parent().expect("a directory");
    let flags = fs::read_to_string(here.join(FLAGS)).expect("the flags");
    let name = Path::new(CHROMIUM).file_name().expect("a name");
    let error = Command::new(here.join(name))
        .args(std::env::args_os().skip(1))
        .args(flags.split_whitespace())
        .exec();
    panic!("{error}");
}

/// Puts Chromium there with these flags; says what is to be started.
pub fn install(directory: &Path, flags: &str) -> PathBuf {
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    link(Path::new(CHROMIUM).parent().unwrap(), directory);
    fs::write(directory.join(FLAGS), flags).unwrap();
    let own = directory.join(NAME);
    fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    own
}

fn link(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (fs::canonicalize(entry.path()).unwrap(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir(&target).unwrap();
            link(&source, &target);
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).unwrap();
        }
    }
}
