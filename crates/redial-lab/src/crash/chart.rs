//! The picture of how the calls ended over time, with every kill.

use super::lives::Outage;
use crate::{
    harness::events::{Call, Outcome},
    report::{
        scale::{Scale, duration, thousands},
        svg::{Anchor, Svg},
    },
};

pub(crate) const WIDTH: f64 = 1100.0;
pub(crate) const LEFT: f64 = 64.0;
pub(crate) const RIGHT: f64 = 1090.0;
const TOP: f64 = 24.0;
/// The bars' ground, and below it the one of the dots.
const BARS: f64 = 240.0;
const DOTS: (f64, f64) = (280.0, 420.0);
pub(crate) const BINS: usize = 120;

/// The outcomes from the ground up, each with its class and its name.
const STACK: [(Outcome, &str, &str); 4] = [
    (Outcome::Ok, "session", "ok"),
    (Outcome::Failed, "lost-bar", "failed"),
    (Outcome::NotExecuted, "soft-bar", "not executed"),
    (Outcome::Unknown, "naive", "unknown"),
];

/// What the colours mean.
pub(crate) const LEGEND: &str = "<p class=\"legend\"><span><i class=\"key square session\"></i>ok</span>\
    <span><i class=\"key square naive\"></i>unknown</span><span><i class=\"key square soft-bar\"></i>not \
    executed</span><span><i class=\"key square lost-bar\"></i>failed</span><span><i class=\"key \
    square outage\"></i>no server: from a kill to the next start</span></p>";

/// The calls of one slice of time.
#[derive(Clone, Default)]
struct Bin {
    ended: [u64; STACK.len()],
    longest_us: u64,
}

/// A run's axis of time.
pub(crate) struct Time {
    start_us: u64,
    pub(crate) scale: Scale,
}

impl Time {
    pub(crate) fn of<'a>(calls: impl Iterator<Item = &'a Call> + Clone) -> Self {
        let start_us = calls.clone().map(|call| call.start_us).min().unwrap_or(0);
        let end_us = calls.map(|call| call.end_us).max().unwrap_or(0);
        let seconds = end_us.saturating_sub(start_us).max(1) as f64 / 1e6;
        Self {
            start_us,
            scale: Scale::linear((0.0, seconds), (LEFT, RIGHT)),
        }
    }

    fn at(&self, t_us: u64) -> f64 {
        self.scale
            .at(t_us.saturating_sub(self.start_us) as f64 / 1e6)
    }

    pub(crate) fn bin(&self, t_us: u64) -> usize {
        let share = (self.at(t_us) - LEFT) / (RIGHT - LEFT);
        ((share * BINS as f64) as usize).min(BINS - 1)
    }
}

/// Two pictures over one axis: how many calls ended how, and how long the longest of them took.
pub(crate) fn draw<'a>(
    calls: impl Iterator<Item = &'a Call> + Clone,
    outages: &[Outage],
) -> String {
    let time = Time::of(calls.clone());
    let bins = fill(calls, &time);
    let text = describe(&bins, outages);
    let title = "How the calls ended over time";
    let size = (WIDTH, DOTS.1 + 46.0);
    let mut svg = Svg::new("restarts", size, title, &text);
    for outage in outages {
        let (from, to) = (time.at(outage.from_us), time.at(outage.to_us));
        let tip = format!(
            "killed; back after {}",
            duration(outage.to_us.saturating_sub(outage.from_us) as f64)
        );
        let size = ((to - from).max(1.5), DOTS.1 - TOP);
        svg.rect("outage", (from, TOP), size, &tip);
    }
    bars(&mut svg, &bins);
    dots(&mut svg, &bins);
    for tick in time.scale.ticks(10.0) {
        let at = (time.scale.at(tick), DOTS.1 + 18.0);
        let label = format!("{} s", (tick * 1000.0).round() / 1000.0);
        svg.text("tick", at, Anchor::Middle, &label);
    }
    let middle = (f64::midpoint(LEFT, RIGHT), DOTS.1 + 40.0);
    svg.text("axis", middle, Anchor::Middle, "since the first call");
    svg.finish()
}

fn fill<'a>(calls: impl Iterator<Item = &'a Call>, time: &Time) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for call in calls {
        let bin = &mut bins[time.bin(call.end_us)];
        let layer = STACK.iter().position(|(of, _, _)| *of == call.outcome);
        bin.ended[layer.expect("every outcome is in the stack")] += 1;
        let took = call.took_us();
        bin.longest_us = bin.longest_us.max(took);
    }
    bins
}

fn bars(svg: &mut Svg, bins: &[Bin]) {
    let total = |bin: &Bin| bin.ended.iter().sum::<u64>();
    let most = bins.iter().map(total).max().unwrap_or(0).max(1);
    let y = Scale::linear((0.0, most as f64), (BARS, TOP));
    for tick in y.ticks(4.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let label = thousands(tick as u64);
        svg.text("tick", (LEFT - 8.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    let note = (LEFT, TOP - 10.0);
    svg.text("axis", note, Anchor::Start, "calls that ended");
    let width = (RIGHT - LEFT) / BINS as f64;
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
            let at = (LEFT + width * index as f64, bottom - height);
            let tip = format!("{name}: {}", thousands(count));
            svg.rect(class, at, (width - 0.6, height), &tip);
            below += count;
        }
    }
    svg.line("base", (LEFT, BARS), (RIGHT, BARS));
}

fn dots(svg: &mut Svg, bins: &[Bin]) {
    let (top, bottom) = DOTS;
    let most = bins.iter().map(|bin| bin.longest_us).max().unwrap_or(0);
    let least = bins.iter().map(|bin| bin.longest_us).filter(|us| *us > 0);
    let least = least.min().unwrap_or(1000).min(1000) as f64;
    let y = Scale::log((least, (most as f64).max(10_000.0) * 1.5), (bottom, top));
    for tick in y.ticks(0.0) {
        svg.line("grid", (LEFT, y.at(tick)), (RIGHT, y.at(tick)));
        let label = duration(tick).replace(".0 ", " ");
        svg.text("tick", (LEFT - 8.0, y.at(tick) + 4.0), Anchor::End, &label);
    }
    let text = "the longest of them took (log scale)";
    svg.text("axis", (LEFT, top - 10.0), Anchor::Start, text);
    let width = (RIGHT - LEFT) / BINS as f64;
    for (index, bin) in bins.iter().enumerate() {
        if bin.longest_us > 0 {
            let x = LEFT + width * (index as f64 + 0.5);
            let tip = duration(bin.longest_us as f64);
            svg.circle("session", (x, y.at(bin.longest_us as f64)), 2.6, &tip);
        }
    }
    svg.line("base", (LEFT, bottom), (RIGHT, bottom));
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
        let bins = fill(calls.iter(), &Time::of(calls.iter()));
        let sum = |layer: usize| bins.iter().map(|bin| bin.ended[layer]).sum::<u64>();
        assert_eq!([0, 1, 2, 3].map(sum), [1; 4]);
        assert_eq!(bins[BINS - 1].longest_us, 900);
        let outage = Outage {
            from_us: 1_200_000,
            to_us: 1_300_000,
        };
        let svg = draw(calls.iter(), &[outage]);
        assert!(svg.contains("back after 100 ms"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(!draw([].iter(), &[]).contains("NaN"));
    }
}
