//! Makes the files of the site: HTML, one style sheet, one script, images.
//!
//! In: nothing. Out: path, media type and bytes of each file, the same in every run. Must not: read anything.

use std::fmt::Write as _;
use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage};

use super::{IMAGE_CAME, LONG_HEIGHT, PAGE_ENDS, SCRIPT_RAN};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css";
const SECTIONS: u32 = 24;
const ARTICLE_IMAGES: u32 = 12;
const LONG_IMAGES: u32 = 32;
/// One section of `long`; what remains is its footer.
const LONG_SECTION: u32 = 370;
const WORDS: [&str; 32] = [
    "light", "page", "window", "river", "stone", "letter", "garden", "number", "morning", "paper", "bridge", "answer",
    "colour", "silver", "harbour", "measure", "winter", "narrow", "market", "engine", "gentle", "corner", "signal",
    "forest", "copper", "summer", "thread", "valley", "mirror", "candle", "meadow", "anchor",
];

/// One file.
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Media type.
    pub kind: &'static str,
    /// Contents.
    pub body: Bytes,
}

fn file(path: impl Into<String>, kind: &'static str, body: impl Into<Bytes>) -> File {
    File {
        path: path.into(),
        kind,
        body: body.into(),
    }
}

/// All files, those of the demo site's page included.
pub fn files() -> Result<Vec<File>, image::ImageError> {
    let mut files = vec![
        file("/trivial", HTML, trivial()),
        file("/article", HTML, article()),
        file("/article.css", CSS, ARTICLE_CSS),
        file("/article.js", "text/javascript", article_js()),
        file("/long", HTML, long()),
        file(
            super::ENDLESS,
            HTML,
            "<!doctype html><title>Endless</title><script>for(;;);</script>",
        ),
        file(
            "/dialogs",
            HTML,
            "<script>for(let i=0;i<50;i++){alert(i);confirm(i);prompt(i)}</script>",
        ),
        file("/download", "application/octet-stream", "not a page"),
        file(
            "/workers",
            HTML,
            "<script>const u=URL.createObjectURL(new Blob(['for(;;);']));for(let i=0;i<100;i++)new Worker(u)</script>",
        ),
        file(
            "/hoard",
            HTML,
            "<script>const a=[];for(;;){const b=new Uint8Array(1<<24);b.fill(1);a.push(b)}</script>",
        ),
        file("/reloads", HTML, "<script>location.reload()</script>"),
        file("/scripts", HTML, include_str!("../../../site/pages/scripts.html")),
        file("/style.css", CSS, include_str!("../../../site/pages/style.css")),
        file(
            "/favicon.ico",
            "image/svg+xml",
            include_str!("../../../site/pages/mark.svg"),
        ),
    ];
    for number in 0..LONG_IMAGES.max(ARTICLE_IMAGES) {
        let (name, kind) = image_name(number);
        files.push(file(format!("/{name}"), kind, image(number)?));
    }
    Ok(files)
}

/// Even numbers are graphics (PNG), odd ones photographs (JPEG).
fn image_name(number: u32) -> (String, &'static str) {
    if number.is_multiple_of(2) {
        (format!("image{number}.png"), "image/png")
    } else {
        (format!("image{number}.jpg"), "image/jpeg")
    }
}

fn image(number: u32) -> Result<Vec<u8>, image::ImageError> {
    let mut chance = Chance(u64::from(number) + 1);
    let mut encoded = Cursor::new(Vec::new());
    if number.is_multiple_of(2) {
        let mut graphic = RgbImage::from_fn(400, 300, |x, y| {
            let band = (x / 25 + y / 20 + number) % 7;
            Rgb([shade(x * 255 / 400), shade(40 * band), shade(y * 255 / 300)])
        });
        for (x, y) in (0..16).flat_map(|x| (0..16).map(move |y| (x, y))) {
            graphic.put_pixel(x, y, Rgb(IMAGE_CAME));
        }
        graphic.write_to(&mut encoded, ImageFormat::Png)?;
    } else {
        let photograph = RgbImage::from_fn(800, 450, |x, y| {
            let grain = chance.below(24);
            let wave = (x + number * 37) * (y + 50) / 900 % 120;
            Rgb([
                shade(60 + wave + grain),
                shade(x * 150 / 800 + grain),
                shade(80 + y * 120 / 450 + grain),
            ])
        });
        photograph.write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, 80))?;
    }
    Ok(encoded.into_inner())
}

fn shade(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// The same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound.max(1))).unwrap_or(0)
    }

    fn words(&mut self, count: usize) -> String {
        let mut text = String::new();
        for word in 0..count {
            let choice = WORDS.get(self.below(32) as usize).copied().unwrap_or("word");
            text.push_str(if word == 0 { "" } else { " " });
            text.push_str(choice);
        }
        text
    }
}

fn css(colour: [u8; 3]) -> String {
    let [red, green, blue] = colour;
    format!("rgb({red},{green},{blue})")
}

fn trivial() -> String {
    let (first, last) = (css(IMAGE_CAME), css(PAGE_ENDS));
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Trivial</title></head>\
         <body style='margin:0;height:720px;position:relative;font:20px sans-serif'>\
         <div style='width:120px;height:80px;background:{first}'></div><h1>A trivial page</h1>\
         <p>Eight elements and one sentence.</p>\
         <div style='position:absolute;left:0;bottom:0;width:120px;height:80px;background:{last}'></div></body></html>"
    )
}

const ARTICLE_CSS: &str = "\
body{margin:0;font:17px/1.6 'Noto Sans',sans-serif;color:#1c2333;background:#fcfcfd;counter-reset:part}\
header{height:320px;position:relative;background:linear-gradient(120deg,#2b2d6b,#4f8fd8);color:#fff}\
header img{position:absolute;left:40px;top:40px}header h1{position:absolute;left:480px;top:90px;font-size:44px;margin:0}\
#built{position:absolute;right:0;top:0;width:40px;height:40px;background:#888}\
main{max-width:820px;margin:0 auto;padding:30px}section{margin-bottom:28px;counter-increment:part}\
section h2:before{content:counter(part) '. ';color:#4f8fd8}section:nth-child(3n){background:#eef2fb;border-radius:12px;\
padding:12px 20px;box-shadow:0 6px 24px rgba(20,33,61,.12)}p a{color:#2b59c3}figure{margin:20px 0}\
figure img{width:100%;height:auto;border-radius:10px}figcaption{font-size:14px;color:#667}\
ol{columns:2}ol li span{opacity:.8}";

fn article_js() -> String {
    format!(
        "const list=document.getElementById('notes');\
         for(let i=0;i<100;i++){{const li=document.createElement('li');const span=document.createElement('span');\
         span.textContent='note '+i+' of one hundred';li.append(span);list.append(li)}}\
         let sum=0;for(const p of document.querySelectorAll('p'))sum+=p.getBoundingClientRect().height;\
         document.body.dataset.height=String(Math.round(sum));\
         document.getElementById('built').style.background='{}';",
        css(SCRIPT_RAN)
    )
}

fn article() -> String {
    let mut chance = Chance(42);
    let mut html = String::from(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>An article</title>\
         <meta name=viewport content='width=device-width'><link rel=icon href=/favicon.ico>\
         <link rel=stylesheet href=/article.css></head><body><header><img src=/image0.png width=400 height=240 alt=''>\
         <h1>An article of some length</h1><div id=built></div></header><main>",
    );
    for section in 0..SECTIONS {
        let _ = write!(html, "<section><h2>{}</h2>", chance.words(4));
        for _ in 0..5 {
            let (before, link, strong, after) = (chance.words(18), chance.words(2), chance.words(3), chance.words(20));
            let _ = write!(
                html,
                "<p>{before} <a href='#'>{link}</a> <em>{strong}</em> {after}.</p>"
            );
        }
        let image = section / 2 + 1;
        if section % 2 == 0 && image < ARTICLE_IMAGES {
            let (name, _) = image_name(image);
            let caption = chance.words(6);
            let _ = write!(
                html,
                "<figure><img src=/{name} alt=''><figcaption>{caption}</figcaption></figure>"
            );
        }
        html.push_str("</section>");
    }
    html.push_str("</main><ol id=notes></ol><script src=/article.js></script></body></html>");
    html
}

fn long() -> String {
    let mut chance = Chance(7);
    let mut html = String::from(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>A long page</title><style>\
         body{margin:0;font:16px sans-serif}section{position:relative;overflow:hidden;border-bottom:1px solid #ccd}\
         section,footer{box-sizing:border-box}img{position:absolute;left:40px;top:20px;height:300px}\
         p{position:absolute;left:620px;top:20px;width:600px;margin:0}</style></head><body>",
    );
    for number in 0..LONG_IMAGES {
        let ((name, _), text) = (image_name(number), chance.words(60));
        let _ = write!(
            html,
            "<section style='height:{LONG_SECTION}px'><img src=/{name} alt=''><p>{text}</p></section>"
        );
    }
    let rest = LONG_HEIGHT - LONG_IMAGES * LONG_SECTION;
    let colour = css(PAGE_ENDS);
    let _ = write!(
        html,
        "<footer style='height:{rest}px;background:{colour}'></footer></body></html>"
    );
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_is_the_same_each_time_and_has_all_that_its_pages_name() {
        let (one, other) = (files().unwrap(), files().unwrap());
        assert!(
            one.iter()
                .zip(&other)
                .all(|(a, b)| (&a.path, &a.body) == (&b.path, &b.body))
        );
        let pages = one.iter().filter(|file| file.kind == HTML);
        for page in pages {
            let text = std::str::from_utf8(&page.body).unwrap();
            for part in text
                .split(['=', '"', ' ', '>'])
                .filter(|part| part.starts_with('/') && part.contains('.'))
            {
                assert!(one.iter().any(|file| file.path == part), "{} names {part}", page.path);
            }
        }
    }

    #[test]
    fn the_article_weighs_what_an_article_weighs() {
        let opened = article().matches('<').count() - article().matches("</").count();
        // The script adds two hundred.
        assert!((440..520).contains(&opened), "{opened}");
    }
}
