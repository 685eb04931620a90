//! What colours and symbols mean.

use crate::{
    harness::mode::Mode,
    report::series::{Series, legend},
};

/// What the two marks mean, above every picture that uses them.
pub(super) fn modes() -> String {
    both(Series::key)
}

/// The same for lines.
pub(super) fn curves() -> String {
    both(Series::curve_key)
}

fn both(key: fn(Series) -> String) -> String {
    let meanings = [
        (
            Mode::Session,
            "with a session: every attempt carries the call's id",
        ),
        (Mode::Naive, "naively: a fresh id for every attempt"),
    ];
    legend(meanings.map(|(mode, meaning)| (key(mode.series()), meaning.to_owned())))
}

/// The symbols of the timelines, as they are drawn there.
const SYMBOLS: [(&str, &str); 10] = [
    (
        "<line class=\"wait\" x1=\"2\" y1=\"8\" x2=\"16\" y2=\"8\"/><line class=\"sent\" x1=\"2\" y1=\"2\" x2=\"2\" y2=\"14\"/>",
        "sent, and waited for",
    ),
    (
        "<path class=\"started\" d=\"M4 3l8 5l-8 5z\"/>",
        "starts an execution",
    ),
    (
        "<rect class=\"session pale\" x=\"0\" y=\"3\" width=\"11\" height=\"10\"/>\
             <rect class=\"session\" x=\"11\" y=\"3\" width=\"5\" height=\"10\"/>",
        "taken on and delayed, then executed",
    ),
    (
        "<circle class=\"joined\" cx=\"8\" cy=\"8\" r=\"4.5\"/>",
        "joins the one that runs",
    ),
    (
        "<path class=\"replayed\" d=\"M8 3l5 5l-5 5l-5 -5z\"/>",
        "gets the recorded reply",
    ),
    (
        "<path class=\"refused\" d=\"M3.5 3.5h9v9h-9z\"/>",
        "refused without effect",
    ),
    (
        "<path class=\"lost\" d=\"M3.5 3.5l9 9m0 -9l-9 9\"/>",
        "request, reply or connection lost",
    ),
    (
        "<line class=\"gave-up\" x1=\"8\" y1=\"3\" x2=\"8\" y2=\"13\"/>",
        "attempt timed out",
    ),
    (
        "<line class=\"late\" x1=\"0\" y1=\"8\" x2=\"16\" y2=\"8\"/>",
        "timed out, but a late reply is still taken",
    ),
    (
        "<circle class=\"done\" cx=\"8\" cy=\"8\" r=\"5.5\"/>",
        "this reply completes the call",
    ),
];

/// The legend of the timelines.
pub(super) fn symbols() -> String {
    legend(SYMBOLS.map(|(drawing, text)| {
        let key = format!(
            "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{drawing}</svg>"
        );
        (key, text.to_owned())
    }))
}
