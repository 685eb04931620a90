//! How figures are written: on a screen, in a table and on a page alike.

use std::time::Duration;

/// A number with a comma before each three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// So many per second. What happens at all is never 0.
pub(crate) fn rate(per_s: f64) -> String {
    if per_s > 0.0 && per_s < 0.05 {
        return "<0.1".to_owned();
    }
    if per_s > 0.0 && per_s < 9.95 {
        return format!("{per_s:.1}");
    }
    thousands(per_s.round() as u64)
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A duration in microseconds, in three digits and the unit that suits it.
pub(crate) fn latency(us: f64) -> String {
    let digits = |value: f64| match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    match us {
        _ if us < 0.5 => "0 us".to_owned(),
        _ if us < 999.5 => format!("{us:.0} us"),
        _ if us < 999_500.0 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// Memory, in the unit that suits it.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, units[0]);
    for larger in &units[1..] {
        if size >= 1023.95 {
            (size, unit) = (size / 1024.0, larger);
        }
    }
    format!("{size:.1} {unit}")
}

/// A percentage that is 100 only if it is all.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 100.0 && percent > 99.99 {
        return "99.99 %".to_owned();
    }
    format!("{percent:.2} %")
}

/// A text that fits into so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_their_unit() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.001, 0.05, 9.94, 49_999.6].map(rate),
            ["0", "<0.1", "0.1", "9.9", "50,000"]
        );
        let texts = [
            0.0, 999.4, 999.6, 9_996.0, 99_960.0, 999_499.0, 999_501.0, 12e6, 360e6,
        ]
        .map(latency);
        let expected = [
            "0 us", "999 us", "1.00 ms", "10.0 ms", "100 ms", "999 ms", "1.00 s", "12.0 s", "360 s",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn memory_has_the_unit_that_suits_it() {
        let texts = [0, 1023, 1024, 1024 * 1024 - 1, 5 << 40, u64::MAX].map(bytes);
        let expected = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.0 MiB",
            "5.0 TiB",
            "16777216.0 TiB",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn all_but_one_is_not_all() {
        let texts = [1.0, 0.999_999, 0.5, 0.0].map(percent);
        assert_eq!(texts, ["100.00 %", "99.99 %", "50.00 %", "0.00 %"]);
    }

    #[test]
    fn a_text_is_cut_at_a_letter() {
        assert_eq!(fit("äöüäöü", 6), "äöüäöü");
        assert_eq!(fit("äöüäöüä", 6), "äöüäö…");
    }
}
