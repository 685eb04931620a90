//! Pages and pictures: one HTML file that needs nothing else, readable in light and in dark.

pub(crate) mod page;
pub(crate) mod scale;
pub(crate) mod svg;
pub(crate) mod table;
pub(crate) mod terminal;
