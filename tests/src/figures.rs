//! Figures that a run measures, kept beside its other artefacts so that the suite can print them at its end.

use std::path::PathBuf;

/// `target/e2e` of the checkout. Cargo says at run time where that is: what is compiled then serves every checkout.
pub(crate) fn artefacts() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../target/e2e")
}

/// Prints a figure and keeps it in `target/e2e/figures/NAME.txt`.
///
/// # Errors
/// The file cannot be written.
pub fn record(name: &str, text: &str) -> Result<(), crate::Failure> {
    println!("{text}");
    let directory = artefacts().join("figures");
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(directory.join(format!("{name}.txt")), format!("{}\n", text.trim_end())))
        .map_err(|error| format!("figure {name}: {error}"))
}
