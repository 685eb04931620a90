//! The numbers, times and addresses that flags take: their ranges by name, and what the error says of
//! one that is out of range.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use redial_client::{Address, Addresses};
use redial_protocol::{DurationError, DurationText};

/// Whole numbers, both ends included.
pub type Whole = RangeInclusive<i128>;

/// TCP ports to connect to.
pub const PORTS: Whole = 1..=65_535;

/// Seeds of random generators: any 64 bits.
pub const SEEDS: Whole = 0..=u64::MAX as i128;

/// A day, in milliseconds: longer than any wait that is meant.
pub const DAY_MS: i128 = 24 * 60 * 60 * 1000;

/// A parser of whole numbers in a range, whose error says the range.
///
/// ```
/// use redial_cli::flags::whole;
///
/// assert_eq!(whole::<u32>(1..=64)("7"), Ok(7));
/// assert_eq!(whole::<u32>(1..=64)("0").unwrap_err(), "expected a whole number from 1 to 64");
/// ```
///
/// # Errors
///
/// The parser's: for what is no whole number, out of range, or beyond `N`.
pub fn whole<N: TryFrom<i128>>(
    range: Whole,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| expected("a whole number", &range))
    }
}

/// A parser of numbers in a range, whose error says the range and calls the number by its name.
///
/// ```
/// use redial_cli::flags::number;
///
/// let probability = number("a probability", 0.0..=1.0);
/// assert_eq!(probability("0.25"), Ok(0.25));
/// assert_eq!(probability("NaN").unwrap_err(), "expected a probability from 0 to 1");
/// ```
///
/// # Errors
///
/// The parser's: for what is no number, or out of range.
pub fn number(
    name: &'static str,
    range: RangeInclusive<f64>,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| expected(name, &range))
    }
}

/// Parses the address of a server to connect to, or those of several, with commas in between.
///
/// # Errors
///
/// Of the first of them that [`address`] does not take.
pub fn addresses(text: &str) -> Result<Addresses, String> {
    let addresses = Addresses::from(text);
    let each = addresses.iter().map(|one| address(one.as_str()));
    each.collect::<Result<Vec<_>, _>>()?;
    Ok(addresses)
}

/// Parses the address of a server to connect to.
///
/// # Errors
///
/// For text that is neither `HOST:PORT` nor a Unix socket's, and for port 0, on which none listens.
pub fn address(text: &str) -> Result<Address, String> {
    let (address, (least, most)) = (Address::from(text), PORTS.into_inner());
    if address.unix_path().is_some() {
        return match address.check() {
            Ok(()) => Ok(address),
            Err(error) => Err(error.to_string()),
        };
    }
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    if address.check().is_ok() && whole::<u16>(PORTS)(port).is_ok() {
        return Ok(address);
    }
    let expected = "expected HOST:PORT, such as 127.0.0.1:7077, with a port";
    Err(format!("{expected} from {least} to {most}, or unix:/path"))
}

fn expected<N: Display>(name: &str, range: &RangeInclusive<N>) -> String {
    format!("expected {name} from {} to {}", range.start(), range.end())
}

/// Reads a duration, such as `250ms`, `1.5s` or `2m`: a number and one of the units `us`, `ms`, `s`, `m` and
/// `h`, longer than nothing and at most a day.
///
/// ```
/// use std::time::Duration;
/// use redial_cli::flags::duration;
///
/// assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
/// assert!(duration("5").unwrap_err().starts_with("expected a duration with its unit"));
/// ```
///
/// # Errors
///
/// Says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let day = Duration::from_millis(DAY_MS as u64);
    let longer = |error: DurationError| format!("{error}, of at most a day");
    let DurationText(duration) = text.parse().map_err(longer)?;
    if duration.is_zero() || duration > day {
        return Err(longer(DurationError));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_valid_and_the_error_names_them() {
        let few = whole::<u8>(2..=300);
        assert_eq!((few("2"), few("255")), (Ok(2), Ok(255)));
        for wrong in ["1", "256", "301", "-1", "1.5", "", "many", " 7", "1_000"] {
            let error = few(wrong).unwrap_err();
            assert_eq!(error, "expected a whole number from 2 to 300", "{wrong}");
        }
        let any = whole::<u64>(SEEDS);
        assert_eq!(any("18446744073709551615"), Ok(u64::MAX));
        assert!(any("18446744073709551616").is_err());
        let least = i128::from(i64::MIN);
        assert_eq!(
            whole::<i64>(least..=7)("-9223372036854775808"),
            Ok(i64::MIN)
        );
    }

    #[test]
    fn only_finite_numbers_are_in_a_range() {
        let factor = number("a factor", 1.0..=1000.0);
        assert_eq!((factor("1"), factor("1e3")), (Ok(1.0), Ok(1000.0)));
        for wrong in ["0.99", "1000.1", "NaN", "inf", "-inf", "1e999", "", "many"] {
            let error = factor(wrong).unwrap_err();
            assert_eq!(error, "expected a factor from 1 to 1000", "{wrong}");
        }
    }

    #[test]
    fn an_address_to_connect_to_has_a_host_and_a_port() {
        for right in [
            "127.0.0.1:1",
            "[::1]:7077",
            "localhost:65535",
            "unix:/run/a.sock",
        ] {
            assert_eq!(address(right), Ok(right.into()));
        }
        for wrong in [
            "",
            "localhost",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:-1",
            "a: 7",
            "unix:a",
        ] {
            let error = address(wrong).unwrap_err();
            assert!(error.starts_with("expected HOST:PORT"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration("50us"), duration("50µs"));
        for wrong in [
            "", "5", "s", "0s", "-1s", "1e3s", "5 s", "25h", "5d", ".s", "NaNs", "1.2.3s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
