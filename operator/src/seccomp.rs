//! Puts the browser container's seccomp profile where the kubelet looks for it, and takes it away again.
//!
//! In: the profile's file, the kubelet's seccomp directory. Out: the file at `layout::SECCOMP_PROFILE` below it, or none.
//! Written beside and renamed, so that a container runtime never reads half a profile. Must not: write a file that is not
//! a profile, follow the directory elsewhere, or touch any other file.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use screenshot_policy::layout;

/// Why the profile was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file given is not a seccomp profile in OCI JSON.
    #[error("{0} is not a seccomp profile: it must be a JSON object with defaultAction and syscalls")]
    NotAProfile(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        source: io::Error,
    },
}

/// Whether a file had to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The profile was missing or different.
    Written,
    /// It was there already.
    Unchanged,
}

/// Installs the profile `source` below the kubelet's seccomp directory `root`.
///
/// # Errors
/// The source is no profile, or the file system refuses.
pub fn install(source: &Path, root: &Path) -> Result<Installed, InstallError> {
    let wanted = fs::read(source).map_err(|error| io_error(source, error))?;
    check(source, &wanted)?;
    let target = root.join(layout::SECCOMP_PROFILE);
    if is_there(&wanted, &target) {
        return Ok(Installed::Unchanged);
    }
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
    }
    let beside = target.with_extension("json.new");
    write(&beside, &wanted).map_err(|error| io_error(&beside, error))?;
    fs::rename(&beside, &target).map_err(|error| io_error(&target, error))?;
    Ok(Installed::Written)
}

/// Whether the profile below the kubelet's seccomp directory `root` is the one of `source`.
///
/// # Errors
/// The source is no profile or cannot be read. What cannot be read below `root` is not the profile.
pub fn is_installed(source: &Path, root: &Path) -> Result<bool, InstallError> {
    let wanted = fs::read(source).map_err(|error| io_error(source, error))?;
    check(source, &wanted)?;
    Ok(is_there(&wanted, &root.join(layout::SECCOMP_PROFILE)))
}

fn is_there(wanted: &[u8], target: &Path) -> bool {
    fs::read(target).is_ok_and(|present| present == wanted)
}

/// Whether there was something to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The profile is gone.
    Gone,
    /// There was none.
    Absent,
}

/// Removes the profile below the kubelet's seccomp directory `root`, and its directory when nothing else is in it.
/// Running containers keep the filter that they were started with; new ones are not started without it.
///
/// # Errors
/// The file system refuses.
pub fn remove(root: &Path) -> Result<Removed, InstallError> {
    let target = root.join(layout::SECCOMP_PROFILE);
    match fs::remove_file(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Absent),
        other => other.map_err(|error| io_error(&target, error))?,
    }
    match target.parent().map(fs::remove_dir) {
        // Somebody else's profile may lie beside it.
        Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(io_error(&target, error)),
        _ => Ok(Removed::Gone),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()
}

fn check(source: &Path, bytes: &[u8]) -> Result<(), InstallError> {
    let profile: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let good = profile.is_some_and(|p| p["defaultAction"].is_string() && p["syscalls"].is_array());
    if good {
        Ok(())
    } else {
        Err(InstallError::NotAProfile(source.to_owned()))
    }
}

fn io_error(path: &Path, source: io::Error) -> InstallError {
    InstallError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("source.json");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_profile_is_installed_once_and_mended_when_it_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        let source = profile(dir.path(), r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#);
        let target = dir.path().join(layout::SECCOMP_PROFILE);
        assert_eq!(install(&source, dir.path()).unwrap(), Installed::Written);
        assert_eq!(install(&source, dir.path()).unwrap(), Installed::Unchanged);
        assert!(is_installed(&source, dir.path()).unwrap());
        fs::write(&target, "{}").unwrap();
        assert!(!is_installed(&source, dir.path()).unwrap());
        assert_eq!(install(&source, dir.path()).unwrap(), Installed::Written);
        fs::remove_file(&target).unwrap();
        assert!(!is_installed(&source, dir.path()).unwrap());
        install(&source, dir.path()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), fs::read(&source).unwrap());
    }

    #[test]
    fn a_removed_profile_leaves_nothing_behind_but_what_others_put_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let source = profile(dir.path(), r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#);
        let directory = dir.path().join(layout::SECCOMP_PROFILE).parent().unwrap().to_owned();
        assert_eq!(remove(dir.path()).unwrap(), Removed::Absent);
        install(&source, dir.path()).unwrap();
        assert_eq!(remove(dir.path()).unwrap(), Removed::Gone);
        assert!(!directory.exists());
        install(&source, dir.path()).unwrap();
        fs::write(directory.join("other.json"), "{}").unwrap();
        assert_eq!(remove(dir.path()).unwrap(), Removed::Gone);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_profile_is_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "not json", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#] {
            let source = profile(dir.path(), text);
            assert!(
                matches!(install(&source, dir.path()), Err(InstallError::NotAProfile(_))),
                "{text:?}"
            );
        }
        assert!(!dir.path().join(layout::SECCOMP_PROFILE).exists());
    }
}
