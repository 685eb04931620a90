//! The numbers and addresses that flags take: those of the program `redial`, and waits with a heavy tail.

use std::{ops::RangeInclusive, time::Duration};

pub use redial_cli::flags::{DAY_MS, PORTS, SEEDS, Whole, address, addresses, number, whole};
use redial_server::Delay;

/// The shortest of waits with a heavy tail, in milliseconds.
const PARETO_MS: RangeInclusive<f64> = 0.001..=600_000.0;

/// How light the tail is: below 1 even the average is infinite, at 1000 the tail is gone.
const PARETO_SHAPE: RangeInclusive<f64> = 0.01..=1000.0;

/// Reads a Pareto distribution of waits, `MS:SHAPE`.
///
/// # Errors
///
/// What was expected, if it is written otherwise or a number is out of range.
pub fn pareto(text: &str) -> Result<Delay, String> {
    let read = || {
        let (scale, shape) = text.split_once(':')?;
        let scale = number("MS", PARETO_MS)(scale).ok()?;
        let shape = number("SHAPE", PARETO_SHAPE)(shape).ok()?;
        let scale = Duration::from_secs_f64(scale / 1e3);
        Some(Delay::Pareto { scale, shape })
    };
    read().ok_or_else(|| {
        format!(
            "expected MS:SHAPE, such as 2:1.5, with MS from {} to {} and SHAPE from {} to {}",
            PARETO_MS.start(),
            PARETO_MS.end(),
            PARETO_SHAPE.start(),
            PARETO_SHAPE.end()
        )
    })
}
