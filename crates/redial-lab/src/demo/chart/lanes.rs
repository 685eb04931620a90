//! A call's timeline: a lane per attempt above, a bar per execution below.

use crate::{
    demo::{
        patterns::Example,
        timeline::{Lane, Mark, Timeline},
    },
    harness::{
        events::{AttemptEnd, Event},
        mode::Mode,
    },
    report::{
        room::{NARROW, Room},
        scale::Scale,
        svg::{Anchor, Svg},
    },
};

const TOP: f64 = 8.0;
/// The symbol of what happened to an attempt stands this far behind its sending at least, since
/// the two lie a fraction of a millisecond apart.
const SYMBOL: f64 = 11.0;

/// Where lanes and words are: the words beside their lanes, or above them.
struct LanesLayout {
    room: Room,
    width: f64,
    left: f64,
    right: f64,
    row: f64,
}

impl LanesLayout {
    fn of(room: Room) -> Self {
        match room {
            Room::Wide => Self {
                room,
                width: 770.0,
                left: 84.0,
                right: 462.0,
                row: 30.0,
            },
            Room::Narrow => Self {
                room,
                width: NARROW,
                left: 4.0,
                right: NARROW - 4.0,
                row: 46.0,
            },
        }
    }

    /// The height of a row's lane.
    fn lane(&self, row: usize) -> f64 {
        TOP + self.row * row as f64 + self.room.pick(self.row / 2.0, 32.0)
    }

    /// Names a row, and says what happened there.
    /// Lines that cross the words are covered by the ground that these stand on, `halo`.
    fn words(
        &self,
        svg: &mut Svg,
        row: usize,
        (name, text): (&str, &str),
        class: &str,
        halo: &str,
    ) {
        let y = self.lane(row);
        let (at, anchor, words) = match self.room {
            Room::Wide => (
                (self.left - 12.0, y + 4.5),
                Anchor::End,
                (self.right + 14.0, y + 4.5),
            ),
            Room::Narrow => ((0.0, y - 15.0), Anchor::Start, (70.0, y - 15.0)),
        };
        svg.text(&format!("label {halo}"), at, anchor, name);
        svg.text(&format!("{class} {halo}"), words, Anchor::Start, text);
    }
}

/// One call.
pub(crate) fn draw(example: &Example, room: Room) -> String {
    let (call, layout) = (&example.timeline, LanesLayout::of(room));
    let rows = (call.lanes.len() + call.executions.len()) as f64;
    let bottom = TOP + layout.row * rows + 8.0;
    let ends = (layout.left, layout.right - 2.0 * SYMBOL);
    let x = Scale::linear((0.0, call.last_ms().max(0.1)), ends);
    let pattern = example.pattern;
    let slug = super::slug("call", pattern.title, pattern.mode.name());
    let size = (layout.width, bottom + 44.0);
    let mut svg = Svg::new(&room.slug(&slug), size, pattern.title, &describe(call));
    let server = TOP + layout.row * call.lanes.len() as f64;
    let ground = layout.row * call.executions.len() as f64;
    svg.rect("server", (0.0, server), (layout.width, ground), "");
    axis(&mut svg, &layout, x, bottom);
    connectors(&mut svg, &layout, call, x);
    for (index, lane) in call.lanes.iter().enumerate() {
        draw_lane(&mut svg, &layout, call, index, lane, x);
    }
    for index in 0..call.executions.len() {
        draw_execution(&mut svg, &layout, call, index, pattern.mode, x);
    }
    svg.finish()
}

fn axis(svg: &mut Svg, layout: &LanesLayout, x: Scale, bottom: f64) {
    for tick in x.ticks(6.0) {
        // Not through the words above the lanes.
        if !layout.room.is_narrow() {
            svg.line("grid", (x.at(tick), TOP), (x.at(tick), bottom));
        }
        let anchor = match layout.room {
            Room::Narrow if tick < 1e-9 => Anchor::Start,
            _ => Anchor::Middle,
        };
        let at = (x.at(tick), bottom + 16.0);
        svg.text("tick", at, anchor, &format!("{}", round(tick)));
    }
    let at = (f64::midpoint(layout.left, layout.right), bottom + 36.0);
    svg.text(
        "axis",
        at,
        Anchor::Middle,
        "milliseconds since the call began",
    );
}

fn draw_lane(
    svg: &mut Svg,
    layout: &LanesLayout,
    call: &Timeline,
    index: usize,
    lane: &Lane,
    x: Scale,
) {
    let y = layout.lane(index);
    let completes = call.completed_by() == Some(index);
    let class = if completes { "note done-text" } else { "note" };
    let name = format!("attempt {}", index + 1);
    layout.words(svg, index, (&name, &lane.words(completes)), class, "halo");
    let (sent, end) = (x.at(lane.sent_ms), x.at(lane.end_ms));
    svg.line("wait", (sent, y), (end, y));
    svg.line("sent", (sent, y - 7.0), (sent, y + 7.0));
    // What the client did not wait for any more, but took all the same.
    if completes && call.end_ms > lane.end_ms {
        svg.line("late", (end, y), (x.at(call.end_ms), y));
    }
    if lane.end == AttemptEnd::Timeout {
        svg.line("gave-up", (end, y - 5.0), (end, y + 5.0));
    }
    let mut free = sent + SYMBOL;
    for mark in shown(lane) {
        let at = x.at(mark.at_ms).max(free);
        symbol(svg, mark.event, (at, y));
        free = at + SYMBOL;
    }
    if lane.end == AttemptEnd::ConnectionLost {
        cross(svg, (end.max(free), y));
    }
    if completes {
        let at = x.at(call.end_ms).max(free);
        svg.circle("done", (at, y), 5.5, "this reply completes the call");
    }
}

/// What is drawn of an attempt: what happened to it, and what was lost on the way back.
fn shown(lane: &Lane) -> Vec<Mark> {
    let event = lane.main_event();
    // A connection that the client saw break is marked where it saw it.
    let lost = |event| {
        event == Event::ReplyDropped
            || event == Event::Cut && lane.end != AttemptEnd::ConnectionLost
    };
    let shown = |mark: &&Mark| Some(mark.event) == event || lost(mark.event);
    let mut marks: Vec<_> = lane.marks.iter().filter(shown).copied().collect();
    // The attempt did its work when its call was accepted, not when the handler's turn came.
    let accepted = lane.marks.iter().find(|mark| mark.event == Event::Accepted);
    if let (Some(accepted), Some(first)) = (accepted, marks.first_mut())
        && first.event == Event::Started
    {
        first.at_ms = accepted.at_ms;
    }
    marks
}

/// Circles for what leads to an execution, a cross for a loss, a bar for a closed door.
fn symbol(svg: &mut Svg, event: Event, at: (f64, f64)) {
    let (x, y) = at;
    match event {
        Event::RequestDropped | Event::ReplyDropped | Event::Cut => cross(svg, at),
        Event::Joined => svg.circle("joined", at, 4.5, "joined the running execution"),
        Event::Replayed => svg.path(
            "replayed",
            &format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
        ),
        Event::Refused => {
            svg.path(
                "refused",
                &format!("M{:.1} {:.1}h9v9h-9z", x - 4.5, y - 4.5),
            );
        }
        _ => svg.path(
            "started",
            &format!("M{:.1} {:.1}l8 5l-8 5z", x - 3.0, y - 5.0),
        ),
    }
}

fn cross(svg: &mut Svg, at: (f64, f64)) {
    let (x, y) = at;
    svg.path(
        "lost",
        &format!("M{:.1} {:.1}l9 9m0 -9l-9 9", x - 4.5, y - 4.5),
    );
}

fn draw_execution(
    svg: &mut Svg,
    layout: &LanesLayout,
    call: &Timeline,
    index: usize,
    mode: Mode,
    x: Scale,
) {
    let execution = &call.executions[index];
    let row = call.lanes.len() + index;
    let y = layout.lane(row);
    let text = match index {
        0 => "the call is executed".to_owned(),
        _ => format!("and executed again, time {}", index + 1),
    };
    let name = format!("effect {}", index + 1);
    layout.words(svg, row, (&name, &text), "note", "halo-ground");
    let accepted = x.at(execution.accepted_ms);
    let start = x.at(execution.start_ms);
    let end = x.at(execution.end_ms.unwrap_or(call.last_ms()));
    let class = mode.series().class();
    let waited = format!(
        "waited for {:.1} ms",
        execution.start_ms - execution.accepted_ms
    );
    svg.rect(
        &format!("{class} pale"),
        (accepted, y - 7.0),
        (start - accepted, 14.0),
        &waited,
    );
    let took = execution.end_ms.map(|end_ms| end_ms - execution.start_ms);
    let tip = took.map_or_else(String::new, |ms| format!("executed for {ms:.1} ms"));
    svg.rect(
        class,
        (start, y - 7.0),
        ((end - start).max(3.0), 14.0),
        &tip,
    );
}

/// From each attempt down to the execution that it started or joined.
fn connectors(svg: &mut Svg, layout: &LanesLayout, call: &Timeline, x: Scale) {
    for (row, execution) in call.executions.iter().enumerate() {
        let bar = layout.lane(call.lanes.len() + row) - 7.0;
        let started = (execution.lane, execution.accepted_ms);
        let joined = call.lanes.iter().enumerate().filter_map(|(index, lane)| {
            let mark = lane.marks.iter().find(|mark| mark.event == Event::Joined)?;
            Some((index, mark.at_ms))
        });
        for (index, at_ms) in joined.chain([started]) {
            let sent = x.at(call.lanes[index].sent_ms);
            let at = x.at(at_ms).max(sent + SYMBOL);
            svg.line("link", (at, layout.lane(index)), (at, bar));
        }
    }
}

/// Without the noise of binary fractions.
fn round(tick: f64) -> f64 {
    (tick * 1000.0).round() / 1000.0
}

fn describe(call: &Timeline) -> String {
    let completed = call.completed_by();
    let lanes = call.lanes.iter().enumerate().map(|(index, lane)| {
        let words = lane.words(completed == Some(index));
        format!("attempt {} at {:.1} ms: {words}", index + 1, lane.sent_ms)
    });
    let effects = call.executions.len();
    let end = format!(
        "the call ends after {:.1} ms, executions: {effects}",
        call.end_ms
    );
    lanes.chain([end]).collect::<Vec<_>>().join("; ")
}
