//! The counter service of the original notebook: `inc` and `get`, as methods that a server
//! implements and a client calls.

pub mod load;
pub mod methods;
