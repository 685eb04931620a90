//! Command lines of the programs that are started.

/// The words of a command line.
pub(crate) fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

/// The same, then flags whose values may have spaces in them.
pub(crate) fn words_and<const N: usize>(flags: &str, values: [(&str, String); N]) -> Vec<String> {
    let mut all = words(flags);
    for (flag, value) in values {
        all.extend([flag.to_owned(), value]);
    }
    all
}
