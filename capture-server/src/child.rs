//! The jailer as this server's own child: for a laptop, where nobody else starts it.
//!
//! In: a program's path and its arguments. Out: a running process, started anew whenever it has ended, killed with
//! this value. The only module that starts a process, and only this one program. Must not: pass it a secret.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The jailer's program and, once started, its process.
#[derive(Debug)]
pub struct Child {
    program: PathBuf,
    args: Vec<OsString>,
    process: Option<std::process::Child>,
}

impl Child {
    /// Starts nothing yet.
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self {
            program,
            args,
            process: None,
        }
    }

    /// Starts the program unless it runs.
    #[expect(
        clippy::disallowed_methods,
        reason = "the jailer, where no container of its own runs it"
    )]
    pub fn ensure_running(&mut self) -> io::Result<()> {
        if let Some(process) = &mut self.process
            && process.try_wait()?.is_none()
        {
            return Ok(());
        }
        let process = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        tracing::info!(pid = process.id(), "jailer started");
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
