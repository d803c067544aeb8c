//! Files that others write, and may replace while the server runs.
//!
//! In: a path and the most bytes that it may have. Out: the whole content, or why there is none. Contents are compared, not
//! dates: a volume of a Secret or ConfigMap swaps symbolic links. Must not: log a byte of a file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file that is followed is looked at.
pub const POLL: Duration = Duration::from_secs(1);

/// Why there is no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// There is no such file.
    Missing,
    /// It has more bytes than it may; none was read.
    TooLong,
    /// Anything else.
    Unreadable,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable,
        }
    }
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// Why there is no content.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, Unread> {
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    if std::fs::metadata(path)?.len() > most {
        return Err(Unread::TooLong);
    }
    Ok(std::fs::read(path)?)
}

/// A file that is looked at again and again.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    most: usize,
    last: Option<Result<Vec<u8>, Unread>>,
}

impl Followed {
    /// Nothing is known of it yet.
    pub fn new(path: &Path, most: usize) -> Self {
        Self {
            path: path.to_owned(),
            most,
            last: None,
        }
    }

    /// What reading it gives, if that is another than at the last look.
    pub async fn look(&mut self) -> Option<Result<&[u8], Unread>> {
        let (path, most) = (self.path.clone(), self.most);
        let content = tokio::task::spawn_blocking(move || read(&path, most))
            .await
            .unwrap_or(Err(Unread::Unreadable));
        if self.last.as_ref() == Some(&content) {
            return None;
        }
        let content = self.last.insert(content);
        Some(content.as_deref().map_err(|unread| *unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_told_of_when_its_content_changes_and_never_read_beyond_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut followed = Followed::new(&path, 3);
        assert_eq!(followed.look().await, Some(Err(Unread::Missing)));
        assert_eq!(followed.look().await, None);
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(followed.look().await, Some(Ok(&b"abc"[..])));
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(followed.look().await, None);
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(followed.look().await, Some(Err(Unread::TooLong)));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&path, usize::MAX), Err(Unread::Unreadable)));
    }
}
