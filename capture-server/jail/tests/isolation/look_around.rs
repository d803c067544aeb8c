//! Runs in the browser's place, after everything that the jailer does to a browser, and answers what it can reach.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a child of this program is told, in its command line.
const CHILD: &str = "--child=";

/// Answers questions from descriptor 3 on descriptor 4 until the pipe closes.
pub fn run() {
    if let Some(question) = std::env::args().find_map(|argument| Some(argument.strip_prefix(CHILD)?.to_owned())) {
        return child(&question);
    }
    let mut questions = File::open("/proc/self/fd/3").expect("descriptor 3");
    let mut answers = OpenOptions::new()
        .write(true)
        .open("/proc/self/fd/4")
        .expect("descriptor 4");
    let mut question = Vec::new();
    let mut byte = [0];
    let mut hoard = Vec::new();
    while questions.read_exact(&mut byte).is_ok() {
        if byte[0] != 0 {
            question.push(byte[0]);
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut question)).expect("text");
        let answer = answer(&text, &mut hoard);
        answers.write_all(answer.as_bytes()).expect("an open pipe");
        answers.write_all(b"\0").expect("an open pipe");
    }
}

fn outcome<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
}

fn answer(question: &str, hoard: &mut Vec<Vec<u8>>) -> String {
    let (what, about) = question.split_once(' ').unwrap_or((question, ""));
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    match what {
        "interfaces" => {
            let dev = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
            let names: Vec<_> = dev
                .lines()
                .skip(2)
                .filter_map(|line| Some(line.split_once(':')?.0.trim()))
                .collect();
            names.join(",")
        }
        "routes" => fs::read_to_string("/proc/self/net/route")
            .unwrap_or_default()
            .lines()
            .skip(1)
            .count()
            .to_string(),
        "read" => outcome(fs::read(about)),
        "write" => outcome(fs::write(about, "x")),
        "program" => outcome(program(about)),
        "execute" => outcome(execute(about)),
        "unix" => outcome(UnixStream::connect(about)),
        "udp" => outcome(UdpSocket::bind("127.0.0.1:0")),
        "listen" => outcome(std::net::TcpListener::bind("127.0.0.1:0")),
        "serve" => outcome(std::net::TcpListener::bind(about).map(std::mem::forget)),
        "tcp" => {
            let address: SocketAddr = about.parse().expect("an address");
            outcome(TcpStream::connect_timeout(&address, Duration::from_secs(3)))
        }
        "pid" => own.to_string(),
        "environment" => std::env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(","),
        "descriptors" => {
            let names = fs::read_dir("/proc/self/fd").expect("own descriptors").flatten();
            let mut numbers: Vec<i32> = names
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect();
            numbers.sort_unstable();
            format!("{numbers:?}")
        }
        "status" => {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(about)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        }
        "limit" => {
            let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
            let line = limits.lines().find_map(|line| line.strip_prefix(about));
            line.map(|rest| rest.split_whitespace().take(2).collect::<Vec<_>>().join("/"))
                .unwrap_or_default()
        }
        "abstract" => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(about).expect("a name");
            outcome(UnixStream::connect_addr(&address))
        }
        // Signal 0 asks only whether one could be sent.
        "signal" => {
            let pid = about
                .parse()
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                .expect("a pid");
            outcome(rustix::process::test_kill_process(pid).map_err(Into::into))
        }
        "threads" => threads(about.parse().expect("a number")).to_string(),
        "reserve" => {
            let bytes = about.parse::<usize>().expect("MiB") << 20;
            match Vec::<u8>::new().try_reserve_exact(bytes) {
                Ok(()) => "ok".to_owned(),
                Err(_) => "refused".to_owned(),
            }
        }
        "eat" => {
            hoard.push(vec![1; about.parse::<usize>().expect("MiB") << 20]);
            "ok".to_owned()
        }
        "hold" => hold(about.parse().expect("a number")).to_string(),
        "breed" => {
            let (count, question) = about.split_once(' ').expect("a number and a question");
            breed(count.parse().expect("a number"), question).to_string()
        }
        _ => "unknown question".to_owned(),
    }
}

/// One of several processes: answers to nobody, and stays until its jail ends.
fn child(question: &str) {
    let mut hoard = Vec::new();
    answer(question, &mut hoard);
    loop {
        std::thread::park();
    }
}

/// Makes a program, which needs nothing else to run but this one: the kernel starts that with it.
fn program(path: &str) -> std::io::Result<()> {
    let own = std::env::current_exe()?;
    fs::write(path, format!("#!{}\n", own.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Starts a program that is this one in the end, and ends it.
fn execute(path: &str) -> std::io::Result<()> {
    let mut child = Command::new(path)
        .args(["--remote-debugging-pipe", &format!("{CHILD}pid")])
        .spawn()?;
    child.kill()?;
    child.wait().map(drop)
}

/// How many processes can be had that each do what the question says, up to a number. They stay.
fn breed(wanted: usize, question: &str) -> usize {
    let one = || {
        let mut child = Command::new("/proc/self/exe");
        child
            .args(["--remote-debugging-pipe", &format!("{CHILD}{question}")])
            .spawn()
    };
    (0..wanted).take_while(|_| one().is_ok()).count()
}

/// How many threads can be had that stay, up to a number.
fn hold(wanted: usize) -> usize {
    let stay = || loop {
        std::thread::park();
    };
    let one = || std::thread::Builder::new().stack_size(1 << 16).spawn(stay);
    (0..wanted).take_while(|_| one().is_ok()).count()
}

/// How many threads can be had at one time, up to a number.
fn threads(wanted: usize) -> usize {
    let over = Arc::new(AtomicBool::new(false));
    let made = (0..wanted).take_while(|_| {
        let over = Arc::clone(&over);
        let wait = move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        std::thread::Builder::new().stack_size(1 << 16).spawn(wait).is_ok()
    });
    let made = made.count();
    over.store(true, Ordering::Relaxed);
    made
}
