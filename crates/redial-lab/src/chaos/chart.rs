//! The picture of what was done to the programs over time.

use super::event_log::{ChaosEvent, TimedEvent};
use crate::{
    crash::chart::Time,
    harness::balancer::Trick,
    report::svg::{Anchor, Svg},
};

const TOP: f64 = 8.0;
const LANE: f64 = 34.0;

/// What shares a lane, and its name.
const LANES: [(&str, &[ChaosEvent]); 8] = [
    (
        "clients killed",
        &[ChaosEvent::ClientKilled, ChaosEvent::TokenClientKilled],
    ),
    (
        "server or clients frozen",
        &[ChaosEvent::ServerFrozen, ChaosEvent::ClientFrozen],
    ),
    (
        "backends late or down behind the balancer",
        &[
            ChaosEvent::Balanced(Trick::Late),
            ChaosEvent::Balanced(Trick::Closed),
            ChaosEvent::Balanced(Trick::Reset),
            ChaosEvent::Balanced(Trick::Held),
        ],
    ),
    (
        "connections cut, frames truncated",
        &[ChaosEvent::Cut, ChaosEvent::Truncated],
    ),
    (
        "requests and replies doubled",
        &[ChaosEvent::Duplicated, ChaosEvent::ReplyDuplicated],
    ),
    ("held back, then let through", &[ChaosEvent::LetThrough]),
    ("directions stalled", &[ChaosEvent::Stalled]),
    (
        "floods, half-open frames, garbage, unread replies",
        &[
            ChaosEvent::Flood,
            ChaosEvent::HalfOpen,
            ChaosEvent::Garbage,
            ChaosEvent::NotRead,
        ],
    ),
];

/// One lane for each kind of event; the darker, the more of them at that time.
pub(super) fn draw(time: &Time, events: &[TimedEvent]) -> String {
    let height = TOP + LANE * LANES.len() as f64;
    let described = LANES.map(|(name, kinds)| format!("{name}: {}", count(events, kinds)));
    let title = "What was done to the programs over time";
    let mut svg = Svg::new(
        &time.room.slug("events"),
        (time.width(), height),
        title,
        &described.join("; "),
    );
    for (index, (name, kinds)) in LANES.iter().enumerate() {
        let top = TOP + LANE * index as f64;
        let label = format!("{name} ({})", count(events, kinds));
        svg.text("axis", (0.0, top + 10.0), Anchor::Start, &label);
        lane(&mut svg, time, events, kinds, top + 16.0);
    }
    svg.finish()
}

fn lane(svg: &mut Svg, time: &Time, events: &[TimedEvent], kinds: &[ChaosEvent], top: f64) {
    let mut bins = vec![0u64; time.bins()];
    for timed in events {
        if kinds.contains(&timed.event) {
            bins[time.bin(timed.t_us)] += 1;
        }
    }
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let ((left, right), width) = (Time::ends(time.room), time.step());
    svg.line("grid", (left, top + 12.0), (right, top + 12.0));
    for (index, count) in bins.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let at = (left + width * index as f64, top);
        // A single one must be visible beside a hundred.
        let share = 0.25 + 0.75 * count as f64 / most;
        svg.heat(at, (width - 0.6, 12.0), share, &count.to_string());
    }
}

fn count(events: &[TimedEvent], kinds: &[ChaosEvent]) -> usize {
    let of_kind = events.iter().filter(|timed| kinds.contains(&timed.event));
    of_kind.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::room::Room;

    #[test]
    fn every_lane_counts_its_own_and_an_empty_picture_is_one_too() {
        let time = Time::of([].iter(), Room::Wide);
        let events = [ChaosEvent::Cut, ChaosEvent::Truncated, ChaosEvent::Stalled];
        let events = events.map(|event| TimedEvent { t_us: 1, event });
        let svg = draw(&time, &events);
        assert!(svg.contains("truncated (2)") && svg.contains("stalled (1)"));
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(draw(&time, &[]).contains("cut, frames truncated (0)"));
    }
}
