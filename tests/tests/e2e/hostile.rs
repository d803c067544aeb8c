//! Both halves of the egress control at once, in a real cluster: pages of a site on the internet that lead inside in every
//! way, and a name that answers otherwise the second time.
//!
//! The stand-ins for what must not be reached count who came (`tests/cluster`): what is claimed is that the pod's own
//! address was never there, and that each refusal was told.

use std::thread;
use std::time::Duration;

use screenshot_tests::{Answer, Forward, Kind, capture, get, kubectl, pods, token};
use serde_json::json;

use crate::demo;
use crate::network::{OPEN, dial, run};

/// A site on the internet, which says what its address asks for.
const SITE: &str = "http://93.184.215.14";
/// The site's name until it leads elsewhere.
const NAME: &str = "rebind.example.net";
const GLOBAL: &str = "93.184.215.14";
const METADATA: &str = "169.254.169.254";
/// What counts who came, besides the site: a metadata service, a private host, one behind a carrier, the node's network.
const INSIDE: [&str; 4] = [METADATA, "192.168.50.10", "100.64.0.10", "10.77.0.1"];

/// The path with which the site says this.
fn say(parameters: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes()
            .fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
    };
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    format!("/say?{}", query.join("&"))
}

/// Every way that exchanges a document for another one.
fn ways(to: &str) -> Vec<String> {
    let page = |body: &str| say(&[("body", body)]);
    let redirect = |status: &str| say(&[("status", status), ("location", to)]);
    let mut ways: Vec<String> = ["301", "302", "303", "307", "308"].map(redirect).into();
    ways.extend([
        say(&[("refresh", &format!("0;url={to}"))]),
        page(&format!("<meta http-equiv=refresh content='0;url={to}'>")),
        page(&format!("<script>location='{to}'</script>")),
        page(&format!(
            "<form id=f method=post action={to}></form><script>f.submit()</script>"
        )),
    ]);
    ways
}

/// What a page loads beside itself, and what of it must be told as refused. `SITE` is the site, `blob` makes a script's URL.
const LOADED: [(&str, &str); 9] = [
    ("<img src=http://169.254.169.254/>", "169.254.169.254:80"),
    ("<link rel=preload as=image href=http://10.77.0.1/>", "10.77.0.1:80"),
    ("<iframe src=http://192.168.50.10/></iframe>", "192.168.50.10:80"),
    (
        "<iframe src='SITE/say?status=307&location=http://100.64.0.10/'></iframe>",
        "100.64.0.10:80",
    ),
    ("<script>new WebSocket('ws://10.77.0.1/')</script>", "10.77.0.1:80"),
    (
        "<script>new Worker(blob(\"fetch('https://10.77.0.10/').catch(()=>{})\"))</script>",
        "10.77.0.10:443",
    ),
    (
        "<script>new Worker(blob(\"new WebSocket('ws://169.254.169.254/')\"))</script>",
        "169.254.169.254:80",
    ),
    (
        "<script>fetch('https://10.96.0.1/').catch(()=>{})</script>",
        "10.96.0.1:443",
    ),
    (
        "<script>fetch('https://kubernetes.default.svc/').catch(()=>{})</script>",
        "kubernetes.default.svc:443",
    ),
];
const BLOB: &str = "<script>const blob=text=>URL.createObjectURL(new Blob([text]))</script>";
/// In a jail there is no interface for a peer to try: nothing is refused, and nothing comes.
const PEERS: &str = "<script>const peer=new RTCPeerConnection({iceServers:[{urls:'stun:192.168.50.10:80'},\
    {urls:'stun:169.254.169.254:80'},{urls:'turn:100.64.0.10:80?transport=tcp',username:'u',credential:'c'},\
    {urls:'turn:10.77.0.1:80?transport=udp',username:'u',credential:'c'}]});peer.createDataChannel('x');\
    peer.createOffer().then(offer=>peer.setLocalDescription(offer))</script>";

/// A page that asks its own origin again and again until somebody else answers: red if that one could be read, green if
/// there was none.
const READER: &str = "<body style='margin:0;background:#fff'><img id=hold src='/say?wait=9000'><script>(async()=>{\
    for(let n=0;n<80;n++){let said='';try{said=await(await fetch('/?'+n)).text()}catch{}\
    if(!said.startsWith('reached 93.')){document.body.style.background=said.startsWith('reached')?'#f00':'#0f0';return}\
    await new Promise(done=>setTimeout(done,100))}})().finally(()=>hold.src='data:,')</script>";

/// Where the name leads while this lives; afterwards to the site again.
struct Rebound;

impl Rebound {
    fn to(address: &str) {
        let patch = json!({"data": {"rebind.hosts": format!("{address} {NAME}\n")}}).to_string();
        let patch = ["patch", "configmap", "coredns", "--type=merge", "-p", &patch];
        kubectl(&[&["-n", "kube-system"], &patch[..]].concat()).unwrap();
    }
}

impl Drop for Rebound {
    fn drop(&mut self) {
        Self::to(GLOBAL);
    }
}

/// The stand-ins that somebody with this address came to, by TCP or UDP.
fn reached(seen: &str, from: &str) -> Vec<String> {
    let ours = seen.lines().filter_map(|line| line.strip_prefix(&format!("{from} ")));
    ours.map(str::to_owned).collect()
}

fn is_inside(line: &str) -> bool {
    INSIDE.iter().any(|inside| line.contains(&format!(" {inside}:")))
}

fn problem(answer: &Answer) -> String {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    kind.rsplit('/').next().unwrap_or_default().to_owned()
}

#[test]
fn no_page_gets_inside_by_redirects_sockets_workers_frames_peers_or_a_name_that_rebinds() {
    let namespace = demo("e2e-hostile");
    let namespace = namespace.0.as_str();
    let (token, forward) = (
        token(namespace, "demo").unwrap(),
        Forward::open(namespace, "service/demo", 80).unwrap(),
    );
    let shoot = |request| capture(forward.port(), Some(&token), &request).unwrap();
    let labels =
        get(namespace, Kind::Deployment, "demo").unwrap()["spec"]["template"]["metadata"]["labels"].to_string();
    let address = |name: &str| {
        let pod = get(namespace, Kind::Pod, name).unwrap();
        pod["status"]["podIP"].as_str().unwrap().to_owned()
    };
    let own = pods(namespace, "demo").unwrap()[0]["status"]["podIP"]
        .as_str()
        .unwrap()
        .to_owned();

    // Documents: each way, to each of the stand-ins in turn.
    for (at, inside) in INSIDE.iter().enumerate() {
        for (number, way) in ways(&format!("http://{inside}/")).iter().enumerate() {
            if number % INSIDE.len() == at || *inside == METADATA {
                let refused = shoot(json!({"url": format!("{SITE}{way}")}));
                // A refresh begins when its document is loaded, which may be taken before it is left; nobody arrives
                // either way, as the end of this test says.
                if refused.status == 200 && way.contains("refresh") {
                    continue;
                }
                assert_eq!(
                    problem(&refused),
                    "target_blocked",
                    "{inside} {way}: {}",
                    refused.json()
                );
            }
        }
    }
    // What a page loads.
    for (element, refused) in LOADED {
        let html = format!("{BLOB}{}", element.replace("SITE", SITE));
        let page = shoot(json!({"html_content": html}));
        let told = page.header("x-capture-refusals");
        assert!(
            page.status == 200 && told.contains(&format!("{refused};")),
            "{element}: {told}"
        );
    }
    assert_eq!(shoot(json!({"html_content": PEERS})).status, 200);

    // The name leads to the site, for a pod without the proxy as for the page, and then to the metadata service.
    let by_name = format!("{NAME}:80");
    let before = dial(
        namespace,
        "before",
        &labels,
        &[format!("+{OPEN}"), format!("+{by_name}")],
    );
    assert!(before.as_expected, "{}", before.log);
    let rebound = Rebound;
    let reader = format!("http://{NAME}{}", say(&[("body", READER)]));
    let read = thread::scope(|scope| {
        let reading = scope.spawn(|| shoot(json!({"url": reader, "window_width": 200, "window_height": 100})));
        thread::sleep(Duration::from_millis(700));
        Rebound::to(METADATA);
        reading.join().unwrap()
    });
    assert_eq!(read.status, 200, "{}", read.json());
    let told = read.header("x-capture-refusals");
    assert!(told.contains(&format!("{by_name};metadata_address")), "{told}");
    let colour = image::load_from_memory(&read.body)
        .unwrap()
        .to_rgb8()
        .get_pixel(190, 90)
        .0;
    assert_eq!(colour, [0, 255, 0], "the page read what its name led to");
    let again = shoot(json!({"url": format!("http://{NAME}/")}));
    assert_eq!(problem(&again), "target_blocked", "{}", again.json());
    let past = [format!("+{OPEN}"), format!("-{by_name}")];
    let past = dial(namespace, "past", &labels, &past);
    assert!(past.as_expected, "{}", past.log);
    // The control: the name does lead there, and whoever comes is counted.
    let free = dial(namespace, "free", r#"{"app": "control"}"#, &[format!("+{by_name}")]);
    assert!(free.as_expected, "{}", free.log);
    drop(rebound);

    let asked = ["get".into(), format!("{SITE}/arrived")];
    let answer = run(namespace, "asks", r#"{"app": "control"}"#, &asked).log;
    // The status stands before the text.
    let seen = answer.trim_start_matches("200 ");
    assert!(
        reached(seen, &address("free")).iter().any(|line| is_inside(line)),
        "{seen}"
    );
    for (name, from) in [("the service's pod", own), ("a pod without the proxy", address("past"))] {
        let reached = reached(seen, &from);
        assert!(
            reached.iter().any(|line| line.contains(&format!(" {OPEN} "))),
            "{name}: {seen}"
        );
        assert!(!reached.iter().any(|line| is_inside(line)), "{name}: {reached:?}");
    }
}
