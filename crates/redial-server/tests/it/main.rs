//! What `crates/GUARANTEES.md` promises of a server, one module per promise.

mod acknowledging;
mod addresses;
mod answering_times;
mod authentication;
mod batches;
mod broken_handlers;
mod callers;
mod common;
mod connection_age;
mod connection_shares;
mod crowds;
mod dialects;
mod draining;
mod duplicates;
#[cfg(feature = "tls")]
mod encrypted;
mod every_refusal;
mod exposed;
mod fault_control;
mod faults;
mod fenced_first;
mod floods;
mod frozen;
mod full_store;
mod goodbyes;
mod guessing;
mod hidden_failures;
mod hostile;
mod hung_handlers;
mod kept_values;
mod large_frames;
mod layers;
mod leases;
mod metadata;
mod nested;
mod not_executed;
mod observed;
mod one_read;
mod one_write;
mod overload;
mod overloaded;
mod ownership;
mod principal_shares;
mod races;
mod resolving;
mod running_shares;
mod said_once;
mod session_limits;
mod session_room;
mod session_shares;
mod sessions;
mod shared_sessions;
mod shutdown;
mod sight;
mod specification;
mod strangers;
#[cfg(feature = "tokens")]
mod token_files;
#[cfg(feature = "tower")]
mod tower_layers;
#[cfg(unix)]
mod unix_sockets;
mod unread;
mod vectors;
mod waiters;
mod wrong_types;
