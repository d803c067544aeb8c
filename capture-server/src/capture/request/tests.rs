use serde_json::json;

use super::*;
use crate::browser::Paper;

fn window_of(width: u32, height: u32, hundredths: u16) -> Window {
    Window {
        viewport: Viewport { width, height },
        density: Density(hundredths),
    }
}

fn parse(body: &str) -> Result<CaptureRequest, InvalidRequest> {
    CaptureRequest::parse(body.as_bytes(), &CaptureLimits::DEFAULT)
}

#[test]
fn a_url_alone_gets_every_default() {
    let request = parse(r#"{"url":"https://example.com/a?b"}"#).unwrap();
    let expected = CaptureRequest {
        source: Source::Url(Url::parse("https://example.com/a?b").unwrap()),
        window: window_of(1280, 720, 100),
        part: Part::Window,
        format: Format::Png { small: false },
    };
    assert_eq!(request, expected);
}

#[test]
fn every_field_is_effective() {
    let body = r#"{"html_content":"<p>","window_width":300,"window_height":200,"full_page":true,"format":"jpeg","quality":7,"pixel_density":1.5}"#;
    let expected = CaptureRequest {
        source: Source::Html("<p>".into()),
        window: window_of(300, 200, 150),
        part: Part::FullPage,
        format: Format::Jpeg { quality: 7 },
    };
    assert_eq!(parse(body).unwrap(), expected);
    let part = |body: &str| parse(&format!(r#"{{"html_content":"x",{body}}}"#)).unwrap().part;
    assert_eq!(part(r##""selector":"#a""##), Part::Element("#a".into()));
    let size = Viewport { width: 30, height: 40 };
    let clip = Area { x: 1, y: 2, size };
    assert_eq!(part(r#""clip":{"x":1,"y":2,"width":30,"height":40}"#), Part::Clip(clip));
    let format = |body: &str| parse(&format!(r#"{{"html_content":"x",{body}}}"#)).unwrap().format;
    assert_eq!(format(r#""png_compression":"small""#), Format::Png { small: true });
    assert_eq!(format(r#""format":"webp""#), Format::Webp { quality: Some(80) });
    assert_eq!(
        format(r#""format":"webp","lossless":true"#),
        Format::Webp { quality: None }
    );
    assert_eq!(format(r#""format":"html""#), Format::Html);
}

#[test]
fn every_print_option_is_effective_and_in_inches() {
    let body = r#"{"html_content":"x","format":"pdf","pdf_width":"254mm","pdf_height":"960px","pdf_landscape":true,
        "pdf_print_background":false,"pdf_scale":0.5,"pdf_page_ranges":"1-3, 5","pdf_margin_top":"0in",
        "pdf_margin_right":"1in","pdf_margin_bottom":"2.54cm","pdf_margin_left":"48px","pdf_prefer_css_page_size":true,
        "pdf_header_template":"<b>h</b>","pdf_tagged":false,"pdf_outline":true}"#;
    let expected = Paper {
        width: 10.0,
        height: 10.0,
        margins: [0.0, 1.0, 1.0, 0.5],
        landscape: true,
        background: false,
        scale: 0.5,
        ranges: "1-3, 5".into(),
        css_size: true,
        header_footer: Some(("<b>h</b>".into(), "<span></span>".into())),
        tagged: false,
        outline: true,
    };
    assert_eq!(parse(body).unwrap().format, Format::Pdf(Box::new(expected)));
}

#[test]
fn large_work_is_told_from_small() {
    let lane = |body: &str| parse(&format!(r#"{{"html_content":"x",{body}}}"#)).unwrap().lane();
    assert_eq!(lane(r#""window_width":1920,"window_height":1080"#), Lane::Fast);
    assert_eq!(
        lane(r#""window_width":1920,"window_height":1080,"pixel_density":2"#),
        Lane::Bulk
    );
    assert_eq!(lane(r#""full_page":true"#), Lane::Bulk);
    assert_eq!(lane(r#""format":"pdf""#), Lane::Bulk);
    assert_eq!(lane(r#""clip":{"x":0,"y":0,"width":4000,"height":2000}"#), Lane::Bulk);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn each_broken_rule_blames_its_field() {
    let table = [
        (r#"{"url":"https://a.example/","html_content":"x"}"#, "url"),
        ("{}", "url"),
        (r#"{"url":7}"#, "url"),
        (r#"{"url":"SECRET"}"#, "url"),
        (r#"{"url":"file:///SECRET"}"#, "url"),
        (r#"{"url":"ftp://SECRET/"}"#, "url"),
        (r#"{"url":"FILE:///SECRET"}"#, "url"),
        (r#"{"url":" file:///SECRET"}"#, "url"),
        (r#"{"url":"fi\tle:///SECRET"}"#, "url"),
        (r#"{"url":"data:text/html,SECRET"}"#, "url"),
        (r#"{"url":"view-source:http://SECRET.example/"}"#, "url"),
        (r#"{"url":"view-source:file:///SECRET"}"#, "url"),
        (r#"{"url":"chrome://SECRET/"}"#, "url"),
        (r#"{"url":"chrome-extension://SECRET/"}"#, "url"),
        (r#"{"url":"devtools://SECRET/"}"#, "url"),
        (r#"{"url":"about:SECRET"}"#, "url"),
        (r#"{"url":"javascript:SECRET"}"#, "url"),
        (r#"{"url":"blob:http://SECRET.example/x"}"#, "url"),
        (r#"{"url":"filesystem:http://SECRET.example/x"}"#, "url"),
        (r#"{"url":"ws://SECRET.example/"}"#, "url"),
        (r#"{"url":"http://SECRET:SECRET@a.example/"}"#, "url"),
        (r#"{"html_content":""}"#, "html_content"),
        (r#"{"html_content":["SECRET"]}"#, "html_content"),
        (r#"{"html_content":"x","window_width":0}"#, "window_width"),
        (r#"{"html_content":"x","window_width":-1}"#, "window_width"),
        (r#"{"html_content":"x","window_width":1.5}"#, "window_width"),
        (r#"{"html_content":"x","window_width":"SECRET"}"#, "window_width"),
        (r#"{"html_content":"x","window_height":99999999999}"#, "window_height"),
        (r#"{"html_content":"x","full_page":"SECRET"}"#, "full_page"),
        (r#"{"html_content":"x","full_page":null}"#, "full_page"),
        (r#"{"html_content":"x","format":"SECRET"}"#, "format"),
        (r#"{"html_content":"x","format":1}"#, "format"),
        (r#"{"html_content":"x","quality":50}"#, "quality"),
        (r#"{"html_content":"x","format":"jpeg","quality":0}"#, "quality"),
        (r#"{"html_content":"x","format":"jpeg","quality":101}"#, "quality"),
        (
            r#"{"html_content":"x","format":"webp","lossless":true,"quality":50}"#,
            "quality",
        ),
        (r#"{"html_content":"x","lossless":true}"#, "lossless"),
        (
            r#"{"html_content":"x","format":"jpeg","png_compression":"small"}"#,
            "png_compression",
        ),
        (r#"{"html_content":"x","png_compression":"SECRET"}"#, "png_compression"),
        (r#"{"html_content":"x","pixel_density":1.1}"#, "pixel_density"),
        (r#"{"html_content":"x","pixel_density":4}"#, "pixel_density"),
        (r#"{"html_content":"x","pixel_density":"SECRET"}"#, "pixel_density"),
        (r#"{"html_content":"x","selector":""}"#, "selector"),
        (
            r#"{"html_content":"x","selector":"SECRET","full_page":true}"#,
            "selector",
        ),
        (
            r#"{"html_content":"x","selector":"SECRET","format":"html"}"#,
            "selector",
        ),
        (r#"{"html_content":"x","clip":"SECRET"}"#, "clip"),
        (
            r#"{"html_content":"x","clip":{"x":0,"y":0,"width":0,"height":1}}"#,
            "clip",
        ),
        (
            r#"{"html_content":"x","clip":{"x":0,"y":0,"width":1,"height":1,"SECRET":1}}"#,
            "clip",
        ),
        (
            r#"{"html_content":"x","clip":{"x":0,"y":0,"width":4096,"height":16384}}"#,
            "clip",
        ),
        (
            r#"{"html_content":"x","clip":{"x":0,"y":0,"width":1,"height":1},"format":"pdf"}"#,
            "clip",
        ),
        (
            r#"{"html_content":"x","format":"webp","clip":{"x":0,"y":0,"width":1,"height":16384}}"#,
            "format",
        ),
        (r#"{"html_content":"x","pdf_scale":1}"#, "pdf_scale"),
        (r#"{"html_content":"x","format":"pdf","pdf_scale":3}"#, "pdf_scale"),
        (
            r#"{"html_content":"x","format":"pdf","pdf_format":"SECRET"}"#,
            "pdf_format",
        ),
        (
            r#"{"html_content":"x","format":"pdf","pdf_format":"A4","pdf_width":"9in"}"#,
            "pdf_format",
        ),
        (r#"{"html_content":"x","format":"pdf","pdf_width":"9in"}"#, "pdf_height"),
        (
            r#"{"html_content":"x","format":"pdf","pdf_height":"SECRET"}"#,
            "pdf_height",
        ),
        (
            r#"{"html_content":"x","format":"pdf","pdf_height":"101in"}"#,
            "pdf_height",
        ),
        (
            r#"{"html_content":"x","format":"pdf","pdf_page_ranges":"3-1"}"#,
            "pdf_page_ranges",
        ),
        (
            r#"{"html_content":"x","format":"pdf","pdf_page_ranges":"0"}"#,
            "pdf_page_ranges",
        ),
        (
            r#"{"html_content":"x","format":"pdf","pdf_margin_left":"5in","pdf_margin_right":"5in"}"#,
            "pdf_margin_top",
        ),
    ];
    for (body, field) in table {
        let error = parse(body).unwrap_err();
        assert_eq!(error.blamed(), Some(field), "{body}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }
}

#[test]
fn an_unknown_field_is_named_if_it_has_the_form_of_a_name_and_its_value_never_is() {
    let refused = |name: &str| parse(&json!({"url": "https://a.example/", name: "SECRET"}).to_string()).unwrap_err();
    let longest = "n".repeat(64);
    for name in ["wndow_width", "X9", &longest] {
        let error = refused(name);
        assert_eq!((error.reason(), error.blamed()), ("unknown_field", Some(name)));
        let text = error.to_string();
        assert!(text.contains(name) && !text.contains("SECRET"), "{text}");
    }
    for name in ["", "two words", "<b>", "a.b", "größe", "line\nline", &"n".repeat(65)] {
        let error = refused(name);
        assert_eq!((error.reason(), error.blamed()), ("unknown_field", None));
        let text = error.to_string();
        assert!(
            text.starts_with("a field of the body does not exist") && !text.contains("SECRET"),
            "{text}"
        );
    }
}

/// There is no field for a file's name, a header, a switch or a time, and no text becomes one.
#[test]
fn what_would_be_a_path_a_header_a_switch_or_a_time_is_refused() {
    for (field, value) in [
        ("filename", json!("../../x")),
        ("headers", json!({"x": "a\r\nb: c"})),
        ("args", json!(["--no-sandbox"])),
        ("timeout", json!(0)),
    ] {
        let error = parse(&json!({"html_content": "x", field: value}).to_string()).unwrap_err();
        assert_eq!((error.reason(), error.blamed()), ("unknown_field", Some(field)));
    }
    for (field, value) in [
        ("format", "png --no-sandbox"),
        ("format", "png\r\nb: c"),
        ("format", "../png"),
        ("pdf_format", "--no-sandbox"),
        ("pdf_page_ranges", "1 --no-sandbox"),
        ("pdf_scale", "--no-sandbox"),
    ] {
        let mut body = json!({"html_content": "x", "format": "pdf"});
        body[field] = value.into();
        let error = parse(&body.to_string()).unwrap_err();
        assert_eq!(
            (error.reason(), error.blamed()),
            ("invalid_field", Some(field)),
            "{value}"
        );
    }
    let one = json!({"html_content": "x", "format": "pdf", "pdf_width": "1in;--no-sandbox", "pdf_height": "1in"});
    assert_eq!(parse(&one.to_string()).unwrap_err().blamed(), Some("pdf_width"));
    for url in ["--no-sandbox", "/etc/x", " fIlE:///etc/x", "jAvAsCrIpT:x"] {
        assert_eq!(
            parse(&json!({"url": url}).to_string()).unwrap_err().blamed(),
            Some("url"),
            "{url}"
        );
    }
}

#[test]
fn whatever_is_no_object_is_refused() {
    for body in ["", "[]", "7", "{", "null", r#"{"url":"x"} {}"#] {
        assert_eq!(parse(body).unwrap_err(), InvalidRequest::Syntax, "{body}");
    }
}

#[test]
fn the_area_is_bounded_beside_each_side() {
    let limits = CaptureLimits {
        max_pixels: screenshot_policy::unit::Pixels::nearest(1000),
        ..CaptureLimits::DEFAULT
    };
    let wide = br#"{"html_content":"x","window_width":101,"window_height":10}"#;
    assert_eq!(
        CaptureRequest::parse(wide, &limits).unwrap_err().blamed(),
        Some("window_width")
    );
    let fits = br#"{"html_content":"x","window_width":100,"window_height":10}"#;
    assert!(CaptureRequest::parse(fits, &limits).is_ok());
}
