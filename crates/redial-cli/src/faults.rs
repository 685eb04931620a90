//! `redial faults`: what goes wrong on purpose on a server that lets its callers say so.

use std::process::ExitCode;

use redial_client::CallError;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    connect::{ConnectArgs, is_address, sent_once},
    failure::{Exit, Failure},
    flags::{duration, number},
    output, runtime,
};

/// The faults, as a command line spells them.
const FAULTS: [&str; 6] = [
    "drop-request",
    "drop-reply",
    "delay-execution",
    "delay-reply",
    "cut",
    "duplicate",
];

/// When a connection is cut.
const POINTS: [&str; 4] = [
    "before-execution",
    "before-reply",
    "mid-reply",
    "after-reply",
];

/// What to do with the rules.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server has to allow it (ServerBuilder::fault_control, counter-server
--fault-control), and lets callers on its own machine or certain principals.

Exit codes: 0 ok, 2 usage, 3 refused or not reached, 4 unknown: list the rules")]
pub(crate) struct FaultsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the rules in force
    List(PlainArgs),
    /// Add a rule
    Add(AddArgs),
    /// Remove all rules
    Clear(PlainArgs),
}

/// Where, and in which form.
#[derive(Debug, clap::Args)]
#[command(mut_args(sent_once))]
struct PlainArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Print the rules in force as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A rule.
#[derive(Debug, clap::Args)]
#[command(mut_args(sent_once))]
struct AddArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// drop-request, drop-reply, delay-execution, delay-reply, cut, duplicate
    fault: Option<String>,
    /// How likely it is for each request
    #[arg(short, long, value_name = "P", default_value_t = 1.0, value_parser = number("a probability", 0.0..=1.0))]
    probability: f64,
    /// Only requests of this method
    #[arg(short, long, value_name = "NAME")]
    method: Option<String>,
    /// 120ms, 1ms..5ms, exp:10ms, or pareto:2ms:1.5
    #[arg(long, value_name = "TIME", value_parser = delay)]
    delay: Option<Value>,
    /// before-execution, before-reply, mid-reply, after-reply
    #[arg(long, value_name = "POINT", value_parser = POINTS, hide_possible_values = true)]
    at: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

impl FaultsArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.action {
            Action::List(args) => args.common.ask(args.addr.as_deref(), json!({})),
            Action::Clear(args) => args
                .common
                .ask(args.addr.as_deref(), json!({"clear": true})),
            Action::Add(args) => {
                let (addr, fault) = match (&args.addr, &args.fault) {
                    (Some(fault), None) if !is_address(fault) => (None, Some(fault)),
                    (addr, fault) => (addr.as_deref(), fault.as_ref()),
                };
                let rule = args.rule(fault)?;
                args.common.ask(addr, json!({ "add": [rule] }))
            }
        }
    }
}

impl AddArgs {
    /// The rule as the server takes it.
    fn rule(&self, fault: Option<&String>) -> Result<Value, Failure> {
        let expected = format!("expected one of {}", FAULTS.join(", "));
        let fault = fault.ok_or_else(|| Failure::usage(format!("FAULT is missing; {expected}")))?;
        if !FAULTS.contains(&&**fault) {
            return Err(Failure::usage(format!("FAULT is {fault:?}; {expected}")));
        }
        if fault.starts_with("delay") != self.delay.is_some() {
            return Err(Failure::usage(
                "--delay goes with delay-execution and delay-reply; expected both or neither",
            ));
        }
        if self.at.is_some() && fault != "cut" {
            return Err(Failure::usage(
                "--at goes with cut; expected both or neither",
            ));
        }
        let mut rule = Map::new();
        rule.insert("fault".to_owned(), fault.replace('-', "_").into());
        rule.insert("probability".to_owned(), self.probability.into());
        rule.extend(
            self.method
                .clone()
                .map(|method| ("method".to_owned(), method.into())),
        );
        rule.extend(self.delay.clone().map(|delay| ("delay".to_owned(), delay)));
        let at = self.at.as_ref().map(|at| at.replace('-', "_"));
        rule.extend(at.map(|at| ("at".to_owned(), at.into())));
        Ok(rule.into())
    }
}

impl CommonArgs {
    fn ask(self, address: Option<&str>, params: Value) -> Result<ExitCode, Failure> {
        // A hello might be dropped by the very rules that are to go, and a rule that is sent twice is two rules.
        let reach = self.connect.reach_once(address)?;
        let is_change = params != json!({});
        runtime::run(async move {
            let client = reach.connect().await?;
            let call = client.request("rpc.faults", params);
            let answer = call.returning::<Box<RawValue>>().await;
            client.close().await;
            let raw = answer.map_err(|error| refused(error, is_change))?;
            let table = table(raw.get(), is_change)?;
            if self.json {
                output::print(raw.get())?;
            } else {
                output::show(&table)?;
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Why there is no answer, and what would give one.
fn refused(error: CallError, is_change: bool) -> Failure {
    let code = error.server_error().map(|error| i32::from(error.code));
    let why = match code {
        Some(-32601) => {
            "; expected a server that allows it: counter-server with --fault-control, \
             a program of your own with ServerBuilder::fault_control"
        }
        Some(-32009 | -32005) => {
            "; expected a caller on the server's own machine, or one with --token-file or --tls-cert \
             to whom the server allows it"
        }
        _ => "",
    };
    let exit = match Exit::from(error.executed()) {
        // A list of the rules changes nothing.
        Exit::Unknown if !is_change => Exit::NotExecuted,
        exit => exit,
    };
    Failure::new(exit, anyhow::anyhow!("{error}{why}"))
}

fn table(answer: &str, is_change: bool) -> Result<String, Failure> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let Some(rules) = answer["rules"].as_array() else {
        let error = anyhow::anyhow!(
            "what rpc.faults answered has no rules; expected {{\"rules\": [...]}}, as a Redial server answers"
        );
        let exit = if is_change {
            Exit::Unknown
        } else {
            Exit::NotExecuted
        };
        return Err(Failure::new(exit, error));
    };
    if rules.is_empty() {
        return Ok("no fault rules".to_owned());
    }
    let rows = rules.iter().map(|rule| {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().replace('_', "-");
        let method = rule["method"].as_str().unwrap_or("*").to_owned();
        let details = rule["delay"].as_object().map_or_else(|| text("at"), spell);
        vec![
            text("fault"),
            rule["probability"].to_string(),
            method,
            details,
        ]
    });
    let headings = ["FAULT", "PROBABILITY", "METHOD", "DELAY OR POINT"];
    Ok(output::table(&headings, &rows.collect::<Vec<_>>(), &[1]))
}

/// Reads a delay into what the server takes.
fn delay(text: &str) -> Result<Value, String> {
    let expected = || "expected 120ms, 1ms..5ms, exp:10ms, or pareto:2ms:1.5".to_owned();
    let ms = |text: &str| duration(text).map(|found| found.as_nanos() as f64 / 1e6);
    let read = || -> Result<Value, String> {
        if let Some((min, max)) = text.split_once("..") {
            let (min, max) = (ms(min)?, ms(max)?);
            let is_range = min <= max;
            let range = || json!({ "uniform_ms": [min, max] });
            return is_range.then(range).ok_or_else(expected);
        }
        if let Some(mean) = text.strip_prefix("exp:") {
            return Ok(json!({ "exponential_ms": ms(mean)? }));
        }
        if let Some(rest) = text.strip_prefix("pareto:") {
            let (scale, shape) = rest.split_once(':').ok_or_else(expected)?;
            let shape = number("a shape", 0.01..=1000.0)(shape)?;
            return Ok(json!({ "pareto_ms": [ms(scale)?, shape] }));
        }
        Ok(json!({ "fixed_ms": ms(text)? }))
    };
    read().map_err(|_| expected())
}

/// The same for people.
fn spell(delay: &Map<String, Value>) -> String {
    let Some((name, value)) = delay.iter().next() else {
        return String::new();
    };
    match (name.as_str(), value) {
        ("fixed_ms", ms) => format!("{ms} ms"),
        ("uniform_ms", ms) => format!("{} to {} ms", ms[0], ms[1]),
        ("exponential_ms", ms) => format!("{ms} ms on average"),
        ("pareto_ms", ms) => format!("from {} ms, shape {}", ms[0], ms[1]),
        _ => format!("{name} {value}"),
    }
}
