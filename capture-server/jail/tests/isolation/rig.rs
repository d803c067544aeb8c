//! A jailer as a child process, a connection to it, and a CDP pipe; everything with a deadline.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capture_jail::client::{ClientError, Jailer, Spawned};
use capture_jail::inspect;
use capture_jail::launch::timespec;
use capture_jail::protocol::{Mode, SpawnSpec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const CHROMIUM: &str = "/usr/lib/chromium/chromium-headless-shell";
pub const UNPRIVILEGED: u32 = 65532;
const DEADLINE: Duration = Duration::from_secs(20);

pub fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Asks until the answer is yes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One jailer and its directories; ends with the test.
pub struct Rig {
    command: Command,
    child: Child,
    pub directory: TempDir,
    pub socket: PathBuf,
    pub profiles: PathBuf,
}

pub enum Kind {
    /// The product, as it is shipped.
    Product(PathBuf),
    /// This test binary as the jailer, with the named layers and switches taken away.
    Weak(PathBuf, &'static [&'static str]),
    /// The same, with names that were put together.
    WeakBy(PathBuf, Vec<String>),
    /// The product with Chromium, started by a command line that takes something away from it first.
    Under(&'static [&'static str]),
    /// The product with Chromium and room for so many processes and threads, its own one included.
    Crowded(u64),
    /// The product, not told to serve anybody but its own uid.
    OwnUidOnly,
}

impl Rig {
    pub fn chromium() -> Self {
        Self::start(Kind::Product(CHROMIUM.into()))
    }

    /// This test binary in the browser's place.
    pub fn looking_around() -> Self {
        Self::start(Kind::Product(PathBuf::new()))
    }

    /// The same under a jailer with layers taken away.
    pub fn looking_around_without(layers: &'static [&'static str]) -> Self {
        Self::start(Kind::Weak(PathBuf::new(), layers))
    }

    pub fn start(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
            path
        };
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let (profiles, socket, programs) = (make("profiles"), make("run").join("s"), make("programs"));
        fs::write(directory.path().join("secret"), "the secret").unwrap();
        let program = |path: PathBuf| {
            if path.as_os_str().is_empty() {
                install_self(&programs)
            } else {
                path
            }
        };
        let mut command = match &kind {
            Kind::Weak(..) | Kind::WeakBy(..) => Command::new(std::env::current_exe().unwrap()),
            Kind::Crowded(room) => {
                // What a uid has already counts; root can take one that has nothing.
                let most = room + if am_root() { 0 } else { own_tasks() };
                let mut command = Command::new("prlimit");
                command
                    .arg(format!("--nproc={most}:{most}"))
                    .arg(env!("CARGO_BIN_EXE_capture-jail"));
                command
            }
            Kind::Under(prefix) => {
                let mut command = Command::new(prefix[0]);
                command.args(&prefix[1..]).arg(env!("CARGO_BIN_EXE_capture-jail"));
                command
            }
            _ => Command::new(env!("CARGO_BIN_EXE_capture-jail")),
        };
        match kind {
            Kind::Product(path) => {
                command
                    .arg("serve")
                    .arg(&socket)
                    .arg("--browser")
                    .arg(program(path))
                    .arg("--profile-dir")
                    .arg(&profiles);
                if am_root() {
                    command.args(["--allow-peer-uid", "0"]);
                }
                if std::env::var_os("BROWSER_LOG").is_some() {
                    command.arg("--browser-log");
                }
            }
            Kind::Weak(path, layers) => {
                weak(&mut command, &socket, &program(path), &profiles).args(layers);
            }
            Kind::WeakBy(path, names) => {
                weak(&mut command, &socket, &program(path), &profiles).args(names);
            }
            Kind::Under(_) => {
                command.arg("serve").arg(&socket).arg("--profile-dir").arg(&profiles);
                // Root, as it is seen from outside and from inside of a user namespace without it.
                command.args(["--allow-peer-uid", "0", "--allow-peer-uid", "65534"]);
            }
            Kind::Crowded(_) => {
                command.arg("serve").arg(&socket).arg("--profile-dir").arg(&profiles);
                if am_root() {
                    let uid = lonely_uid().to_string();
                    command.args(["--allow-peer-uid", "0", "--uid", &uid, "--gid", &uid]);
                }
            }
            Kind::OwnUidOnly => {
                command.arg("serve").arg(&socket).arg("--profile-dir").arg(&profiles);
            }
        }
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        Self {
            command,
            child,
            directory,
            socket,
            profiles,
        }
    }

    /// The same jailer once more, after it has ended.
    pub fn restart(&mut self) {
        self.child = self.command.spawn().unwrap();
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Connects as soon as the socket is there.
    pub fn connect(&self) -> Jailer {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match Jailer::connect(&self.socket) {
                Ok(jailer) => return jailer,
                Err(ClientError::Absent | ClientError::Refused) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// Processes below the jailer.
    pub fn below(&self) -> Vec<i32> {
        inspect::descendants(self.pid())
    }

    pub fn profile_count(&self) -> usize {
        fs::read_dir(&self.profiles).unwrap().count()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Waits for the jailer's end; says whether it was a success.
    pub fn ended(&mut self) -> bool {
        let mut status = None;
        eventually("the jailer ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }
}

fn lonely_uid() -> u32 {
    200_000 + std::process::id() % 50_000
}

/// Threads of all processes of this uid.
fn own_tasks() -> u64 {
    let uid = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let own = entries.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid));
    let pids = own.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.map(|pid| inspect::threads(pid).len() as u64).sum()
}

fn weak<'c>(command: &'c mut Command, socket: &Path, program: &Path, profiles: &Path) -> &'c mut Command {
    command.arg(crate::weak::COMMAND).arg(socket).arg(program).arg(profiles)
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Ours by handle; already waited for if a test did.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The unprivileged uid must be able to execute it, which it often cannot in the build directory.
fn install_self(directory: &Path) -> PathBuf {
    let path = directory.join("look-around");
    fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

pub fn spawn(jailer: &mut Jailer, contexts: u16) -> Spawned {
    jailer
        .spawn(&SpawnSpec::new(contexts, Mode::Required), DEADLINE)
        .unwrap()
}

/// Whether none of them lives. (Whoever inherits an orphan may reap it late: a zombie is dead.)
pub fn gone(pids: &[i32]) -> bool {
    pids.iter()
        .all(|pid| match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")),
            Err(_) => true,
        })
}

/// NUL-separated messages over the pipe.
pub struct Pipe {
    read: File,
    write: File,
    buffer: Vec<u8>,
    next: u64,
}

impl Pipe {
    pub fn new(read: OwnedFd, write: OwnedFd) -> Self {
        Self {
            read: read.into(),
            write: write.into(),
            buffer: Vec::new(),
            next: 1,
        }
    }

    pub fn send(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).unwrap();
        self.write.write_all(b"\0").unwrap();
    }

    /// To somebody who may be gone.
    pub fn try_send(&mut self, text: &str) {
        let _ = self
            .write
            .write_all(text.as_bytes())
            .and_then(|()| self.write.write_all(b"\0"));
    }

    /// `None` at the end of file.
    pub fn receive(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == 0) {
                let rest = self.buffer.split_off(end + 1);
                let message = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(message[..end].to_vec()).unwrap());
            }
            let mut ready = [PollFd::new(&self.read, PollFlags::IN)];
            assert_eq!(
                poll(&mut ready, Some(&timespec(DEADLINE))).unwrap(),
                1,
                "no answer over the pipe"
            );
            let mut chunk = [0; 16_000];
            let count = self.read.read(&mut chunk).unwrap();
            if count == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    /// Whether anything is said within this time.
    pub fn answers_within(&mut self, time: Duration) -> bool {
        let mut ready = [PollFd::new(&self.read, PollFlags::IN)];
        poll(&mut ready, Some(&timespec(time))).unwrap() == 1 && self.read.read(&mut [0; 64]).unwrap() > 0
    }

    /// A question to the program that looks around.
    pub fn ask(&mut self, question: &str) -> String {
        self.send(question);
        self.receive().expect("an answer")
    }

    /// A CDP command to the browser.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.command(json!({"method": method, "params": parameters}))
    }

    /// A CDP command to a page.
    pub fn call_page(&mut self, session: &Value, method: &str, parameters: &Value) -> Value {
        self.command(json!({"method": method, "params": parameters, "sessionId": session}))
    }

    fn command(&mut self, mut message: Value) -> Value {
        let id = self.next;
        self.next += 1;
        message["id"] = id.into();
        self.send(&message.to_string());
        loop {
            let text = self.receive().expect("the browser lives");
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{message}: {answer}");
                return answer["result"].clone();
            }
        }
    }
}
