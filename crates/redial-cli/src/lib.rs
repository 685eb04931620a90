#![doc = include_str!("../README.md")]

mod call;
mod cli;
mod clock;
mod config;
mod connect;
mod decode;
mod discover;
pub mod doors;
mod failure;
mod faults;
pub mod flags;
mod load;
mod numbers;
mod output;
mod ping;
mod runtime;
mod settings;
pub mod signals;
mod stats;

pub use cli::run;
