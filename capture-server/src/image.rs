//! What the image says of the browser in it: when that build was made.
//!
//! In: a small file that the image's build writes from the browser's package. Out: the date, but only if the browser that
//! really ran has the version that the file is about; else nothing is known. On a machine without the file, nothing is.
//! Must not: guess a date from anything else; files of an image are dated alike.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::file;

/// A file longer than this, in bytes, is not what the image's build wrote.
const MAX_BYTES: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    version: String,
    built_at: Timestamp,
}

/// When the browser that names itself `running` ("HeadlessChrome/156.0.8078.108") was built, by the file at `path`.
pub fn browser_built_at(path: &Path, running: Option<&str>) -> Option<Timestamp> {
    let bytes = file::read(path, MAX_BYTES).ok()?;
    let build: Build = serde_json::from_slice(&bytes).ok()?;
    let (_, version) = running?.split_once('/')?;
    (version == build.version).then_some(build.built_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_browser_that_ran_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("build.json");
        let running = Some("HeadlessChrome/156.0.8078.108");
        assert_eq!(browser_built_at(&path, running), None);
        std::fs::write(
            &path,
            r#"{"version": "156.0.8078.108", "builtAt": "2026-11-22T08:58:53Z"}"#,
        )
        .unwrap();
        assert_eq!(
            browser_built_at(&path, running),
            Some("2026-11-22T08:58:53Z".parse().unwrap())
        );
        for other in [None, Some("HeadlessChrome/156.0.8078.109"), Some("156.0.8078.108")] {
            assert_eq!(browser_built_at(&path, other), None, "{other:?}");
        }
        std::fs::write(&path, r#"{"version": "156.0.8078.108", "builtAt": "lately"}"#).unwrap();
        assert_eq!(browser_built_at(&path, running), None);
    }
}
