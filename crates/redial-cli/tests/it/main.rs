//! The program, run as a user runs it, against Redial's server and against others.

// It tests the pages of the experiments, too.
#[path = "../../../redial-lab/src/report/browser.rs"]
mod browser;
mod call;
mod child;
mod config;
mod decode;
mod discover;
mod faults;
// What the program prints, as it prints it.
#[rustfmt::skip]
#[allow(dead_code, unreachable_pub, reason = "it is for clients")]
mod generated;
mod help;
mod hostile_servers;
#[cfg(unix)]
mod interrupted;
mod load;
mod others_answers;
mod ping;
mod pipes;
mod printed_types;
mod saved_calls;
mod screens;
mod stable;
mod stats;
mod stopped_servers;
mod world;
mod wrong_input;
