//! What a command line says of a call: where it goes, the method, and the params.

use std::{borrow::Cow, io::Read};

use redial_client::Uuid;
use serde_json::value::RawValue;

use crate::{connect::is_address, failure::Failure};

/// The words of the command line by what they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words<'a> {
    pub(crate) address: Option<&'a str>,
    pub(crate) method: Option<&'a str>,
    pub(crate) params: Option<&'a str>,
}

impl<'a> Words<'a> {
    /// ADDR may be left out: what has no colon and is no profile's name is the method.
    pub(crate) fn of(words: [&'a Option<String>; 3]) -> Result<Self, Failure> {
        let words = Self::split(words)?;
        if words.method == Some("") {
            return Err(Failure::usage("METHOD is \"\"; expected the name of one"));
        }
        Ok(words)
    }

    fn split(words: [&'a Option<String>; 3]) -> Result<Self, Failure> {
        let [first, second, third] = words.map(|word| word.as_deref());
        if first.is_none_or(is_address) {
            let (address, method, params) = (first, second, third);
            return Ok(Self {
                address,
                method,
                params,
            });
        }
        if third.is_some() {
            let first = first.unwrap_or_default();
            return Err(Failure::usage(format!(
                "ADDR is {first:?}; expected HOST:PORT, unix:/path, several with commas, or @PROFILE"
            )));
        }
        Ok(Self {
            address: None,
            method: first,
            params: second,
        })
    }

    /// What is wrong with the params may be that the first word was to be an address.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match (self.address, self.method) {
            (None, Some(method)) => Failure::usage(format!(
                "{:#} ({method:?} was taken for METHOD: ADDR would have a colon, or begin with @)",
                failure.error
            )),
            _ => failure,
        }
    }
}

/// Reads PARAMS: JSON, `@FILE`, or `-` for standard input.
pub(crate) fn params(said: &str) -> Result<Box<RawValue>, Failure> {
    let (text, place) = text(said)?;
    json(&text, &place)
}

/// The text that PARAMS say, and where it is from.
pub(crate) fn text(said: &str) -> Result<(Cow<'_, str>, String), Failure> {
    let mut read = String::new();
    let (place, result) = match said.strip_prefix('@') {
        Some(path) => (
            format!("PARAMS, the file {path}"),
            std::fs::read_to_string(path).map(|all| read = all),
        ),
        None if said == "-" => (
            "PARAMS, standard input".to_owned(),
            std::io::stdin().read_to_string(&mut read).map(drop),
        ),
        None => return Ok((said.into(), "PARAMS".to_owned())),
    };
    result.map_err(|error| {
        Failure::usage(format!(
            "{place}: {error}; nothing was sent; expected JSON as text (UTF-8)"
        ))
    })?;
    Ok((read.into(), place))
}

/// Reads params as JSON. `place` is where they stand.
pub(crate) fn json(text: &str, place: &str) -> Result<Box<RawValue>, Failure> {
    let expected = "expected an object or an array as JSON, @FILE, or - for standard input";
    let json: Box<RawValue> = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{place}: no JSON: {error}; {expected}")))?;
    match json.get().as_bytes() {
        [b'{' | b'[', ..] | b"null" => Ok(json),
        _ => Err(Failure::usage(format!(
            "{place}: neither object nor array; {expected}"
        ))),
    }
}

/// Reads the id of a call. The nil UUID stands for none: many would use it, each for its own call.
pub(crate) fn uuid(text: &str) -> Result<Uuid, String> {
    let id = text.parse().ok().filter(|id: &Uuid| !id.is_nil());
    let expected =
        "expected a UUID that is not all zeros, such as 2f4d3a1e-58c1-4c39-9a05-0d6a3c8e7b21";
    id.ok_or_else(|| expected.to_owned())
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind: a word that says that there is nothing is taken for something. Instance: the UUID of zeros.
    #[test]
    fn an_id_is_a_uuid_and_not_the_nil_one() {
        let id = "2f4d3a1e-58c1-4c39-9a05-0d6a3c8e7b21";
        assert_eq!(uuid(id).unwrap().to_string(), id);
        let nil = "00000000-0000-0000-0000-000000000000";
        for text in [nil, &nil.replace('-', ""), "7", ""] {
            let error = uuid(text).unwrap_err();
            assert!(error.contains("not all zeros"), "{text}: {error}");
        }
    }

    /// A word that is taken for another.
    #[test]
    fn a_word_with_a_colon_is_the_address() {
        let words = |words: [&str; 3]| {
            let words = words.map(|word| Some(word.to_owned()).filter(|word| !word.is_empty()));
            let found = Words::of(words.each_ref());
            found.map(|found| {
                [found.address, found.method, found.params].map(|one| one.unwrap_or("").to_owned())
            })
        };
        for (said, expected) in [
            (["a:1", "get", "{}"], ["a:1", "get", "{}"]),
            (["@prod", "get", ""], ["@prod", "get", ""]),
            (["unix:/a", "get", ""], ["unix:/a", "get", ""]),
            (["get", r#"{"a":1}"#, ""], ["", "get", r#"{"a":1}"#]),
            (["get", "", ""], ["", "get", ""]),
            (["", "", ""], ["", "", ""]),
        ] {
            assert_eq!(
                words(said).unwrap(),
                expected.map(str::to_owned),
                "{said:?}"
            );
        }
        assert!(words(["host", "get", "{}"]).is_err());
    }
}
