//! The params of a run's calls: from the command line, a file or standard input.

use rand_chacha::ChaCha8Rng;
use serde_json::value::RawValue;

use super::template::Template;

/// Gives each call its params.
#[derive(Debug)]
pub(crate) struct Params {
    /// Taken in turn.
    templates: Vec<Template>,
    rng: ChaCha8Rng,
    text: String,
}

impl Params {
    /// Reads one template, or lines of JSON each of which is one.
    pub(crate) fn parse(text: &str, rng: ChaCha8Rng) -> Result<Self, String> {
        let templates = match Template::parse(text) {
            Ok(template) => vec![template],
            Err(error) => lines(text).unwrap_or(Err(error))?,
        };
        Ok(Self {
            templates,
            rng,
            text: String::new(),
        })
    }

    /// The params of all calls, if they are the same.
    pub(crate) fn constant(&self) -> Option<String> {
        match &self.templates[..] {
            [template] if template.is_constant() => {
                let mut text = String::new();
                template.render(0, &mut self.rng.clone(), &mut text);
                Some(text)
            }
            _ => None,
        }
    }

    /// The params of a call, by its number from 0.
    pub(crate) fn next(&mut self, call: u64) -> &RawValue {
        let index = call % self.templates.len() as u64;
        self.templates[index as usize].render(call, &mut self.rng, &mut self.text);
        serde_json::from_str(&self.text).expect("templates are checked")
    }
}

/// Lines of JSON, if there are several; the error names the line.
fn lines(text: &str) -> Option<Result<Vec<Template>, String>> {
    let lines = text.lines().enumerate();
    let lines: Vec<_> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
    // What is one line by its beginning only is one value that is wrong.
    let is_value = |(_, line): &(usize, &str)| line.trim_end().ends_with(['}', ']']);
    if lines.len() < 2 || !lines.first().is_some_and(is_value) {
        return None;
    }
    let template = |(number, line): (usize, &str)| {
        Template::parse(line).map_err(|error| format!("line {}: {error}", number + 1))
    };
    Some(lines.into_iter().map(template).collect())
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn params(text: &str) -> Result<Params, String> {
        Params::parse(text, ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn lines_of_json_are_taken_in_turn() {
        let mut params = params("{\"a\":{{n}}}\n\n[2]\n").unwrap();
        assert_eq!(params.constant(), None);
        let texts = [0, 1, 2].map(|call| params.next(call).get().to_owned());
        assert_eq!(texts, ["{\"a\":0}", "[2]", "{\"a\":2}"]);
    }

    #[test]
    fn one_value_may_go_over_several_lines() {
        let one = params("{\n  \"a\": [\n1]\n}\n").unwrap();
        assert!(one.constant().is_some());
        assert_eq!(params("[{{n}}]").unwrap().constant(), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = params("[1]\n[2]\n\n{3}\n").unwrap_err();
        assert!(error.starts_with("line 4: {3} is not JSON"), "{error}");
        let error = params("{\n\"a\": x\n}").unwrap_err();
        assert!(!error.starts_with("line"), "{error}");
    }
}
