//! Sizes and counts as people write and read them.

/// `4096`, `4k`, `64K`, `1G`, `1GiB`: powers of 1024. `None` when it is none of these, or too large.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit
        .to_ascii_lowercase()
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `4 KiB`, `1.50 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value.fract() > 0.005 { 2 } else { 0 };
    format!("{value:.decimals$} {}", units[unit])
}

/// As an option takes it: `64M`, `960k`. Less than a KiB is left out.
pub(crate) fn option(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => format!("{}G", bytes >> 30),
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ => format!("{}k", bytes >> 10),
    }
}

/// `1,234,567`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4k", 4096),
            ("64KiB", 65_536),
            ("3m", 3 << 20),
            ("1G", 1 << 30),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "k", "1.5G", "-1", "1X", "1 G", "99999999999T"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_and_counts_are_written_as_people_read_them() {
        assert_eq!(
            [size(512), size(4096), size(3 << 29)],
            ["512 bytes", "4 KiB", "1.50 GiB"]
        );
        assert_eq!(
            [option(3 << 30), option(3 << 29), option(12_288)],
            ["3G", "1536M", "12k"]
        );
        assert_eq!(
            [grouped(0.4), grouped(999.0), grouped(1_234_567.0)],
            ["0", "999", "1,234,567"]
        );
    }
}
