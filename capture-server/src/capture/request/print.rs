//! Print options: sheet, margins, pages, header and footer.
//!
//! In: the fields that begin with `pdf_`. Out: a [`Paper`] in inches. Must not: let a length through that the browser
//! would refuse or a sheet without a printable area.

use super::InvalidRequest;
use super::fields::{Fields, wrong};
use crate::browser::Paper;

/// Every print option.
pub const FIELDS: [&str; 16] = [
    "pdf_format",
    "pdf_width",
    "pdf_height",
    "pdf_landscape",
    "pdf_print_background",
    "pdf_scale",
    "pdf_page_ranges",
    "pdf_margin_top",
    "pdf_margin_right",
    "pdf_margin_bottom",
    "pdf_margin_left",
    "pdf_prefer_css_page_size",
    "pdf_header_template",
    "pdf_footer_template",
    "pdf_tagged",
    "pdf_outline",
];

const MARGINS: [&str; 4] = [
    "pdf_margin_top",
    "pdf_margin_right",
    "pdf_margin_bottom",
    "pdf_margin_left",
];
/// Width and height in inches of the sheets that have a name.
const SHEETS: [(&str, (f64, f64)); 6] = [
    ("A3", (11.692_913, 16.535_433)),
    ("A4", (8.267_717, 11.692_913)),
    ("A5", (5.826_772, 8.267_717)),
    ("Letter", (8.5, 11.0)),
    ("Legal", (8.5, 14.0)),
    ("Tabloid", (11.0, 17.0)),
];
const UNITS: [(&str, f64); 4] = [("px", 96.0), ("in", 1.0), ("cm", 2.54), ("mm", 25.4)];
/// A sheet's side in inches.
const SIDE: (f64, f64) = (1.0, 100.0);
const DEFAULT_MARGIN: f64 = 0.4;
const MAX_TEMPLATE: usize = 8192;
const MAX_RANGES: usize = 256;
const LENGTH: &str = "must be a length such as 210mm, with the unit px, in, cm or mm";

/// Reads every print option.
pub fn paper(fields: &mut Fields) -> Result<Paper, InvalidRequest> {
    let named = fields.word("pdf_format", &SHEETS)?;
    let own = (length(fields, "pdf_width", SIDE)?, length(fields, "pdf_height", SIDE)?);
    let (width, height) = match (named, own) {
        (Some(_), (Some(_), _) | (_, Some(_))) => {
            return Err(wrong("pdf_format", "excludes pdf_width and pdf_height"));
        }
        (_, (Some(width), Some(height))) => (width, height),
        (_, (Some(_), None)) => return Err(wrong("pdf_height", "is required beside pdf_width")),
        (_, (None, Some(_))) => return Err(wrong("pdf_width", "is required beside pdf_height")),
        (named, (None, None)) => named.unwrap_or(SHEETS[1].1),
    };
    let mut margins = [DEFAULT_MARGIN; 4];
    for (margin, field) in margins.iter_mut().zip(MARGINS) {
        *margin = length(fields, field, (0.0, SIDE.1))?.unwrap_or(DEFAULT_MARGIN);
    }
    let landscape = fields.flag("pdf_landscape")?.unwrap_or(false);
    let (across, down) = if landscape { (height, width) } else { (width, height) };
    let [top, right, bottom, left] = margins;
    if left + right >= across || top + bottom >= down {
        return Err(wrong(
            "pdf_margin_top",
            "and the other margins must leave room on the sheet",
        ));
    }
    Ok(Paper {
        width,
        height,
        margins,
        landscape,
        background: fields.flag("pdf_print_background")?.unwrap_or(true),
        scale: fields.number("pdf_scale", 0.1, 2.0)?.unwrap_or(1.0),
        ranges: ranges(fields)?,
        css_size: fields.flag("pdf_prefer_css_page_size")?.unwrap_or(false),
        header_footer: templates(fields)?,
        tagged: fields.flag("pdf_tagged")?.unwrap_or(true),
        outline: fields.flag("pdf_outline")?.unwrap_or(false),
    })
}

fn templates(fields: &mut Fields) -> Result<Option<(String, String)>, InvalidRequest> {
    let header = fields.text("pdf_header_template", MAX_TEMPLATE)?;
    let footer = fields.text("pdf_footer_template", MAX_TEMPLATE)?;
    // Without a template of its own the browser would print its default one, with the page's address.
    let blank = || "<span></span>".to_owned();
    Ok((header.is_some() || footer.is_some()).then(|| (header.unwrap_or_else(blank), footer.unwrap_or_else(blank))))
}

fn ranges(fields: &mut Fields) -> Result<String, InvalidRequest> {
    let Some(text) = fields.text("pdf_page_ranges", MAX_RANGES)? else {
        return Ok(String::new());
    };
    let page = |text: &str| text.trim().parse::<u16>().ok().filter(|page| *page > 0);
    let good = text.split(',').all(|part| match part.split_once('-') {
        None => page(part).is_some(),
        Some((first, last)) => matches!((page(first), page(last)), (Some(first), Some(last)) if first <= last),
    });
    if good {
        Ok(text)
    } else {
        Err(wrong("pdf_page_ranges", "must be pages such as 1-3, 5"))
    }
}

/// A length in inches within bounds.
fn length(fields: &mut Fields, field: &'static str, (least, most): (f64, f64)) -> Result<Option<f64>, InvalidRequest> {
    let Some(text) = fields.text(field, 16).map_err(|_| wrong(field, LENGTH))? else {
        return Ok(None);
    };
    let unit = UNITS
        .iter()
        .find_map(|(unit, per_inch)| Some((text.strip_suffix(unit)?, per_inch)));
    let inches = unit.and_then(|(number, per_inch)| Some(number.trim().parse::<f64>().ok()? / per_inch));
    let inches = inches.ok_or_else(|| wrong(field, LENGTH))?;
    if (least..=most).contains(&inches) {
        Ok(Some(inches))
    } else {
        Err(wrong(field, format!("must be a length from {least} to {most} inches")))
    }
}
