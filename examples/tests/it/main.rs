//! The example programs, run as a user runs them, and real clients against real servers.

mod balancer;
mod both_ends_of_tower;
mod command_lines;
mod counter_clients;
mod counter_server;
mod crash_safe;
mod databases;
#[cfg(unix)]
mod descriptors;
mod documented_metrics;
mod doors;
mod doubles;
mod durable;
mod extremes;
mod fault_injection;
mod foreign_peers;
mod frozen_programs;
mod held_back;
mod http;
mod inc_events;
mod metrics;
mod moving_sessions;
mod names;
mod numbers;
mod one_name_two_tables;
mod programs;
mod repository;
mod returned_errors;
mod schemas;
mod servers_memory;
mod session_client;
mod several_servers;
mod shared_table;
mod shutdowns;
mod spellings;
mod stored_server;
#[cfg(target_os = "linux")]
mod supervised;
mod take_effect_once;
mod tokens;
mod traces;
mod transports;
mod whether_executed;
mod world;
