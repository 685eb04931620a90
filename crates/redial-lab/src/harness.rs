//! What every experiment stands on: programs that are built, started and never left behind, and what
//! they say.

pub(crate) mod balancer;
pub(crate) mod clock;
pub(crate) mod command_line;
pub(crate) mod descriptors;
pub(crate) mod endpoint;
pub(crate) mod events;
pub(crate) mod flags;
pub(crate) mod kill_on_exit;
pub(crate) mod mode;
pub(crate) mod percentiles;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod progress;
pub(crate) mod wire;
pub(crate) mod workspace;
