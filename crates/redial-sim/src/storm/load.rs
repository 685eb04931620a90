//! Calls that come whether those before have ended or not: an open loop.

use std::time::Duration;

use tokio::time::sleep_until;

use super::ground::Ground;
use crate::{clock, rng::Rng};

/// Begins calls at random moments from now `until` then, so many a second as `rate` says for each moment.
pub(crate) async fn open_loop(
    ground: &Ground,
    stream: u32,
    until: Duration,
    rate: impl Fn(Duration) -> f64,
    mut begin: impl FnMut(&mut Rng),
) {
    let mut rng = ground.rng(stream);
    let mut at = ground.elapsed();
    loop {
        // Intervals of a Poisson process.
        let gap = -rng.unit().ln() / rate(at);
        at += Duration::from_secs_f64(gap);
        if at >= until {
            break;
        }
        let moment = ground.start + at;
        if moment > clock::now() {
            sleep_until(moment).await;
        }
        begin(&mut rng);
    }
    sleep_until(ground.start + until).await;
}
