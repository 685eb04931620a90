//! What `crates/GUARANTEES.md` promises of a server, one module per promise.

mod acknowledging;
mod addresses;
mod broken_handlers;
mod common;
mod crowds;
mod dialects;
mod duplicates;
mod faults;
mod hostile;
mod leases;
mod nested;
mod not_executed;
mod one_read;
mod one_write;
mod overload;
mod races;
mod resolving;
mod said_once;
mod session_limits;
mod session_room;
mod sessions;
mod shutdown;
mod specification;
mod vectors;
mod waiters;
mod wrong_types;
