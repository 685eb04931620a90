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
    scanner.expect(b'{')?;
    loop {
        match scanner.name()? {
            "jsonrpc" if !is_2_0 => {
                is_2_0 = scanner.string()? == "2.0";
                is_2_0.then_some(())?;
            }
            "id" if id.is_none() => id = Some(scanner.id()?),
            "method" if method.is_none() => method = Some(scanner.string()?),
            "params" if params.is_none() => params = Some(scanner.structure()?),
            "redial" if meta.is_none() => meta = Some(scanner.request_meta()?),
            _ => return None,
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
    at: usize,
    /// How much deeper values may nest.
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, max_depth: usize) -> Option<Self> {
        // The message itself is the first level.
        let depth = max_depth.min(MAX_DEPTH).checked_sub(1)?;
        Some(Self { text, at: 0, depth })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Spaces only: who writes a message over several lines is not in a hurry.
    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// The name of a member, and the colon after it.
    fn name(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        let name = self.string()?;
        self.skip_spaces();
        self.expect(b':')?;
        self.skip_spaces();
        Some(name)
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
        (self.at == self.text.len()).then_some(())
    }

    /// What a string without escapes says.
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let from = self.at;
        let rest = &self.text.as_bytes()[from..];
        let len = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        self.at += len + 1;
        // Both ends lie beside ASCII, so no character is cut.
        (rest[len] == b'"').then(|| &self.text[from..from + len])
    }

    fn id(&mut self) -> Option<Id<'a>> {
        let from = self.at;
        let len = match self.peek()? {
            b'"' => self.string()?.len(),
            b'n' => self.word("null")?,
            _ => self.integer()?,
        };
        (1..=MAX_ID_BYTES)
            .contains(&len)
            .then(|| Id::scanned(&self.text[from..self.at]))
    }

    /// An integer of any size. Says how long it is.
    fn integer(&mut self) -> Option<usize> {
        let from = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        let is_whole = !matches!(self.peek(), Some(b'.' | b'e' | b'E' | b'0'..=b'9'));
        is_whole.then_some(self.at - from)
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// An integer that counts something.
    fn count(&mut self) -> Option<u64> {
        let from = self.at;
        self.integer()?;
        self.text[from..self.at].parse().ok()
    }

    fn word(&mut self, word: &str) -> Option<usize> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            word.len()
        })
    }

    /// An object or an array, as it was written.
    fn structure(&mut self) -> Option<&'a str> {
        let from = self.at;
        match self.peek()? {
            b'{' | b'[' => self.value()?,
            _ => return None,
        }
        Some(&self.text[from..self.at])
    }

    /// Any value whose strings have no escapes and whose numbers are integers.
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.nested(b'}', |scanner| {
                scanner.name()?;
                scanner.value()
            }),
            b'[' => self.nested(b']', Self::value),
            b't' => self.word("true").map(|_| ()),
            b'f' => self.word("false").map(|_| ()),
            b'n' => self.word("null").map(|_| ()),
            _ => self.integer().map(|_| ()),
        }
    }

    fn nested(&mut self, close: u8, entry: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        self.at += 1;
        self.skip_spaces();
        if self.peek()? == close {
            self.at += 1;
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
        self.expect(b'{')?;
        let (mut attempt, mut timeout_ms, mut ack, mut traceparent) = (None, None, None, None);
        loop {
            match self.name()? {
                "attempt" if attempt.is_none() => attempt = Some(self.count()?.try_into().ok()?),
                "timeout_ms" if timeout_ms.is_none() => timeout_ms = Some(self.count()?),
                "ack" if ack.is_none() => ack = Some(self.count()?),
                "traceparent" if traceparent.is_none() => {
                    traceparent = Some(Cow::Borrowed(self.string()?));
                }
                _ => return None,
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
            r#"{"redial":{"ack":18446744073709551615},"params":[],"method":"","id":1}"#,
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
        #![proptest_config(ProptestConfig::with_cases(20_000))]

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
