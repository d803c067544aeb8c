//! What one page must not see: the container's files (T1), what another capture is working with (T12). And that nobody
//! looks through a page's text for what is bad (T20).

use std::io::Read as _;
use std::path::Path;
use std::sync::Mutex;

use capture_server::server::Server;
use flate2::read::ZlibDecoder;
use image::Rgb;
use screenshot_policy::policy::CaptureLimits;
use screenshot_policy::unit::Count;
use serde_json::json;

use crate::harness::{Answer, Jailer, Running, Site, limits, until};
use crate::web;

const RED: Rgb<u8> = Rgb([255, 0, 0]);
const BLUE: Rgb<u8> = Rgb([0, 0, 255]);
/// Pixels of a square's side.
const SIDE: u32 = 20;

/// What would show that a page has read a file: each turns a square of its own red.
const CANARIES: [(&str, &str); 4] = [
    (
        "canary.svg",
        "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'><rect width='20' height='20' fill='red'/></svg>",
    ),
    ("canary.html", "<body style='margin:0;background:red'>"),
    ("canary.css", "#sheet{background:red}"),
    ("canary.js", "document.getElementById('script').style.background='red'"),
];

/// Every way in which a page shows or reads what lies at `BASE`, a square for each.
const READER: &str = "<style>body{margin:0;background:#fff}body>*{position:absolute;top:0;width:20px;height:20px;border:0}</style>
<img style='left:0' src='BASE/canary.svg'>
<iframe style='left:20px' src='BASE/canary.html'></iframe>
<object style='left:40px' data='BASE/canary.svg'></object>
<embed style='left:60px' src='BASE/canary.html'>
<p style=\"left:80px;margin:0;background:url('BASE/canary.svg')\"></p>
<i id=sheet style='left:100px'></i><link rel=stylesheet href='BASE/canary.css'>
<i id=script style='left:120px'></i><script src='BASE/canary.js'></script>
<i id=read style='left:140px'></i><script>try{const x=new XMLHttpRequest();x.open('GET','BASE/canary.html',false);x.send();
if(x.responseText.includes('red'))read.style.background='red'}catch{}</script>";
const SQUARES: u32 = 8;

/// Where a page that another capture works with can be had, told by that page itself.
static TOLD: Mutex<String> = Mutex::new(String::new());

fn answers(path: &str) -> Option<(String, Vec<u8>)> {
    let page = |kind: &str, text: &str| Some((format!("200 OK\r\ncontent-type: {kind}"), text.as_bytes().to_vec()));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    match path {
        "/canary.svg" => page("image/svg+xml", CANARIES[0].1),
        "/canary.html" => Some((
            "200 OK\r\ncontent-type: text/html\r\naccess-control-allow-origin: *".into(),
            CANARIES[1].1.into(),
        )),
        "/canary.css" => page("text/css", CANARIES[2].1),
        "/canary.js" => page("text/javascript", CANARIES[3].1),
        "/holder" => page(
            "text/html",
            "<script>fetch('/tell?'+URL.createObjectURL(new Blob(['mine'])))</script><img src=/never>",
        ),
        "/tell" => {
            query.clone_into(&mut TOLD.lock().unwrap());
            page("text/plain", "")
        }
        "/told" => page("text/plain", &TOLD.lock().unwrap()),
        // Blue: it reads its own, as anybody can, and not the other's, though it knows where that is.
        "/guest" => page(
            "text/html",
            "<body style='margin:0'><img id=hold src=/never><script>(async()=>{
const read=url=>fetch(url).then(found=>found.text(),()=>'nothing');
const own=await read(URL.createObjectURL(new Blob(['mine']))),other=await read(await read('/told'));
document.body.style.background=own==='mine'&&other==='nothing'?'#00f':'#f00'
})().finally(()=>hold.src='data:,')</script>",
        ),
        "/never" => Some((String::new(), Vec::new())),
        _ => None,
    }
}

async fn server() -> (Running, Jailer) {
    let site = Site::new(CaptureLimits {
        concurrency: Count::nearest(2),
        ..limits(10_000)
    });
    let jailer = Jailer::start(&site);
    let args = site.args();
    let server = Server::start_on(args, web::network(answers).await).await.unwrap();
    let server = Running::serving(site, server).await;
    server.until_ready(true).await;
    (server, jailer)
}

/// How many of the squares are red.
fn red(answer: &Answer) -> u32 {
    let image = answer.image();
    let middle = |square| *image.get_pixel(square * SIDE + SIDE / 2, SIDE / 2);
    (0..SQUARES).map(|square| u32::from(middle(square) == RED)).sum()
}

/// How often a print fills something with red.
fn printed_red(answer: &Answer) -> usize {
    assert_eq!(answer.header("content-type"), Some("application/pdf"), "{answer:?}");
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let (mut rest, mut found) = (answer.body.as_slice(), 0);
    while let Some(begin) = find(rest, b"stream\n") {
        rest = &rest[begin + 7..];
        let end = find(rest, b"endstream").unwrap();
        let mut text = Vec::new();
        // What is not packed this way is no drawing.
        let _ = ZlibDecoder::new(&rest[..end]).read_to_end(&mut text);
        found += String::from_utf8_lossy(&text).matches("1 0 0 rg").count();
        rest = &rest[end + 9..];
    }
    found
}

/// Ways of saying "the files in this directory".
fn spellings(directory: &Path) -> Vec<String> {
    let path = directory.to_str().unwrap();
    let schemes = [
        "file://",
        "FILE://",
        "File:",
        " file://",
        "fi\tle://",
        "file://localhost",
        "view-source:file://",
    ];
    let mut all: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}{path}")).collect();
    all.extend([
        format!(r"\\localhost{path}"),
        format!("//127.0.0.1{path}"),
        format!(r"file:\\{path}"),
    ]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn t1_no_file_of_the_container_is_in_a_picture_however_it_is_asked_for() {
    let (server, _jailer) = server().await;
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in CANARIES {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    // The page is able to: what it may have, it shows.
    let seen = server.html(&READER.replace("BASE", "http://site.net")).await;
    assert_eq!(red(&seen), SQUARES);
    for base in spellings(directory.path()) {
        let answer = server.html(&READER.replace("BASE", &base)).await;
        assert_eq!(red(&answer), 0, "{base}");
    }
    let print = |base: &str| {
        let html = READER.replace("BASE", base);
        server.capture(json!({"html_content": html, "format": "pdf", "pdf_print_background": true}))
    };
    let able = printed_red(&print("http://site.net").await);
    // The style sheet, the script and what was read; the rest is in a print as pictures or not at all.
    assert!(able >= 3, "{able}");
    for base in spellings(directory.path()) {
        assert_eq!(printed_red(&print(&base).await), 0, "{base}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_a_capture_reads_nothing_that_another_one_is_working_with() {
    let (server, _jailer) = server().await;
    let body = |path: &str| json!({"url": format!("http://site.net{path}"), "window_width": 200, "window_height": 100});
    let holder = server.capture(body("/holder"));
    let guest = async {
        until("the other page has told what it holds", async || {
            TOLD.lock().unwrap().starts_with("blob:")
        })
        .await;
        server.capture(body("/guest")).await
    };
    // The holder never comes to rest: it is there as long as the guest is, and is given up then.
    let answer = tokio::select! {
        early = holder => panic!("the holder ended first: {early:?}"),
        answer = guest => answer,
    };
    assert_eq!(*answer.image().get_pixel(100, 50), BLUE);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t20_a_page_is_rendered_as_it_is_whatever_its_text_looks_like() {
    let (server, _jailer) = server().await;
    let html = r#"<style>/* file:///etc/passwd */ .md\:w-1\/2{background:#00f;width:100px;height:100px}</style>
<body style="margin:0"><div class="md:w-1/2">view-source:file:// \\localhost\ 169.254.169.254</div>"#;
    let answer = server.html(html).await;
    assert_eq!(*answer.image().get_pixel(50, 90), BLUE);
    assert_eq!(answer.header("x-capture-refused"), Some("0"));
    server.stop().await;
}
