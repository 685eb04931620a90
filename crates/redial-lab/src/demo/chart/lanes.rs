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
        scale::Scale,
        svg::{Anchor, Svg},
    },
};

const WIDTH: f64 = 770.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 462.0;
const TOP: f64 = 8.0;
const ROW: f64 = 30.0;
/// The symbol of what happened to an attempt stands this far behind its sending at least, since
/// the two lie a fraction of a millisecond apart.
const SYMBOL: f64 = 11.0;

/// One call.
pub(crate) fn draw(example: &Example) -> String {
    let call = &example.timeline;
    let rows = (call.lanes.len() + call.executions.len()) as f64;
    let bottom = TOP + ROW * rows + 8.0;
    let x = Scale::linear((0.0, call.last_ms().max(0.1)), (LEFT, RIGHT - 2.0 * SYMBOL));
    let slug = super::slug("call", example.pattern.title, example.pattern.mode.name());
    let size = (WIDTH, bottom + 44.0);
    let mut svg = Svg::new(&slug, size, example.pattern.title, &describe(call));
    for tick in x.ticks(6.0) {
        svg.line("grid", (x.at(tick), TOP), (x.at(tick), bottom));
        svg.text(
            "tick",
            (x.at(tick), bottom + 16.0),
            Anchor::Middle,
            &format!("{}", round(tick)),
        );
    }
    svg.text(
        "axis",
        (f64::midpoint(LEFT, RIGHT), bottom + 36.0),
        Anchor::Middle,
        "milliseconds since the call began",
    );
    let server = TOP + ROW * call.lanes.len() as f64;
    svg.rect(
        "server",
        (0.0, server),
        (WIDTH, ROW * call.executions.len() as f64),
        "",
    );
    connectors(&mut svg, call, x);
    for (index, lane) in call.lanes.iter().enumerate() {
        draw_lane(&mut svg, call, index, lane, x);
    }
    for index in 0..call.executions.len() {
        draw_execution(&mut svg, call, index, example.pattern.mode, x);
    }
    svg.finish()
}

fn draw_lane(svg: &mut Svg, call: &Timeline, index: usize, lane: &Lane, x: Scale) {
    let y = middle(index);
    let completes = call.completed_by() == Some(index);
    svg.text(
        "label",
        (LEFT - 12.0, y + 4.5),
        Anchor::End,
        &format!("attempt {}", index + 1),
    );
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
    let class = if completes { "note done-text" } else { "note" };
    svg.text(
        class,
        (RIGHT + 14.0, y + 4.5),
        Anchor::Start,
        &lane.words(completes),
    );
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

fn draw_execution(svg: &mut Svg, call: &Timeline, index: usize, mode: Mode, x: Scale) {
    let execution = &call.executions[index];
    let y = middle(call.lanes.len() + index);
    let accepted = x.at(execution.accepted_ms);
    let start = x.at(execution.start_ms);
    let end = x.at(execution.end_ms.unwrap_or(call.last_ms()));
    svg.text(
        "label",
        (LEFT - 12.0, y + 4.5),
        Anchor::End,
        &format!("effect {}", index + 1),
    );
    let class = mode.name();
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
    let text = match index {
        0 => "the call is executed".to_owned(),
        _ => format!("and executed again, time {}", index + 1),
    };
    svg.text("note", (RIGHT + 14.0, y + 4.5), Anchor::Start, &text);
}

/// From each attempt down to the execution that it started or joined.
fn connectors(svg: &mut Svg, call: &Timeline, x: Scale) {
    for (row, execution) in call.executions.iter().enumerate() {
        let bar = middle(call.lanes.len() + row) - 7.0;
        let started = (execution.lane, execution.accepted_ms);
        let joined = call.lanes.iter().enumerate().filter_map(|(index, lane)| {
            let mark = lane.marks.iter().find(|mark| mark.event == Event::Joined)?;
            Some((index, mark.at_ms))
        });
        for (index, at_ms) in joined.chain([started]) {
            let sent = x.at(call.lanes[index].sent_ms);
            let at = x.at(at_ms).max(sent + SYMBOL);
            svg.line("link", (at, middle(index)), (at, bar));
        }
    }
}

fn middle(row: usize) -> f64 {
    TOP + ROW * (row as f64 + 0.5)
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
