//! Bars that show how far an experiment is, on stderr and only in a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many steps with what stands beside it, in the words of [`ProgressStyle`].
pub(crate) fn bar(steps: u64, beside: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:24}} {beside}"));
    ProgressBar::new(steps).with_style(style.expect("the template is fixed"))
}
