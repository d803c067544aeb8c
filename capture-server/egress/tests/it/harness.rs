//! Stubs, targets and a browser that speaks in bytes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture_egress::{
    Access, Answers, Budget, Clock, Dial, Egress, Pinned, ResolveError, Resolver, Scope, Session, Synthetic,
    SystemResolver, Timings,
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rustls::RootCertStore;
use screenshot_policy::host::HostName;
use screenshot_policy::policy::{Ceiling, EffectivePolicy, EgressRules, PolicyDocument};
use screenshot_policy::tls::SpkiPin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub const PUBLIC: &str = "93.184.216.34";
pub const NOW: &str = "2026-11-25T00:00:00Z";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Result<Answers, ResolveError>;

/// A resolver with a script per name: each look-up takes the next answer, the last one stays.
#[derive(Default)]
pub struct Names {
    scripts: Mutex<HashMap<String, VecDeque<Answer>>>,
    asked: Mutex<Vec<String>>,
    /// What happens during each look-up.
    pub meanwhile: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let parse = |list: &&[&str]| {
            Ok(Answers {
                aliases: Vec::new(),
                addresses: list.iter().map(|ip| ip.parse().unwrap()).collect(),
            })
        };
        self.script(name, answers.iter().map(parse).collect());
    }

    pub fn script(&self, name: &str, answers: VecDeque<Answer>) {
        self.scripts.lock().unwrap().insert(name.to_owned(), answers);
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolver for Names {
    fn lookup<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Answer> {
        self.asked.lock().unwrap().push(name.as_str().to_owned());
        if let Some(meanwhile) = &*self.meanwhile.lock().unwrap() {
            meanwhile();
        }
        let mut scripts = self.scripts.lock().unwrap();
        let answer = match scripts.get_mut(name.as_str()) {
            None => Err(ResolveError::NotFound),
            Some(script) if script.len() > 1 => script.pop_front().unwrap(),
            Some(script) => script.front().cloned().unwrap(),
        };
        Box::pin(async move { answer })
    }
}

/// A dialler that leads checked addresses to loopback listeners and remembers what it was asked for.
#[derive(Default)]
pub struct Wires {
    routes: Mutex<HashMap<SocketAddr, SocketAddr>>,
    dialled: Mutex<Vec<SocketAddr>>,
    silent: Mutex<Vec<SocketAddr>>,
}

impl Wires {
    pub fn route(&self, from: &str, to: SocketAddr) {
        self.routes.lock().unwrap().insert(from.parse().unwrap(), to);
    }

    /// Connecting to `address` never ends.
    pub fn silence(&self, address: &str) {
        self.silent.lock().unwrap().push(address.parse().unwrap());
    }

    pub fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }
}

impl Dial for Wires {
    fn connect(&self, to: Pinned) -> BoxFuture<'static, io::Result<TcpStream>> {
        self.dialled.lock().unwrap().push(to.address());
        let route = self.routes.lock().unwrap().get(&to.address()).copied();
        let silent = self.silent.lock().unwrap().contains(&to.address());
        Box::pin(async move {
            if silent {
                return std::future::pending().await;
            }
            match route {
                Some(listener) => TcpStream::connect(listener).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// Everything around the proxy.
pub struct World {
    pub names: Arc<Names>,
    /// Asked instead of `names`.
    pub resolver: Option<Arc<SystemResolver>>,
    pub wires: Arc<Wires>,
    pub now: Arc<Mutex<Timestamp>>,
    pub budget: Budget,
    pub timings: Timings,
    pub deadline: Duration,
    pub synthetic: Option<Synthetic>,
    pub rules: EgressRules,
    /// What the upstream proxy is asked with; may be sent anew.
    pub access: watch::Sender<Arc<Access>>,
    /// Who vouches for hosts that the policy names.
    pub roots: RootCertStore,
}

impl World {
    pub fn new() -> Self {
        Self {
            names: Arc::default(),
            resolver: None,
            wires: Arc::default(),
            now: Arc::new(Mutex::new(NOW.parse().unwrap())),
            budget: Budget {
                requests: 1000,
                hosts: 1000,
                sockets: 100,
                wire_bytes: 10_000_000,
            },
            timings: Timings {
                header: Duration::from_secs(5),
                connect: Duration::from_secs(2),
                first_byte: Duration::from_secs(5),
                idle: Duration::from_secs(5),
            },
            deadline: Duration::from_secs(60),
            synthetic: None,
            rules: PolicyDocument::secure_default("web", "shots").unwrap().egress,
            access: watch::Sender::default(),
            roots: RootCertStore::empty(),
        }
    }

    pub fn policy(&self) -> EffectivePolicy {
        let mut document = PolicyDocument::secure_default("web", "shots").unwrap();
        document.egress.clone_from(&self.rules);
        EffectivePolicy::resolve(&Ceiling::compiled(), document).unwrap()
    }

    pub async fn open(&self) -> Proxy {
        self.open_on(TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    #[allow(clippy::unused_async, reason = "opening needs a runtime")]
    pub async fn open_on(&self, listener: TcpListener) -> Proxy {
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || *now.lock().unwrap());
        let resolver: Arc<dyn Resolver> = match &self.resolver {
            Some(resolver) => resolver.clone(),
            None => self.names.clone(),
        };
        let egress = Egress::new(resolver, self.wires.clone(), Arc::new(self.policy()), clock)
            .with_timings(self.timings)
            .with_access(self.access.subscribe())
            .with_authorities(self.roots.clone());
        let address = listener.local_addr().unwrap();
        let scope = Scope {
            capture_id: "c1".into(),
            deadline: Instant::now() + self.deadline,
            budget: self.budget,
            synthetic: self.synthetic.clone(),
        };
        Proxy {
            session: egress.open(listener, scope),
            address,
            key: egress.browser_side_key(),
        }
    }
}

/// An open session and where the browser finds it.
pub struct Proxy {
    pub session: Session,
    pub address: SocketAddr,
    /// What browsers are told to accept.
    pub key: Option<SpkiPin>,
}

impl Proxy {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `text` on a connection of its own and reads to the end.
    pub async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    }

    pub async fn get(&self, url: &str) -> String {
        self.say(&format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    /// A CONNECT; the stream and the head of the answer.
    pub async fn tunnel(&self, target: &str) -> (TcpStream, String) {
        let mut stream = self.connect().await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = head_of(&mut stream).await;
        (stream, head)
    }

    /// The outcomes in the log once there are at least `count` of them.
    pub async fn outcomes(&self, count: usize) -> Vec<&'static str> {
        for _ in 0..500 {
            let decisions = self.session.report().decisions;
            if decisions.len() >= count {
                return decisions.iter().map(|decision| decision.outcome).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {count} decisions: {:?}", self.session.report());
    }
}

/// The status, the `Proxy-Status` error and its details, of an answer that must have no body.
pub fn refusal(answer: &str) -> (u16, String, String) {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {answer:?}"));
    assert_eq!(body, "", "a refusal has no body");
    assert!(
        head.lines().any(|line| line == "Cache-Control: no-store"),
        "a refusal is not kept: {head}"
    );
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Proxy-Status: capture-egress; error="))
        .unwrap();
    let (error, details) = line.split_once("; details=").unwrap();
    (status, error.to_owned(), details.trim_matches('"').to_owned())
}

pub fn reason(answer: &str) -> String {
    refusal(answer).2
}

/// All bytes until the peer closes, as text; a reset counts as closing.
pub async fn to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection is closed in time");
    String::from_utf8(bytes).unwrap()
}

/// Bytes up to and with the empty line.
pub async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(PATIENCE, read).await.expect("a head in time");
    String::from_utf8(bytes).unwrap()
}

pub async fn exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(PATIENCE, stream.read_exact(&mut bytes))
        .await
        .expect("bytes in time")
        .unwrap();
    bytes
}

/// A target on loopback.
pub struct Target {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Target {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
        }
    }

    pub async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept())
            .await
            .expect("a connection in time")
            .unwrap()
            .0
    }

    /// For servers that wait as long as their test runs.
    pub async fn accept_whenever(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Whether somebody connects in the next moment.
    pub async fn is_left_alone(&self) -> bool {
        timeout(Duration::from_millis(100), self.listener.accept())
            .await
            .is_err()
    }

    /// Answers every connection the same, for as long as the test runs.
    pub fn answering(self, answer: &'static str) -> SocketAddr {
        let address = self.address;
        tokio::spawn(async move {
            loop {
                let mut stream = self.listener.accept().await.unwrap().0;
                tokio::spawn(async move {
                    let _ = head_of(&mut stream).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        address
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A world in which `site.com` has one public address that answers on port 80.
pub async fn with_site() -> World {
    let world = World::new();
    world.names.set("site.com", &[&[PUBLIC]]);
    world
        .wires
        .route(&format!("{PUBLIC}:80"), Target::new().await.answering(OK));
    world
}

/// A ClientHello with these server names.
pub fn hello(name: Option<&str>) -> Vec<u8> {
    let vector = |body: &[u8]| [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let extension = name.map(|name| {
        let entry = [&[0][..], &vector(name.as_bytes())].concat();
        [&[0, 0][..], &vector(&vector(&entry))].concat()
    });
    let extensions = vector(&extension.unwrap_or_default());
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &extensions].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &vector(&[&[1][..], &length[1..], &body].concat())].concat()
}
