//! The program, run as a user runs it, against Redial's server and against others.

mod call;
mod child;
mod config;
mod decode;
mod discover;
mod faults;
mod help;
#[cfg(unix)]
mod interrupted;
mod load;
mod ping;
mod saved_calls;
mod stats;
mod stopped_servers;
mod world;
mod wrong_input;
