#![doc = include_str!("../README.md")]

mod call;
mod cli;
mod config;
mod connect;
mod decode;
mod discover;
pub mod doors;
mod failure;
pub mod flags;
mod output;
mod ping;
mod runtime;
mod settings;

pub use cli::run;
