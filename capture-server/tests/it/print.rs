//! Every print option has its effect on the sheet, as the PDF itself says. (A PDF's objects are text, and what is painted
//! is a packed list of commands; the browser writes both in one order, so no reader of the whole format is needed.)

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde_json::{Value, json};

use crate::harness::{Running, limits};

/// A red page with a heading.
const PAGE: &str = "<!doctype html><style>body{margin:0;background:#f00}</style><h1>Heading</h1><p>text";
/// Points of one inch, and of one millimetre.
const INCH: f64 = 72.0;
const MM: f64 = INCH / 25.4;
/// What the browser rounds to.
const ROUNDING: f64 = 1.5;

/// A print as text, what is packed in it unpacked.
struct Print(String);

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl Print {
    fn read(mut pdf: &[u8]) -> Self {
        const BEGIN: &[u8] = b"stream\n";
        const END: &[u8] = b"\nendstream";
        assert!(pdf.starts_with(b"%PDF-"));
        let mut text = String::new();
        while let Some(begin) = find(pdf, BEGIN) {
            text += &String::from_utf8_lossy(&pdf[..begin]);
            let packed = &pdf[begin + BEGIN.len()..];
            let end = find(packed, END).expect("a stream ends");
            let mut unpacked = Vec::new();
            // What is not packed this way (a font may not be) is nothing to read either.
            let _ = ZlibDecoder::new(&packed[..end]).read_to_end(&mut unpacked);
            text.push('\n');
            text += &String::from_utf8_lossy(&unpacked);
            pdf = &packed[end + END.len()..];
        }
        Self(text + &String::from_utf8_lossy(pdf))
    }

    fn has(&self, what: &str) -> bool {
        self.0.contains(what)
    }

    /// The numbers that stand before a command where it is given for the nth time.
    fn numbers(&self, command: &str, nth: usize) -> Vec<f64> {
        let line = self.0.lines().filter_map(|line| line.strip_suffix(command)).nth(nth);
        let line = line.unwrap_or_else(|| panic!("no {command} in {}", self.0));
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// Width and height of the sheet in points.
    fn sheet(&self) -> [f64; 2] {
        let (_, sheet) = self.0.split_once("/MediaBox [0 0 ").unwrap();
        let mut sides = sheet.split([' ', ']']).map(|side| side.parse().unwrap());
        [sides.next().unwrap(), sides.next().unwrap()]
    }

    /// Image pixels for each CSS pixel, with the measure of the sheet taken out.
    fn scale(&self) -> f64 {
        let (paper, page) = (self.numbers(" cm", 0), self.numbers(" cm", 1));
        paper[0] * page[0] / (INCH / 96.0)
    }

    /// Top, right, bottom and left margin in points: what lies around the area that the page is clipped to.
    fn margins(&self) -> [f64; 4] {
        let [width, height] = self.sheet();
        let unit = self.numbers(" cm", 0)[0];
        let (before, _) = self.0.split_once(" re\nW* n\n").expect("the page is clipped");
        let clip = before.lines().last().unwrap().split_whitespace();
        let clip: Vec<f64> = clip.map(|side| side.parse::<f64>().unwrap() * unit).collect();
        [clip[1], width - clip[0] - clip[2], height - clip[1] - clip[3], clip[0]]
    }

    fn is_red(&self) -> bool {
        self.has("1 0 0 rg")
    }
}

fn near<const N: usize>(found: [f64; N], wanted: [f64; N]) -> bool {
    found
        .iter()
        .zip(wanted)
        .all(|(found, wanted)| (found - wanted).abs() < ROUNDING)
}

async fn print(server: &Running, options: Value) -> Print {
    let mut body = json!({"html_content": PAGE, "format": "pdf"});
    body.as_object_mut()
        .unwrap()
        .extend(options.as_object().unwrap().clone());
    let answer = server.capture(body).await;
    assert_eq!(
        answer.status,
        200,
        "{options}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    Print::read(&answer.body)
}

const A4: [f64; 2] = [210.0 * MM, 297.0 * MM];

#[tokio::test(flavor = "multi_thread")]
async fn without_options_a_print_is_an_upright_a4_sheet_in_colour_with_its_structure() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let plain = print(&server, json!({})).await;
    assert!(near(plain.sheet(), A4), "{:?}", plain.sheet());
    assert!(near(plain.margins(), [0.4 * INCH; 4]), "{:?}", plain.margins());
    assert!((plain.scale() - 1.0).abs() < 0.01, "{}", plain.scale());
    assert!(plain.is_red() && plain.has("/StructTreeRoot"));
    assert!(!plain.has("/Outlines") && !plain.has(HEADER.1) && !plain.has(FOOTER.1));
    server.stop().await;
}

/// Templates, and what is painted by them alone.
const HEADER: (&str, &str) = ("<span style='font-size:12px;color:#0f0'>head</span>", "0 1 0 rg");
const FOOTER: (&str, &str) = ("<span style='font-size:12px;color:#00f'>foot</span>", "0 0 1 rg");

#[tokio::test(flavor = "multi_thread")]
async fn every_print_option_is_seen_on_the_sheet() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let print = async |options: Value| print(&server, options).await;

    let lying = print(json!({"pdf_landscape": true})).await.sheet();
    assert!(near(lying, [A4[1], A4[0]]), "{lying:?}");

    let own = print(json!({"pdf_width": "100mm", "pdf_height": "8in"})).await.sheet();
    assert!(near(own, [100.0 * MM, 8.0 * INCH]), "{own:?}");

    let wants = json!({"html_content": "<style>@page{size:3in 4in}</style>text"});
    assert!(near(print(wants.clone()).await.sheet(), A4));
    let mut may = wants;
    may["pdf_prefer_css_page_size"] = true.into();
    let css = print(may).await.sheet();
    assert!(near(css, [3.0 * INCH, 4.0 * INCH]), "{css:?}");

    assert!(!print(json!({"pdf_print_background": false})).await.is_red());

    let half = print(json!({"pdf_scale": 0.5})).await.scale();
    assert!((half - 0.5).abs() < 0.01, "{half}");

    let sides = ["top", "right", "bottom", "left"].map(|side| format!("pdf_margin_{side}"));
    let around =
        print(json!({(&sides[0]): "10mm", (&sides[1]): "20mm", (&sides[2]): "30mm", (&sides[3]): "40mm"})).await;
    let wanted = [10.0, 20.0, 30.0, 40.0].map(|side| side * MM);
    assert!(
        near(around.margins(), wanted),
        "{:?} is not {wanted:?}",
        around.margins()
    );

    let header = print(json!({"pdf_header_template": HEADER.0})).await;
    assert!(header.has(HEADER.1) && !header.has(FOOTER.1));
    let footer = print(json!({"pdf_footer_template": FOOTER.0})).await;
    assert!(footer.has(FOOTER.1) && !footer.has(HEADER.1));

    assert!(!print(json!({"pdf_tagged": false})).await.has("/StructTreeRoot"));
    let outlined = print(json!({"pdf_outline": true})).await;
    assert!(outlined.has("/Outlines") && outlined.has("(Heading)"));
    server.stop().await;
}
