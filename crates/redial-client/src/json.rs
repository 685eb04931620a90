//! JSON as bytes: what is short, as most params and results are, needs no heap.

use std::io;

use serde_json::value::RawValue;

/// How much needs no heap, in bytes.
const SHORT_BYTES: usize = 46;

/// A value that is spelled out.
#[derive(Clone)]
pub(crate) struct Json(Bytes);

#[derive(Clone)]
enum Bytes {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Vec<u8>),
}

impl Json {
    pub(crate) const NULL: Self = {
        let mut bytes = [0; SHORT_BYTES];
        (bytes[0], bytes[1], bytes[2], bytes[3]) = (b'n', b'u', b'l', b'l');
        Self(Bytes::Short { len: 4, bytes })
    };

    pub(crate) fn get(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { len, bytes } => &bytes[..usize::from(*len)],
            Bytes::Long(bytes) => bytes,
        }
    }

    /// The same for those who want it checked. `None` if it is no JSON after all.
    pub(crate) fn to_raw(&self) -> Option<Box<RawValue>> {
        let text = String::from_utf8(self.get().to_vec()).ok()?;
        RawValue::from_string(text).ok()
    }
}

impl From<&[u8]> for Json {
    fn from(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        Self(match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                let len = text.len() as u8;
                Bytes::Short { len, bytes }
            }
            None => Bytes::Long(text.to_vec()),
        })
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        raw.get().as_bytes().into()
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.get()))
    }
}

/// Where JSON is spelled out.
pub(crate) struct JsonWriter {
    len: usize,
    short: [u8; SHORT_BYTES],
    /// All of it, once it is not short any more.
    long: Vec<u8>,
}

impl JsonWriter {
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            short: [0; SHORT_BYTES],
            long: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Json {
        Json(match self.long.is_empty() {
            true => Bytes::Short {
                len: self.len as u8,
                bytes: self.short,
            },
            false => Bytes::Long(self.long),
        })
    }

    #[cold]
    fn write_long(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            self.long.reserve((2 * (self.len + bytes.len())).max(128));
            self.long.extend_from_slice(&self.short[..self.len]);
            // From now on nothing fits.
            self.len = SHORT_BYTES;
        }
        self.long.extend_from_slice(bytes);
    }
}

impl io::Write for JsonWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.len + bytes.len();
        match self.short.get_mut(self.len..end) {
            Some(place) if self.long.is_empty() => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.write_long(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_was_written(pieces in prop::collection::vec("[a-z]{0,20}", 0..10)) {
            let mut json = JsonWriter::new();
            for piece in &pieces {
                io::Write::write_all(&mut json, piece.as_bytes()).unwrap();
            }
            let (json, whole) = (json.finish(), pieces.concat());
            prop_assert_eq!(json.get(), whole.as_bytes());
            let copy = Json::from(whole.as_bytes());
            prop_assert_eq!(copy.get(), whole.as_bytes());
            let is_short = matches!(json.0, Bytes::Short { .. });
            prop_assert_eq!(is_short, whole.len() <= SHORT_BYTES);
        }
    }

    #[test]
    fn only_json_is_given_as_json() {
        assert_eq!(Json::from(&b"[1]"[..]).to_raw().unwrap().get(), "[1]");
        assert!(Json::from(&b"[1"[..]).to_raw().is_none());
    }
}
