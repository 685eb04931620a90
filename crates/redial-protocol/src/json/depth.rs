//! How deep a text nests, measured before serde_json reads it.

/// Whether objects and arrays nest at most `max_depth` deep. Exact for JSON; of other text it says
/// anything, and serde_json refuses that.
pub(crate) fn is_within(text: &str, max_depth: usize) -> bool {
    // Counting brackets is much cheaper than following them, and so few can't nest deeper.
    let is_bracket = |byte: &u8| matches!(byte, b'{' | b'[');
    text.bytes().filter(is_bracket).count() <= max_depth || deepest(text) <= max_depth
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::is_within;

    #[test]
    fn brackets_count_outside_of_strings_and_beside_each_other_once() {
        assert!(is_within("[[]]", 2) && !is_within("[[]]", 1));
        assert!(is_within("[[],[],{}]", 2) && !is_within("[[],[{}]]", 2));
        assert!(is_within(r#"["[[[\"[["]"#, 1) && !is_within(r#"["\\",[]]"#, 1));
        assert!(is_within("", 0) && !is_within("{", 0));
    }
}
