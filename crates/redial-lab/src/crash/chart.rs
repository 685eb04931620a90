//! The picture of how the calls ended over time, with every kill.

use super::lives::Outage;
use crate::{
    harness::events::{Call, Outcome},
    report::{
        room::{NARROW, Room},
        scale::{Scale, duration, thousands},
        series::{legend, swatch},
        svg::{Anchor, Svg},
    },
};

const TOP: f64 = 24.0;
/// The bars' ground, and below it the one of the dots.
const BARS: f64 = 240.0;
const DOTS: (f64, f64) = (280.0, 420.0);

/// The outcomes from the ground up, each with its class and its name.
const STACK: [(Outcome, &str, &str); 4] = [
    (Outcome::Ok, "ok", "ok"),
    (Outcome::Failed, "failed", "failed"),
    (Outcome::NotExecuted, "not-executed", "not executed"),
    (Outcome::Unknown, "unknown", "unknown"),
];

/// What the colours mean; `outage` is what the tinted times are.
pub(crate) fn key(outage: &str) -> String {
    let outcomes = STACK.map(|(_, class, name)| (swatch(class), name.to_owned()));
    legend(
        outcomes
            .into_iter()
            .chain([(swatch("outage"), outage.to_owned())]),
    )
}

/// The calls of one slice of time.
#[derive(Clone, Default)]
struct Bin {
    ended: [u64; STACK.len()],
    longest_us: u64,
}

/// A run's axis of time, in a room.
pub(crate) struct Time {
    start_us: u64,
    pub(crate) scale: Scale,
    pub(crate) room: Room,
}

impl Time {
    pub(crate) fn of<'a>(calls: impl Iterator<Item = &'a Call> + Clone, room: Room) -> Self {
        let start_us = calls.clone().map(|call| call.start_us).min().unwrap_or(0);
        let end_us = calls.map(|call| call.end_us).max().unwrap_or(0);
        let seconds = end_us.saturating_sub(start_us).max(1) as f64 / 1e6;
        let (left, right) = Self::ends(room);
        Self {
            start_us,
            scale: Scale::linear((0.0, seconds), (left, right)),
            room,
        }
    }

    /// How wide a picture over time is.
    pub(crate) fn width(&self) -> f64 {
        self.room.pick(1000.0, NARROW)
    }

    /// Where the axis begins and ends.
    pub(crate) fn ends(room: Room) -> (f64, f64) {
        room.pick((64.0, 990.0), (58.0, NARROW - 6.0))
    }

    /// Into how many slices it is cut.
    pub(crate) fn bins(&self) -> usize {
        self.room.pick(120, 48)
    }

    /// How wide a slice is.
    pub(crate) fn step(&self) -> f64 {
        let (left, right) = Self::ends(self.room);
        (right - left) / self.bins() as f64
    }

    fn at(&self, t_us: u64) -> f64 {
        self.scale
            .at(t_us.saturating_sub(self.start_us) as f64 / 1e6)
    }

    pub(crate) fn bin(&self, t_us: u64) -> usize {
        let (left, _) = Self::ends(self.room);
        let bin = (self.at(t_us) - left) / self.step();
        (bin as usize).min(self.bins() - 1)
    }
}

/// Two pictures over one axis: how many calls ended how, and how long the longest of them took.
pub(crate) fn draw<'a>(
    calls: impl Iterator<Item = &'a Call> + Clone,
    outages: &[Outage],
    room: Room,
) -> String {
    let time = Time::of(calls.clone(), room);
    let bins = fill(calls, &time);
    let text = describe(&bins, outages);
    let title = "How the calls ended over time";
    let size = (time.width(), DOTS.1 + 46.0);
    let mut svg = Svg::new(&room.slug("restarts"), size, title, &text);
    for outage in outages {
        let (from, to) = (time.at(outage.from_us), time.at(outage.to_us));
        let tip = format!(
            "killed; back after {}",
            duration(outage.to_us.saturating_sub(outage.from_us) as f64)
        );
        let size = ((to - from).max(1.5), DOTS.1 - TOP);
        svg.rect("outage", (from, TOP), size, &tip);
    }
    bars(&mut svg, &time, &bins);
    dots(&mut svg, &time, &bins);
    for tick in time.scale.ticks(room.pick(10.0, 4.0)) {
        let at = (time.scale.at(tick), DOTS.1 + 18.0);
        let label = format!("{} s", (tick * 1000.0).round() / 1000.0);
        svg.text("tick", at, Anchor::Middle, &label);
    }
    let (left, right) = Time::ends(room);
    let middle = (f64::midpoint(left, right), DOTS.1 + 40.0);
    svg.text("axis", middle, Anchor::Middle, "since the first call");
    svg.finish()
}

fn fill<'a>(calls: impl Iterator<Item = &'a Call>, time: &Time) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); time.bins()];
    for call in calls {
        let bin = &mut bins[time.bin(call.end_us)];
        let layer = STACK.iter().position(|(of, _, _)| *of == call.outcome);
        bin.ended[layer.expect("every outcome is in the stack")] += 1;
        let took = call.took_us();
        bin.longest_us = bin.longest_us.max(took);
    }
    bins
}

fn bars(svg: &mut Svg, time: &Time, bins: &[Bin]) {
    let (left, right) = Time::ends(time.room);
    let total = |bin: &Bin| bin.ended.iter().sum::<u64>();
    let most = bins.iter().map(total).max().unwrap_or(0).max(1);
    let y = Scale::linear((0.0, most as f64), (BARS, TOP));
    for tick in y.ticks(4.0) {
        svg.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        let label = thousands(tick as u64);
        svg.text("tick", (left - 8.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    svg.text("axis", (0.0, TOP - 10.0), Anchor::Start, "calls that ended");
    let width = time.step();
    for (index, bin) in bins.iter().enumerate() {
        let mut below = 0;
        for (layer, (_, class, name)) in STACK.iter().enumerate() {
            let count = bin.ended[layer];
            if count == 0 {
                continue;
            }
            let (bottom, top) = (y.at(below as f64), y.at((below + count) as f64));
            // One call of thousands must not vanish.
            let height = (bottom - top).max(2.0);
            let at = (left + width * index as f64, bottom - height);
            let tip = format!("{name}: {}", thousands(count));
            svg.rect(class, at, (width - 0.6, height), &tip);
            below += count;
        }
    }
    svg.line("base", (left, BARS), (right, BARS));
}

fn dots(svg: &mut Svg, time: &Time, bins: &[Bin]) {
    let (left, right) = Time::ends(time.room);
    let (top, bottom) = DOTS;
    let most = bins.iter().map(|bin| bin.longest_us).max().unwrap_or(0);
    let least = bins.iter().map(|bin| bin.longest_us).filter(|us| *us > 0);
    let least = least.min().unwrap_or(1000).min(1000) as f64;
    let y = Scale::log((least, (most as f64).max(10_000.0) * 1.5), (bottom, top));
    for tick in y.ticks(0.0) {
        svg.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        let label = duration(tick).replace(".0 ", " ");
        svg.text("tick", (left - 8.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    let text = "the longest of them took (log scale)";
    svg.text("axis halo", (0.0, top - 14.0), Anchor::Start, text);
    let width = time.step();
    for (index, bin) in bins.iter().enumerate() {
        if bin.longest_us > 0 {
            let x = left + width * (index as f64 + 0.5);
            let tip = duration(bin.longest_us as f64);
            svg.circle("longest", (x, y.at(bin.longest_us as f64)), 2.6, &tip);
        }
    }
    svg.line("base", (left, bottom), (right, bottom));
}

fn describe(bins: &[Bin], outages: &[Outage]) -> String {
    let ended = STACK.iter().enumerate().map(|(layer, (_, _, name))| {
        let count: u64 = bins.iter().map(|bin| bin.ended[layer]).sum();
        format!("{name}: {}", thousands(count))
    });
    let ended: Vec<_> = ended.collect();
    format!("{}; kills: {}", ended.join(", "), outages.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_in_the_picture() {
        let call = |end_us, outcome| Call {
            number: 0,
            outcome,
            start_us: end_us - 900,
            end_us,
            value: None,
            error: None,
            attempts: Vec::new(),
        };
        let calls = [
            call(1_000_000, Outcome::Ok),
            call(1_500_000, Outcome::Unknown),
            call(2_000_000, Outcome::Failed),
            call(2_000_000, Outcome::NotExecuted),
        ];
        let bins = fill(calls.iter(), &Time::of(calls.iter(), Room::Narrow));
        let sum = |layer: usize| bins.iter().map(|bin| bin.ended[layer]).sum::<u64>();
        assert_eq!([0, 1, 2, 3].map(sum), [1; 4]);
        assert_eq!(bins[bins.len() - 1].longest_us, 900);
        let outage = Outage {
            from_us: 1_200_000,
            to_us: 1_300_000,
        };
        for room in [Room::Wide, Room::Narrow] {
            let svg = draw(calls.iter(), &[outage], room);
            assert!(svg.contains("back after 100 ms"), "{svg}");
            assert!(!svg.contains("NaN"), "{svg}");
            assert!(!draw([].iter(), &[], room).contains("NaN"));
        }
    }
}
