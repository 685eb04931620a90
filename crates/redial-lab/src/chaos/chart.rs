//! What was done to the programs over time, under the picture of how their calls ended.

use super::diary::Deed;
use crate::{
    report::svg::{Anchor, Svg},
    restarts::chart::{BINS, LEFT, RIGHT, Time, WIDTH},
};

const TOP: f64 = 8.0;
const LANE: f64 = 30.0;

/// What shares a lane, and its name.
const LANES: [(&str, &[Deed]); 6] = [
    ("clients killed", &[Deed::ClientKilled, Deed::SaverKilled]),
    (
        "connections cut, frames truncated",
        &[Deed::Cut, Deed::Truncated],
    ),
    (
        "requests and replies doubled",
        &[Deed::Duplicated, Deed::ReplyDuplicated],
    ),
    ("held back, then let through", &[Deed::LetThrough]),
    ("directions stalled", &[Deed::Stalled]),
    (
        "floods, half-open frames, garbage, unread replies",
        &[Deed::Flood, Deed::HalfOpen, Deed::Garbage, Deed::NotRead],
    ),
];

/// One lane for each kind of deed; the darker, the more of them at that time.
pub(super) fn draw(time: &Time, deeds: &[(u64, Deed)]) -> String {
    let height = TOP + LANE * LANES.len() as f64;
    let described = LANES.map(|(name, kinds)| format!("{name}: {}", count(deeds, kinds)));
    let title = "What was done to the programs over time";
    let mut svg = Svg::new("deeds", (WIDTH, height), title, &described.join("; "));
    for (index, (name, kinds)) in LANES.iter().enumerate() {
        let top = TOP + LANE * index as f64;
        let label = format!("{name} ({})", count(deeds, kinds));
        svg.text("axis", (LEFT, top + 9.0), Anchor::Start, &label);
        lane(&mut svg, time, deeds, kinds, top + 13.0);
    }
    svg.finish()
}

fn lane(svg: &mut Svg, time: &Time, deeds: &[(u64, Deed)], kinds: &[Deed], top: f64) {
    let mut bins = [0u64; BINS];
    for (t_us, deed) in deeds {
        if kinds.contains(deed) {
            bins[time.bin(*t_us)] += 1;
        }
    }
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = (RIGHT - LEFT) / BINS as f64;
    svg.line("grid", (LEFT, top + 12.0), (RIGHT, top + 12.0));
    for (index, count) in bins.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let at = (LEFT + width * index as f64, top);
        // One of them is to be seen beside a hundred.
        let share = 0.25 + 0.75 * count as f64 / most;
        svg.heat(at, (width - 0.6, 12.0), share, &count.to_string());
    }
}

fn count(deeds: &[(u64, Deed)], kinds: &[Deed]) -> usize {
    let of_kind = deeds.iter().filter(|(_, deed)| kinds.contains(deed));
    of_kind.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_counts_its_own_and_an_empty_picture_is_one_too() {
        let time = Time::of([].iter());
        let deeds = [(1, Deed::Cut), (2, Deed::Truncated), (3, Deed::Stalled)];
        let svg = draw(&time, &deeds);
        assert!(svg.contains("truncated (2)") && svg.contains("stalled (1)"));
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(draw(&time, &[]).contains("cut, frames truncated (0)"));
    }
}
