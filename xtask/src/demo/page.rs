//! `target/redial/demo.html`: what the demo has seen, to be looked at.

use super::{
    Outcome,
    chart::{attempts, ecdf, effects, lanes},
    duplicate::Duplicate,
    run::Run,
    scenario::{self, Mode},
    stories::{self, Told},
    table,
    verdict::Verdict,
};
use crate::{
    events::Event,
    report::{
        page::{figure, page, section},
        scale::thousands,
        svg::escape,
    },
};

/// What the two colours mean, above every picture that uses them.
const MODES: &str = "<p class=\"legend\"><span><i class=\"key table\"></i>with the table: every \
    attempt carries the call's id</span><span><i class=\"key naive\"></i>naively: a fresh id for \
    every attempt</span></p>";

/// The whole page.
pub(crate) fn html(outcome: &Outcome) -> String {
    let runs = &outcome.runs;
    let body = [
        header(outcome),
        counted(runs),
        forced(&outcome.duplicate),
        timelines(&stories::tell(runs)),
        latencies(runs),
        attempts_taken(runs),
        again(outcome),
    ];
    page("Redial: what retries do to a counter", &body.concat())
}

fn header(outcome: &Outcome) -> String {
    let total = |mode| {
        let runs = outcome.runs.iter().filter(move |run| run.mode == mode);
        runs.fold((0, 0), |(calls, twice), run| {
            let by = if let Verdict::TooMany(by) = run.verdict {
                by
            } else {
                0
            };
            (calls + run.summary.calls, twice + by)
        })
    };
    let ((calls, twice), (_, naive_twice)) = (total(Mode::Table), total(Mode::Naive));
    let problems: String = outcome
        .problems()
        .iter()
        .map(|problem| format!("<p class=\"problem\">{}</p>", escape(problem)))
        .collect();
    format!(
        "<header><p class=\"brand\">Redial demo</p><h1>{} calls through every kind of trouble: {} \
         counted twice.<br><span class=\"naive-text\">The same calls from a hand-made retry loop: \
         {} effects too many.</span></h1>{problems}<p>A counter server and its \
         clients ran on this machine, as real processes over TCP. The server made the trouble \
         itself: it lost requests and replies, was slow, cut connections and ran out of room. \
         Each scenario ran once <em>with the table</em>, where all attempts of a call carry one \
         id, and once <em>naively</em>, where every attempt is a new request with a fresh id. At \
         the end each counter was asked for its value.</p></header>\n",
        thousands(calls),
        if twice == 0 {
            "none".to_owned()
        } else {
            thousands(twice)
        },
        thousands(naive_twice),
    )
}

fn counted(runs: &[Run]) -> String {
    let lead = "Each call adds one, so a server that counted right has as many effects as there \
        were calls that were ok; a call whose outcome is unknown to its caller may count or not. \
        Dots on the line are right. Marks to its right are calls that took effect more than once.";
    let picture = figure("wide", MODES, &effects::draw(runs));
    let notes = "<p class=\"small\">p50 and p99: half, and 99 %, of the calls that were ok took \
        no longer. Effects expected: ok, to ok plus unknown.</p>";
    section(
        "Was each call counted once?",
        lead,
        &format!("{picture}{}{notes}", results(runs)),
    )
}

fn results(runs: &[Run]) -> String {
    let class = |column: usize| {
        if column < table::WORDS {
            ""
        } else {
            " class=\"number\""
        }
    };
    let last = table::HEADINGS.len() - 1;
    let headings = table::HEADINGS.iter().enumerate().map(|(column, heading)| {
        let class = if column == last { "" } else { class(column) };
        format!("<th scope=\"col\"{class}>{heading}</th>")
    });
    let rows = runs.iter().map(|run| {
        let cells = table::cells(run)
            .into_iter()
            .enumerate()
            .map(|(column, text)| {
                let text = escape(&text);
                match (column, run.mode) {
                    (0, Mode::Table) => {
                        format!("<th scope=\"rowgroup\" rowspan=\"2\">{text}</th>")
                    }
                    (0, Mode::Naive) => String::new(),
                    (1, mode) => {
                        format!("<td><i class=\"key {}\"></i>{text}</td>", mode.name())
                    }
                    _ if column == last => {
                        let class = if run.verdict == Verdict::Exact {
                            "exact"
                        } else {
                            "wrong"
                        };
                        format!("<td class=\"{class}\">{text}</td>")
                    }
                    _ => format!("<td{}>{text}</td>", class(column)),
                }
            });
        format!(
            "<tr class=\"{}\">{}</tr>",
            run.mode.name(),
            cells.collect::<String>()
        )
    });
    format!(
        "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        headings.collect::<String>(),
        rows.collect::<String>()
    )
}

fn forced(duplicate: &Duplicate) -> String {
    let became = |index: usize| match duplicate.verdicts[index] {
        Some(Event::Started) => "started the execution",
        Some(Event::Joined) => "joined the running execution",
        Some(Event::Replayed) => "got the recorded reply",
        _ => "left no trace in the server's log",
    };
    let rows = duplicate.replies.iter().enumerate().map(|(index, reply)| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td></tr>",
            index + 1,
            became(index),
            escape(reply)
        )
    });
    let lead = "One call, written by hand as frames and sent three times on three connections: twice \
        at once, and again after both were answered.";
    let count = if duplicate.effects == 1 {
        "effect"
    } else {
        "effects"
    };
    let contents = format!(
        "<p class=\"small\">The first request; the others add their attempt's number:<br><code>{}</code></p><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">sending</th><th scope=\"col\">what it did</th>\
         <th scope=\"col\">the reply, byte for byte</th></tr></thead><tbody>{}</tbody></table></div>\
         <p>The counter afterwards: <strong>{} {count}</strong>.</p>",
        escape(&duplicate.requests[0]),
        rows.collect::<String>(),
        duplicate.effects
    );
    section("The forced duplicate", lead, &contents)
}

fn timelines(told: &[Told]) -> String {
    let lead = "Single calls of these runs, put together from the client's log and the server's. \
        Above, a lane for each attempt, from its sending to the end of the wait for it; below, on \
        the tinted ground, what the server executed.";
    let figures = told.iter().map(|told| {
        let story = told.story;
        let caption = format!(
            "<h3>{}</h3><p>{}</p><p class=\"small\">Scenario \u{201c}{}\u{201d}, {}, call {}.</p>",
            escape(story.title),
            escape(story.says),
            told.scenario,
            match story.mode {
                Mode::Table => "with the table",
                Mode::Naive => "naively",
            },
            told.timeline.number
        );
        figure("call", &caption, &lanes::draw(told))
    });
    let figures = figures.collect::<String>();
    section(
        "What happens to an attempt",
        lead,
        &format!("{}{figures}", symbols()),
    )
}

/// The legend of the timelines.
fn symbols() -> String {
    let entry = |drawing: &str, text: &str| {
        format!(
            "<span><svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{drawing}</svg>{text}</span>"
        )
    };
    let entries = [
        entry(
            "<line class=\"wait\" x1=\"2\" y1=\"8\" x2=\"16\" y2=\"8\"/><line class=\"sent\" x1=\"2\" y1=\"2\" x2=\"2\" y2=\"14\"/>",
            "sent, and waited for",
        ),
        entry(
            "<path class=\"started\" d=\"M4 3l8 5l-8 5z\"/>",
            "starts an execution",
        ),
        entry(
            "<rect class=\"table pale\" x=\"0\" y=\"3\" width=\"11\" height=\"10\"/>\
             <rect class=\"table\" x=\"11\" y=\"3\" width=\"5\" height=\"10\"/>",
            "taken on and delayed, then executed",
        ),
        entry(
            "<circle class=\"joined\" cx=\"8\" cy=\"8\" r=\"4.5\"/>",
            "joins the one that runs",
        ),
        entry(
            "<path class=\"replayed\" d=\"M8 3l5 5l-5 5l-5 -5z\"/>",
            "gets the recorded reply",
        ),
        entry(
            "<path class=\"refused\" d=\"M3.5 3.5h9v9h-9z\"/>",
            "refused without effect",
        ),
        entry(
            "<path class=\"lost\" d=\"M3.5 3.5l9 9m0 -9l-9 9\"/>",
            "request, reply or connection lost",
        ),
        entry(
            "<line class=\"gave-up\" x1=\"8\" y1=\"3\" x2=\"8\" y2=\"13\"/>",
            "attempt timed out",
        ),
        entry(
            "<line class=\"late\" x1=\"0\" y1=\"8\" x2=\"16\" y2=\"8\"/>",
            "timed out, but a late reply is still taken",
        ),
        entry(
            "<circle class=\"done\" cx=\"8\" cy=\"8\" r=\"5.5\"/>",
            "this reply completes the call",
        ),
    ];
    format!("<p class=\"legend\">{}</p>", entries.concat())
}

fn latencies(runs: &[Run]) -> String {
    let lead = "For each time on the axis, the share of all calls that were ok by then. Dots: half \
        of the calls, and 99 % of them. A line that stays below 100 % belongs to calls that never \
        were ok. Safety costs no time: where both ways succeed the lines lie close together, and \
        where attempts time out only the table lets a late reply count.";
    let domain = ecdf::domain(runs);
    let panels = panels(runs, true, |runs| ecdf::draw(runs, domain));
    section("How long the calls took", lead, &format!("{MODES}{panels}"))
}

fn attempts_taken(runs: &[Run]) -> String {
    let lead = "The share of calls that took one attempt, two, and so on.";
    section(
        "How many attempts the calls took",
        lead,
        &format!("{MODES}{}", panels(runs, false, attempts::draw)),
    )
}

/// A panel for each scenario, the first time with what happens in it.
fn panels(runs: &[Run], explained: bool, draw: impl Fn(&[&Run]) -> String) -> String {
    let panels = scenario::ALL.iter().map(|scenario| {
        let both: Vec<_> = runs
            .iter()
            .filter(|run| run.scenario.name == scenario.name)
            .collect();
        let mut caption = format!("<h3>{}</h3>", scenario.name);
        if explained {
            caption.push_str(&format!("<p class=\"small\">{}</p>", scenario.says));
        }
        figure("panel", &caption, &draw(&both))
    });
    format!("<div class=\"panels\">{}</div>", panels.collect::<String>())
}

fn again(outcome: &Outcome) -> String {
    let lead = format!(
        "<code>cargo xtask demo --seed {} --calls {}</code> runs it all again. The seed decides \
         the faults and the jitter; call ids and the machine's own timing differ from run to run.",
        outcome.seed, outcome.calls
    );
    let commands = outcome.runs.iter().map(|run| {
        let [server, client] = run.commands.each_ref().map(|command| escape(command));
        format!(
            "# {}, {}\n{server}\n{client}\n\n",
            run.scenario.name,
            run.mode.name()
        )
    });
    let details = format!(
        "<details><summary>The command lines</summary><pre>{}</pre></details>",
        commands.collect::<String>()
    );
    section("Again", &lead, &details)
}
