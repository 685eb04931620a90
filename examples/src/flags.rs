//! Numbers in flags, and what is said where one is out of its range.

/// A parser of whole numbers from `least` to `most`, whose error says so; [`u64::MAX`] is as good
/// as no end.
///
/// ```
/// use redial_examples::flags::whole;
///
/// assert_eq!(whole::<u32>(1, 64)("7"), Ok(7));
/// assert_eq!(whole::<u32>(1, 64)("0").unwrap_err(), "expected a whole number from 1 to 64");
/// ```
///
/// # Errors
///
/// The parser's: for what is no whole number, out of range, or beyond `N`.
pub fn whole<N: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| match most {
                u64::MAX => format!("expected a whole number from {least}"),
                _ => format!("expected a whole number from {least} to {most}"),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_within_and_what_is_beyond_is_told_them() {
        let few = whole::<u8>(2, 300);
        assert_eq!((few("2"), few("255")), (Ok(2), Ok(255)));
        for wrong in ["1", "256", "301", "-1", "1.5", "", "many"] {
            let told = few(wrong).unwrap_err();
            assert_eq!(told, "expected a whole number from 2 to 300", "{wrong}");
        }
        let any = whole::<u64>(1, u64::MAX);
        assert_eq!(any("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(any("0").unwrap_err(), "expected a whole number from 1");
    }
}
