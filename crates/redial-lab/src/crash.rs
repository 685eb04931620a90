//! What the experiments share that kill servers: one life of a server after another at one address,
//! the ledgers that these leave, and the comparison with what each caller heard.

pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod database;
pub(crate) mod effects;
pub(crate) mod excuse;
pub(crate) mod lives;
pub(crate) mod results;
pub(crate) mod running;
pub(crate) mod stored;
