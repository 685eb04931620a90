//! The program, run as a user runs it, against Redial's server and against others.

mod call;
mod config;
mod decode;
mod discover;
mod help;
mod ping;
mod saved_calls;
mod world;
mod wrong_input;
