//! One run: a fresh server, one client, and at the end the ledger.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    scenario::{KEY, Scenario},
    verdict::EffectCheck,
};
use crate::harness::{
    events::{self, Call, Summary},
    mode::Mode,
    programs::Programs,
    wire,
};

/// How long a client may take; the longest takes a few seconds.
const CLIENT: Duration = Duration::from_secs(60);

/// The results of one run.
pub(crate) struct Run {
    pub(crate) scenario: &'static Scenario,
    pub(crate) mode: Mode,
    pub(crate) summary: Summary,
    /// The counter's value at the end, read by the demo itself.
    pub(crate) effects: u64,
    pub(crate) verdict: EffectCheck,
    pub(crate) calls: Vec<Call>,
    pub(crate) server_events: Vec<events::ServerEvent>,
    /// Both command lines, to be typed again.
    pub(crate) commands: [String; 2],
}

impl Run {
    /// How long the calls took that were ok, in microseconds, sorted.
    pub(crate) fn sorted_us(&self) -> Vec<f64> {
        events::sorted_us(&self.calls)
    }
}

/// Runs `scenario` once. Event files are left in `folder`.
pub(crate) fn run(
    programs: &Programs,
    folder: &Path,
    scenario: &'static Scenario,
    mode: Mode,
    calls: u64,
    seed: u64,
) -> Result<Run> {
    let file = |side: &str| folder.join(file_name(scenario, mode, side));
    let (server_file, client_file) = (file("server"), file("client"));
    let server_flags = scenario.server_flags(seed);
    let client_flags = scenario.client_flags(mode, calls, seed);
    let commands = [
        format!("counter-server {}", server_flags.join(" ")),
        format!("counter-client {}", client_flags.join(" ")),
    ];
    let server = programs.server(&with_events(server_flags, &server_file))?;
    let mut flags = with_events(client_flags, &client_file);
    flags.extend(["--json", "--connect"].map(str::to_owned));
    flags.push(server.address.to_string());
    let summary = programs.client(&flags, CLIENT)?;
    check(&summary, scenario.calls(calls))?;
    mode.check(summary.sessions)?;
    let value = wire::settled_value(server.address, KEY, scenario.settle())?;
    server.stop()?;
    let effects = u64::try_from(value).with_context(|| format!("a counter below zero: {value}"))?;
    Ok(Run {
        scenario,
        mode,
        verdict: EffectCheck::of(&summary, effects),
        summary,
        effects,
        calls: events::read(&client_file)?,
        server_events: events::read(&server_file)?,
        commands,
    })
}

fn file_name(scenario: &Scenario, mode: Mode, side: &str) -> String {
    format!(
        "{}-{}-{side}.jsonl",
        scenario.name.replace(' ', "-"),
        mode.name()
    )
}

fn with_events(mut flags: Vec<String>, file: &Path) -> Vec<String> {
    flags.extend(["--events".to_owned(), file.display().to_string()]);
    flags
}

/// Checks that the client counted its own calls right.
fn check(summary: &Summary, calls: u64) -> Result<()> {
    let ended = summary.ok + summary.not_executed + summary.failed + summary.unknown;
    ensure!(
        summary.calls == calls && ended == calls,
        "expected {calls} calls of counter-client; it reports that it made {} and that {ended} ended",
        summary.calls
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_calls_do_not_add_up_is_an_error() {
        let summary = Summary {
            calls: 10,
            ok: 8,
            unknown: 2,
            ..Summary::default()
        };
        assert!(check(&summary, 10).is_ok());
        assert!(check(&summary, 11).is_err());
        assert!(check(&Summary { ok: 9, ..summary }, 10).is_err());
    }
}
