//! Bars, each with its name and its figure.

use super::{
    room::{NARROW, Room},
    scale::Scale,
    svg::{Anchor, Svg},
};

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    /// What colour it has.
    pub(crate) class: &'static str,
    pub(crate) value: f64,
    /// From the least to the most of all rounds: a line in the bar.
    pub(crate) ends: [f64; 2],
    /// Its figure.
    pub(crate) label: String,
}

/// Where bars are.
struct BarsLayout {
    width: f64,
    left: f64,
    right: f64,
    step: f64,
}

const TOP: f64 = 8.0;
const BAR: f64 = 18.0;

fn layout(room: Room) -> BarsLayout {
    match room {
        Room::Wide => BarsLayout {
            width: 860.0,
            left: 150.0,
            right: 720.0,
            step: 30.0,
        },
        Room::Narrow => BarsLayout {
            width: NARROW,
            left: 0.0,
            right: NARROW - 2.0,
            step: 46.0,
        },
    }
}

/// The bars, from the top: beside their names where there is room, and else below them.
pub(crate) fn draw(room: Room, slug: &str, title: &str, bars: &[Bar]) -> String {
    let layout = layout(room);
    let described = bars
        .iter()
        .map(|bar| format!("{}: {}", bar.name, bar.label));
    let described: Vec<_> = described.collect();
    let height = TOP * 2.0 + layout.step * bars.len() as f64;
    let slug = room.slug(slug);
    let mut svg = Svg::new(&slug, (layout.width, height), title, &described.join("; "));
    let most = bars.iter().map(|bar| bar.ends[1].max(bar.value));
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let x = Scale::linear((0.0, most), (layout.left, layout.right));
    for (index, bar) in bars.iter().enumerate() {
        draw_one(&mut svg, &layout, room, bar, index, x);
    }
    if !room.is_narrow() {
        let ends = [TOP, height - TOP].map(|y| (layout.left, y));
        svg.line("base", ends[0], ends[1]);
    }
    svg.finish()
}

fn draw_one(svg: &mut Svg, layout: &BarsLayout, room: Room, bar: &Bar, index: usize, x: Scale) {
    let top = TOP + layout.step * index as f64;
    let middle = room.pick(top + layout.step / 2.0, top + 18.0 + BAR / 2.0);
    let at = (layout.left, middle - BAR / 2.0);
    let length = x.at(bar.value) - layout.left;
    let tip = format!("{}: {}", bar.name, bar.label);
    svg.rect(bar.class, at, (length, BAR), &tip);
    let ends = bar.ends.map(|value| x.at(value));
    svg.line("sent", (ends[0], middle), (ends[1], middle));
    if room.is_narrow() {
        svg.text("label", (0.0, top + 13.0), Anchor::Start, bar.name);
        svg.text("tick", (layout.width, top + 13.0), Anchor::End, &bar.label);
        return;
    }
    svg.text(
        "label",
        (layout.left - 10.0, middle + 4.0),
        Anchor::End,
        bar.name,
    );
    let at = (ends[1].max(layout.left + length) + 8.0, middle + 4.0);
    svg.text("tick halo", at, Anchor::Start, &bar.label);
}
