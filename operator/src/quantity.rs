//! Quantities are written in more ways than one, such as `1000m` and `1`: the API server rewrites them.
//!
//! In: texts. Out: whether they are the same amount, or which is the larger.

/// Whether both are quantities of the same amount.
pub fn same(a: &str, b: &str) -> bool {
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

/// The larger of two amounts; the first where that cannot be told.
pub fn larger<'a>(one: &'a str, other: &'a str) -> &'a str {
    match (parse(one), parse(other)) {
        (Some(a), Some(b)) if b > a => other,
        _ => one,
    }
}

/// The smaller of two amounts; the first where that cannot be told.
pub fn smaller<'a>(one: &'a str, other: &'a str) -> &'a str {
    match (parse(one), parse(other)) {
        (Some(a), Some(b)) if b < a => other,
        _ => one,
    }
}

/// Billionths. `None` for what is not a plain quantity: exponents are not written by anybody here.
fn parse(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "G" => 1_000_000_000_000_000_000,
        "T" => 1_000_000_000_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_two_amounts_whatever_their_units() {
        for (one, other, expected) in [
            ("2", "200m", "2"),
            ("2", "2500m", "2500m"),
            ("2", "2000m", "2"),
            ("2", "16", "16"),
            ("1536Mi", "256Mi", "1536Mi"),
            ("1536Mi", "2Gi", "2Gi"),
            ("512Mi", "513Mi", "513Mi"),
        ] {
            assert_eq!(larger(one, other), expected);
            let left = if expected == one { other } else { one };
            assert!(same(smaller(one, other), left), "{one} {other}");
        }
    }

    #[test]
    fn the_same_amount_is_the_same_however_it_is_written() {
        for (a, b) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("2k", "2000"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [("1", "2"), ("1Gi", "1G"), ("x", "x"), ("", ""), ("1e3", "1000")] {
            assert!(!same(a, b), "{a} {b}");
        }
    }
}
