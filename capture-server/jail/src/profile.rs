//! The private directory of one browser: made before it, removed after it, whatever happened.
//!
//! In: the directory to make it in. Out: a path with a random name, mode 0700, locked for as long as it is in use.
//! A jailer that was killed leaves directories behind; [`sweep`] removes those that nobody has locked. It must not follow
//! a symbolic link or touch what is not ours by name, type and owner.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "capture-jail.";
/// A sweep looks at this many entries and no more.
const MAX_ENTRIES: usize = 10_000;

/// One profile directory; dropping it removes it.
#[derive(Debug)]
pub struct Profile {
    path: PathBuf,
    /// Holds the lock that tells other jailers that this directory is in use.
    _lock: File,
}

impl Profile {
    /// Makes one.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(root: &Path) -> io::Result<Self> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let name = random.iter().fold(PREFIX.to_owned(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        });
        let path = root.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path).and_then(|file| Ok(flock(&file, FlockOperation::LockExclusive).map(|()| file)?));
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Best effort: what cannot be removed now is unlocked from here on, and the next sweep removes it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of jailers that are gone; says how many.
pub fn sweep(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    entries
        .take(MAX_ENTRIES)
        .flatten()
        .filter(|entry| is_stale(entry) && fs::remove_dir_all(entry.path()).is_ok())
        .count()
}

fn is_stale(entry: &fs::DirEntry) -> bool {
    let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
        && entry
            .metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
    ours && File::open(entry.path()).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_profile_is_private_and_gone_with_everything_in_it_when_dropped() {
        let root = tempfile::tempdir().unwrap();
        let profile = Profile::create(root.path()).unwrap();
        let path = profile.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("deep")).unwrap();
        fs::write(path.join("deep/file"), "x").unwrap();
        drop(profile);
        assert!(!path.exists());
    }

    #[test]
    fn a_sweep_removes_only_directories_of_ours_that_nobody_uses() {
        let root = tempfile::tempdir().unwrap();
        let used = Profile::create(root.path()).unwrap();
        let stale = root.path().join(format!("{PREFIX}0123"));
        let foreign = root.path().join("something");
        let link = root.path().join(format!("{PREFIX}link"));
        fs::create_dir(&stale).unwrap();
        fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::symlink(&foreign, &link).unwrap();
        assert_eq!(sweep(root.path()), 1);
        assert!(!stale.exists());
        assert!(used.path().exists() && foreign.exists() && link.exists());
    }
}
