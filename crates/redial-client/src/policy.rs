//! The rules of retrying, each a pure function or a plain counter that knows of no call: the ground
//! that everything else stands on.

pub(crate) mod accrual;
pub(crate) mod adaptive_timeout;
pub(crate) mod backoff;
pub(crate) mod balance;
pub(crate) mod budget;
pub(crate) mod classify;
pub(crate) mod hedge;
pub(crate) mod hint;
pub(crate) mod latency;
pub(crate) mod pace;
