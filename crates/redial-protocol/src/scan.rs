//! Messages in their usual shape, read in one pass and without an allocation.
//!
//! Nearly every message is one flat object whose strings have no escapes. Reading that by hand
//! costs a fraction of what a general JSON parser needs, which matters where a parser is a third
//! of a call's cost. Whatever is not of that shape, and whatever is wrong, is nobody's business
//! here: it is left to serde_json, which then says what is wrong. So this may refuse to read
//! anything, but may never read anything in another way; tests hold one against the other.

use std::borrow::Cow;

use crate::{
    id::Id,
    limits::MAX_ID_BYTES,
    message::{Dialect, Request},
    meta::RequestMeta,
};

/// How deep values may nest here; deeper ones are not usual.
const MAX_DEPTH: usize = 16;

/// A request in its usual shape; `None` leaves it to others. `text` is the whole message.
pub(crate) fn request(text: &str, max_depth: usize) -> Option<Request<'_>> {
    let mut scanner = Scanner::new(text, max_depth)?;
    let (mut is_2_0, mut id, mut method, mut params, mut meta) = (false, None, None, None, None);
    scanner.eat("{")?;
    loop {
        scanner.skip_spaces();
        if !is_2_0 && scanner.member(r#""jsonrpc":"#) {
            scanner.eat(r#""2.0""#)?;
            is_2_0 = true;
        } else if id.is_none() && scanner.member(r#""id":"#) {
            id = Some(scanner.id()?);
        } else if method.is_none() && scanner.member(r#""method":"#) {
            method = Some(scanner.string()?);
        } else if params.is_none() && scanner.member(r#""params":"#) {
            params = Some(scanner.structure()?);
        } else if meta.is_none() && scanner.member(r#""redial":"#) {
            meta = Some(scanner.request_meta()?);
        } else {
            return None;
        }
        if scanner.is_last()? {
            break;
        }
    }
    scanner.end()?;
    Some(Request {
        dialect: match is_2_0 {
            true => Dialect::JsonRpc2,
            false => Dialect::Notebook,
        },
        id,
        method: Cow::Borrowed(method?),
        params,
        meta: meta.unwrap_or_default(),
    })
}

/// A place in a text. Every step is `None` where the text is not what the step reads.
struct Scanner<'a> {
    text: &'a str,
    /// What of it has not been read.
    rest: &'a [u8],
    /// How much deeper values may nest.
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, max_depth: usize) -> Option<Self> {
        Some(Self {
            text,
            rest: text.as_bytes(),
            // The message itself is the first level.
            depth: max_depth.min(MAX_DEPTH).checked_sub(1)?,
        })
    }

    fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// Inlined, so that a text that is known is compared in as few steps as it has words.
    #[inline(always)]
    fn eat(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected.as_bytes())?;
        Some(())
    }

    /// Whether the member of this name is next: the name with its quotes and the colon.
    #[inline(always)]
    fn member(&mut self, name: &str) -> bool {
        let is_it = self.eat(name).is_some();
        if is_it {
            self.skip_spaces();
        }
        is_it
    }

    /// Spaces only: who writes a message over several lines is not in a hurry.
    fn skip_spaces(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Whether an object ends here. If not, another member follows.
    fn is_last(&mut self) -> Option<bool> {
        self.skip_spaces();
        match self.next()? {
            b'}' => Some(true),
            b',' => Some(false),
            _ => None,
        }
    }

    /// Nothing follows.
    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// What a string without escapes says.
    #[inline(always)]
    fn string(&mut self) -> Option<&'a str> {
        self.eat("\"")?;
        let from = self.at();
        self.rest = after_plain(self.rest);
        let to = self.at();
        self.eat("\"")?;
        // Both ends lie beside ASCII, so no character is cut.
        Some(&self.text[from..to])
    }

    fn id(&mut self) -> Option<Id<'a>> {
        let from = self.at();
        let quotes = match self.rest.first()? {
            b'"' => self.string().map(|_| 2)?,
            b'n' => self.eat("null").map(|()| 0)?,
            _ => self.integer().map(|_| 0)?,
        };
        let raw = &self.text[from..self.at()];
        (1..=MAX_ID_BYTES)
            .contains(&(raw.len() - quotes))
            .then(|| Id::scanned(raw))
    }

    /// An integer of any size, as it was written.
    #[inline(always)]
    fn integer(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        if let [b'-', rest @ ..] = self.rest {
            self.rest = rest;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => {
                while let [b'0'..=b'9', rest @ ..] = self.rest {
                    self.rest = rest;
                }
            }
            _ => return None,
        }
        match self.rest.first() {
            Some(b'.' | b'e' | b'E' | b'0'..=b'9') => None,
            _ => Some(&start[..start.len() - self.rest.len()]),
        }
    }

    /// An integer that counts something. No count that is usual has 20 digits, as 2^64 has.
    #[inline(always)]
    fn count(&mut self) -> Option<u64> {
        let digits = self.integer()?;
        if digits.len() > 19 || digits[0] == b'-' {
            return None;
        }
        let add = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
        Some(digits.iter().fold(0, add))
    }

    /// An object or an array, as it was written.
    fn structure(&mut self) -> Option<&'a str> {
        let from = self.at();
        match self.rest.first()? {
            b'{' | b'[' => self.value()?,
            _ => return None,
        }
        Some(&self.text[from..self.at()])
    }

    /// Any value whose strings have no escapes and whose numbers are integers.
    fn value(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.nested(b'}', |scanner| {
                scanner.string()?;
                scanner.skip_spaces();
                scanner.eat(":")?;
                scanner.skip_spaces();
                scanner.value()
            }),
            b'[' => self.nested(b']', Self::value),
            b't' => self.eat("true"),
            b'f' => self.eat("false"),
            b'n' => self.eat("null"),
            _ => self.integer().map(|_| ()),
        }
    }

    fn nested(&mut self, close: u8, entry: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        self.next()?;
        self.skip_spaces();
        if *self.rest.first()? == close {
            self.next()?;
        } else {
            loop {
                self.skip_spaces();
                entry(self)?;
                self.skip_spaces();
                match self.next()? {
                    b',' => {}
                    byte if byte == close => break,
                    _ => return None,
                }
            }
        }
        self.depth += 1;
        Some(())
    }

    fn request_meta(&mut self) -> Option<RequestMeta<'a>> {
        self.depth.checked_sub(1)?;
        self.eat("{")?;
        let (mut attempt, mut timeout_ms, mut ack, mut traceparent) = (None, None, None, None);
        loop {
            self.skip_spaces();
            if ack.is_none() && self.member(r#""ack":"#) {
                ack = Some(self.count()?);
            } else if timeout_ms.is_none() && self.member(r#""timeout_ms":"#) {
                timeout_ms = Some(self.count()?);
            } else if attempt.is_none() && self.member(r#""attempt":"#) {
                attempt = Some(self.count()?.try_into().ok()?);
            } else if traceparent.is_none() && self.member(r#""traceparent":"#) {
                traceparent = Some(Cow::Borrowed(self.string()?));
            } else {
                return None;
            }
            if self.is_last()? {
                break;
            }
        }
        let default = RequestMeta::default();
        Some(RequestMeta {
            attempt: attempt.unwrap_or(default.attempt),
            timeout_ms,
            ack,
            traceparent,
        })
    }
}

/// What follows from the first quote, backslash or control character on. Eight bytes are looked
/// at in one step (Mycroft's test for a zero byte, which is exact for the lowest that passes it).
#[inline(always)]
fn after_plain(mut bytes: &[u8]) -> &[u8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    while let Some((chunk, rest)) = bytes.split_first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        let found = is(word, b'"') | is(word, b'\\') | below(word, b' ');
        if found != 0 {
            return &bytes[found.trailing_zeros() as usize / 8..];
        }
        bytes = rest;
    }
    while let [byte, rest @ ..] = bytes
        && !matches!(byte, b'"' | b'\\' | 0..b' ')
    {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Incoming, Limits};

    const LIMITS: Limits = Limits {
        max_frame_bytes: 1 << 20,
        max_batch_entries: 100,
        max_depth: 128,
    };

    /// What a general parser makes of it: a line break is nothing that is scanned here.
    fn slowly(text: &str, limits: &Limits) -> Result<String, String> {
        let text = format!("\n{text}");
        assert!(request(&text, limits.max_depth).is_none());
        match Incoming::parse(text.as_bytes(), limits) {
            Ok(incoming) => Ok(format!("{incoming:?}")),
            Err(rejection) => Err(format!("{rejection:?}")),
        }
    }

    fn assert_same(text: &str, limits: &Limits) -> bool {
        let Some(scanned) = request(text, limits.max_depth) else {
            return false;
        };
        let scanned = format!("{:?}", Incoming::Request(scanned));
        assert_eq!(Ok(scanned), slowly(text, limits), "{text}");
        true
    }

    #[test]
    fn the_usual_shapes_are_scanned() {
        for text in [
            r#"{"id":"k","method":"inc","params":{"key":"k","delta":1}}"#,
            r#"{"id": "k", "method": "inc", "params": {"key": "k", "delta": -1}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"get","params":["k"]}"#,
            r#"{"jsonrpc":"2.0","id":-7,"method":"get","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"get"}"#,
            r#"{"jsonrpc":"2.0","method":"get","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":"x","method":"m","params":[[{"a":[true,false,null,""]}],0]}"#,
            r#"{"jsonrpc":"2.0","id":"x","method":"m","params":["ü"],"redial":{"ack":7}}"#,
            r#"{"id":"x","method":"m","redial":{"attempt":2,"timeout_ms":100,"traceparent":"t"}}"#,
            r#"{"redial":{"ack":9999999999999999999},"params":[],"method":"","id":1}"#,
        ] {
            assert!(assert_same(text, &LIMITS), "not scanned: {text}");
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_left_to_others() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"id":1}"#,
            r#"{"id":1,"method":"a"} "#,
            r#"{"id":1,"method":"a"}{"#,
            r#"{"id":1,"method":"a",}"#,
            r#"{"id":1,"method":"a","method":"a"}"#,
            r#"{"id":1,"method":"a\u0062"}"#,
            r#"{"id":1,"method":"a","params":null}"#,
            r#"{"id":1,"method":"a","params":7}"#,
            r#"{"id":1,"method":"a","params":[1.5]}"#,
            r#"{"id":1,"method":"a","params":[01]}"#,
            r#"{"id":1,"method":"a","params":[-]}"#,
            r#"{"id":1,"method":"a","params":[1,]}"#,
            r#"{"id":1,"method":"a","params":{"a"}}"#,
            r#"{"id":1.0,"method":"a"}"#,
            r#"{"id":01,"method":"a"}"#,
            r#"{"id":"","method":"a"}"#,
            r#"{"id":nul,"method":"a"}"#,
            r#"{"id":1,"method":"a","redial":{}}"#,
            r#"{"id":1,"method":"a","redial":[1]}"#,
            r#"{"id":1,"method":"a","redial":{"attempt":4294967296}}"#,
            r#"{"id":1,"method":"a","redial":{"ack":18446744073709551615}}"#,
            r#"{"id":1,"method":"a","redial":{"ack":18446744073709551616}}"#,
            r#"{"id":1,"method":"a","redial":{"ack":-1}}"#,
            r#"{"id":1,"method":"a","redial":{"ack":1,"ack":1}}"#,
            r#"{"id":1,"method":"a","redial":{"other":1}}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"a"}"#,
        ] {
            assert!(request(text, 128).is_none(), "scanned: {text}");
        }
        let id = "x".repeat(129);
        assert!(request(&format!(r#"{{"id":"{id}","method":"a"}}"#), 128).is_none());
    }

    #[test]
    fn nesting_counts_as_it_does_elsewhere() {
        let limits = |max_depth| Limits {
            max_depth,
            ..LIMITS
        };
        for depth in 0..20 {
            let params = "[".repeat(depth) + &"]".repeat(depth);
            let params = if depth == 0 { "[]".to_owned() } else { params };
            let text = format!(r#"{{"id":1,"method":"a","params":{params},"redial":{{"ack":1}}}}"#);
            for max_depth in 0..20 {
                assert_same(&text, &limits(max_depth));
            }
            let is_shallow = depth.max(1) < MAX_DEPTH;
            assert_eq!(assert_same(&text, &LIMITS), is_shallow, "{depth}");
        }
    }

    /// Pieces of messages, right and wrong.
    const NAMES: &[&str] = &[
        r#""jsonrpc""#,
        r#""id""#,
        r#""method""#,
        r#""params""#,
        r#""redial""#,
        r#""result""#,
        r#""other""#,
        r#""i\u0064""#,
        "id",
    ];
    const VALUES: &[&str] = &[
        r#""2.0""#,
        r#""1.0""#,
        r#""inc""#,
        r#""""#,
        r#""a\nb""#,
        "\"a\nb\"",
        r#""12345678-9abc-8def-8000-000000000007""#,
        "7",
        "-0",
        "00",
        "-",
        "1.5",
        "1e3",
        "18446744073709551617",
        "null",
        "true",
        "nul",
        "[]",
        "[1, 2]",
        "[1 2]",
        "[,]",
        "{}",
        r#"{"key":"k","delta":1}"#,
        r#"{"key":{"a":[{}]}}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"ack":3}"#,
        r#"{"ack":-3}"#,
        r#"{"ack":null}"#,
        r#"{"ack":3,"timeout_ms":5}"#,
        r#"{"attempt":2}"#,
        r#"{"attempt":99999999999}"#,
        r#"{"traceparent":"00-ab-cd-01"}"#,
        r#"{"traceparent":7}"#,
    ];

    fn any_message() -> impl Strategy<Value = String> {
        let member = (
            prop::sample::select(NAMES),
            prop::sample::select(vec![":", ": ", " :", ""]),
            prop::sample::select(VALUES),
        )
            .prop_map(|(name, colon, value)| format!("{name}{colon}{value}"));
        let usual = prop::sample::subsequence(
            vec![
                r#""jsonrpc":"2.0""#,
                r#""id":"a""#,
                r#""method":"inc""#,
                r#""params":[1,{"a":"b"}]"#,
                r#""redial":{"ack":3}"#,
            ],
            0..=5,
        );
        (usual, prop::collection::vec(member, 0..3)).prop_flat_map(|(usual, others)| {
            let members: Vec<String> = usual.into_iter().map(String::from).chain(others).collect();
            (
                Just(members).prop_shuffle(),
                prop::sample::select(vec![",", ", ", " ,", ",,"]),
                prop::sample::select(vec!["", " ", "\t", "x"]),
            )
                .prop_map(|(members, comma, tail)| format!("{{{}}}{tail}", members.join(comma)))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn eight_bytes_at_once_are_the_same_as_one_by_one(
            bytes in prop::collection::vec(prop::sample::select(
                vec![b'"', b'\\', 0, 0x1f, b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff],
            ), 0..40),
            plain in 0usize..40,
        ) {
            let bytes = [vec![b'x'; plain], bytes].concat();
            let one_by_one = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(after_plain(&bytes), &bytes[one_by_one.unwrap_or(bytes.len())..]);
        }

        #[test]
        fn what_is_scanned_is_read_as_slowly(text in any_message(), max_depth in 0usize..6) {
            assert_same(&text, &LIMITS);
            assert_same(&text, &Limits { max_depth, ..LIMITS });
        }

        #[test]
        fn a_spoilt_message_is_read_as_slowly(
            text in any_message(),
            at: prop::sample::Index,
            by in prop::sample::select(vec!['"', '\\', '{', '}', '[', ']', ',', ':', ' ', '0', '-', '.', 'e', 'ü', '\u{1}']),
            replaces: bool,
        ) {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            match replaces {
                true => characters[at] = by,
                false => characters.insert(at, by),
            }
            assert_same(&characters.into_iter().collect::<String>(), &LIMITS);
        }
    }
}
