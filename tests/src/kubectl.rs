//! `kubectl` as a user runs it. For what is asked often, `api` is cheaper.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Failure;

/// The context to use; the kubeconfig's own when none is named.
pub(crate) fn context() -> Option<String> {
    std::env::var("CONTEXT").ok().filter(|name| !name.is_empty())
}

/// `kubectl`, for the named context.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    if let Some(context) = context() {
        command.args(["--context", &context]);
    }
    command.args(args);
    command
}

/// Runs `kubectl` with text on standard input and gives its standard output.
///
/// # Errors
/// It cannot be run or fails; with what it said.
pub fn kubectl_with(args: &[&str], input: &str) -> Result<String, Failure> {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("kubectl: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .map_err(|error| format!("kubectl: {error}"))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("kubectl: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Runs `kubectl` and gives its standard output.
///
/// # Errors
/// As [`kubectl_with`].
pub fn kubectl(args: &[&str]) -> Result<String, Failure> {
    kubectl_with(args, "")
}

/// Applies a manifest.
///
/// # Errors
/// As [`kubectl_with`].
pub fn apply(manifest: &str) -> Result<String, Failure> {
    kubectl_with(&["apply", "-f", "-"], manifest)
}
