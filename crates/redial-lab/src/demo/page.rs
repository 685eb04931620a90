//! The page `target/redial/demo.html`: what the demo found.

mod chapters;
mod legend;
mod tables;

use super::{
    DemoResults,
    chart::{attempts, ecdf, effects, lanes},
    patterns::{self, Example},
    run::Run,
    scenario,
    verdict::EffectCheck,
};
use crate::{
    experiment::Report,
    harness::mode::Mode,
    report::{
        page::{figure, page, picture, problems, section},
        scale::{PERCENTILES, thousands},
        svg::escape,
    },
};

/// The whole page.
pub(crate) fn html(results: &DemoResults) -> String {
    let runs = &results.runs;
    let body = [
        header(results),
        counted(runs),
        tables::forced(&results.duplicate),
        timelines(&patterns::examples(runs)),
        latencies(runs),
        attempts_taken(runs),
        chapters::html(&results.chapters),
        again(results),
    ];
    page("Redial: what retries do to a counter", &body.concat())
}

fn header(results: &DemoResults) -> String {
    let total = |mode| {
        let runs = results.runs.iter().filter(move |run| run.mode == mode);
        runs.fold((0, 0), |(calls, twice), run| {
            let by = if let EffectCheck::TooMany(by) = run.verdict {
                by
            } else {
                0
            };
            (calls + run.summary.calls, twice + by)
        })
    };
    let ((calls, twice), (_, naive_twice)) = (total(Mode::Session), total(Mode::Naive));
    let problems = problems(&results.problems());
    format!(
        "<header><p class=\"brand\">Redial demo</p><h1>{} calls through every kind of trouble: {} \
         counted twice.<br><span class=\"naive-text\">The same calls from a hand-made retry loop: \
         {} effects too many.</span></h1>{problems}<p>A counter server and its \
         clients ran on this machine, as real processes over TCP. The server made the trouble \
         itself: it lost requests and replies, was slow, cut connections and ran out of room. \
         Each scenario ran once <em>with a session</em>, where all attempts of a call carry one \
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
    let scenarios = scenario::ALL.iter().map(|scenario| {
        format!(
            "<dt>{}</dt><dd>{}</dd>",
            scenario.name,
            escape(scenario.about)
        )
    });
    let scenarios = format!("<dl class=\"small\">{}</dl>", scenarios.collect::<String>());
    let picture = picture("wide", &legend::modes(), |room| effects::draw(runs, room));
    let notes = format!(
        "<p class=\"small\">{PERCENTILES} Here and below all calls count, and one that is not ok exceeds any time. \
         Effects expected: ok, to ok plus unknown.</p>"
    );
    section(
        "Was each call counted once?",
        lead,
        &format!("{scenarios}{picture}{}{notes}", tables::results(runs)),
    )
}

fn timelines(examples: &[Example]) -> String {
    let lead = "Single calls of these runs, put together from the client's log and the server's. \
        Above, a lane for each attempt, from its sending to the end of the wait for it; below, on \
        the tinted ground, what the server executed. Marks that would cover each other are moved \
        apart.";
    let figures = examples.iter().map(|example| {
        let pattern = example.pattern;
        let caption = format!(
            "<h3>{}</h3><p>{}</p><p class=\"small\">Scenario \u{201c}{}\u{201d}, {}, call {}.</p>",
            escape(pattern.title),
            escape(pattern.about),
            example.scenario,
            pattern.mode.text(),
            example.timeline.number
        );
        picture("call", &caption, |room| lanes::draw(example, room))
    });
    let figures = figures.collect::<String>();
    section(
        "What happens to an attempt",
        lead,
        &format!("{}{figures}", legend::symbols()),
    )
}

fn latencies(runs: &[Run]) -> String {
    let lead = "For each time on the axis, the share of all calls that were ok by then. Marks: p50 and p99. A line that stays below 100 % belongs to calls that never \
        were ok. Where both ways succeed, the lines lie close together: nothing is paid for \
        counting once. Where attempts time out, only a session lets a late reply count.";
    let domain = ecdf::domain(runs);
    let panels = panels(runs, |runs| ecdf::draw(runs, domain));
    let key = legend::curves();
    section("How long the calls took", lead, &format!("{key}{panels}"))
}

fn attempts_taken(runs: &[Run]) -> String {
    let lead = "The share of calls that took one attempt, two, and so on.";
    section(
        "How many attempts the calls took",
        lead,
        &format!("{}{}", legend::modes(), panels(runs, attempts::draw)),
    )
}

/// A panel for each scenario.
fn panels(runs: &[Run], draw: impl Fn(&[&Run]) -> String) -> String {
    let panels = scenario::ALL.iter().map(|scenario| {
        let both: Vec<_> = runs
            .iter()
            .filter(|run| run.scenario.name == scenario.name)
            .collect();
        let caption = format!("<h3>{}</h3>", scenario.name);
        figure("panel", &caption, &draw(&both))
    });
    format!("<div class=\"panels\">{}</div>", panels.collect::<String>())
}

fn again(results: &DemoResults) -> String {
    let lead = format!(
        "<code>cargo xtask demo --seed {} --calls {}</code> runs it all again. The seed decides \
         the faults and the jitter; call ids and the machine's own timing differ from run to run.",
        results.seed, results.calls
    );
    let commands = results.runs.iter().map(|run| {
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

#[cfg(test)]
pub(super) mod tests;
