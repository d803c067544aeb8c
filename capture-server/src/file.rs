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

/// What a file gives.
pub type Content = Result<Vec<u8>, Unread>;

/// Files that are looked at again and again, all at a time.
#[derive(Debug)]
pub struct Followed<const N: usize> {
    files: [(PathBuf, usize); N],
    last: Option<[Content; N]>,
}

impl<const N: usize> Followed<N> {
    /// Nothing is known yet of these files, each with the most bytes that it may have.
    pub fn new(files: [(PathBuf, usize); N]) -> Self {
        Self { files, last: None }
    }

    /// What reading them gives, if any of them gives another thing than at the last look.
    pub async fn look(&mut self) -> Option<&[Content; N]> {
        let files = self.files.clone();
        let contents = tokio::task::spawn_blocking(move || files.map(|(path, most)| read(&path, most)))
            .await
            .unwrap_or([const { Err(Unread::Unreadable) }; N]);
        if self.last.as_ref() == Some(&contents) {
            return None;
        }
        Some(self.last.insert(contents))
    }
}

/// A content as those take it that only look at it.
pub fn borrowed(content: &Content) -> Result<&[u8], Unread> {
    content.as_deref().map_err(|unread| *unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_told_of_when_its_content_changes_and_never_read_beyond_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut followed = Followed::new([(path.clone(), 3)]);
        assert_eq!(followed.look().await, Some(&[Err(Unread::Missing)]));
        assert_eq!(followed.look().await, None);
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(followed.look().await, Some(&[Ok(b"abc".to_vec())]));
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(followed.look().await, None);
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(followed.look().await, Some(&[Err(Unread::TooLong)]));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&path, usize::MAX), Err(Unread::Unreadable)));
    }

    #[tokio::test]
    async fn of_several_files_one_that_changes_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["first", "second"].map(|name| directory.path().join(name));
        let mut followed = Followed::new(paths.clone().map(|path| (path, 9)));
        assert_eq!(followed.look().await, Some(&[const { Err(Unread::Missing) }; 2]));
        for (at, path) in paths.iter().enumerate() {
            std::fs::write(path, "x").unwrap();
            let seen = followed.look().await.unwrap();
            assert_eq!(seen.each_ref().map(Result::is_ok), [true, at == 1]);
            assert_eq!(followed.look().await, None);
        }
    }
}
