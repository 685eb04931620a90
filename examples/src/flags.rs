//! Parsers of flags, whose errors say what would be right.

use redial_protocol::Address;

/// A parser of whole numbers from `least` to `most`; [`u64::MAX`] means no upper bound.
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
/// The parser's: for text that is no whole number, out of range, or beyond `N`.
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

/// Parses the address of a server.
///
/// # Errors
///
/// For text that is not `HOST:PORT`.
pub fn address(text: &str) -> Result<Address, String> {
    let address = Address::from(text);
    match address.check() {
        Ok(()) => Ok(address),
        Err(_) => Err("expected HOST:PORT, such as 127.0.0.1:7077".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_valid_and_the_error_names_them() {
        let few = whole::<u8>(2, 300);
        assert_eq!((few("2"), few("255")), (Ok(2), Ok(255)));
        for wrong in ["1", "256", "301", "-1", "1.5", "", "many"] {
            let error = few(wrong).unwrap_err();
            assert_eq!(error, "expected a whole number from 2 to 300", "{wrong}");
        }
        let any = whole::<u64>(1, u64::MAX);
        assert_eq!(any("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(any("0").unwrap_err(), "expected a whole number from 1");
    }
}
