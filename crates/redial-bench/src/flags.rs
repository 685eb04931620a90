//! Numbers in flags, and what is said where one is out of its range.

/// A parser of whole numbers from `least` to `most`, whose error says so.
pub fn whole<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
}

/// Reads seconds, with a fraction if need be.
///
/// # Errors
///
/// What is expected instead.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_told_its_range() {
        assert_eq!(whole::<usize>(1, 9)("9"), Ok(9));
        assert!(whole::<usize>(1, 9)("10").unwrap_err().contains("1 to 9"));
        assert!(whole::<u8>(1, 999)("300").is_err());
        assert_eq!(seconds("0.5"), Ok(0.5));
        for wrong in ["-1", "NaN", "3601", "x"] {
            assert!(seconds(wrong).unwrap_err().contains("0 to 3600"), "{wrong}");
        }
    }
}
