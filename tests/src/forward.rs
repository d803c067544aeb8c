//! A loopback port that leads to a pod or a service, for as long as the value lives.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::Failure;
use crate::kubectl::command;

/// `kubectl port-forward` to one pod or service.
pub struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    /// Forwards a free loopback port.
    ///
    /// # Errors
    /// There is nothing to forward to.
    pub fn open(namespace: &str, target: &str, port: u16) -> Result<Self, Failure> {
        let mut child = command(&["-n", namespace, "port-forward", target, &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("port-forward: {error}"))?;
        let stdout = child.stdout.take().ok_or("port-forward: no output")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        lines.read_line(&mut line).map_err(|error| error.to_string())?;
        // It writes a line per connection; with nobody to read it would end by SIGPIPE. The thread ends with the child.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        // "Forwarding from 127.0.0.1:40123 -> 8080"
        let port = line
            .split_whitespace()
            .nth(2)
            .and_then(|address| address.rsplit(':').next()?.parse().ok());
        if let Some(port) = port {
            return Ok(Self { child, port });
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("port-forward to {target} answered {line:?}"))
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
