//! Pages and pictures: one HTML file that needs nothing else, readable in light and in dark.

pub(crate) mod bars;
#[cfg(test)]
pub(crate) mod browser;
// That of `redial load --html`, without a dependency on it: this crate links neither end of the protocol.
#[path = "../../redial-cli/src/load/markup.rs"]
pub(crate) mod markup;
pub(crate) mod page;
pub(crate) mod room;
pub(crate) mod scale;
pub(crate) mod series;
pub(crate) mod svg;
pub(crate) mod table;
pub(crate) mod terminal;
