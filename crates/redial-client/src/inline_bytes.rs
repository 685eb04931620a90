//! JSON as bytes: short ones, as most params and results are, need no heap.

use std::io;

use serde_json::value::RawValue;

/// How much needs no heap, in bytes.
const INLINE_BYTES: usize = 46;

/// The text of a JSON value, inline where it is short.
#[derive(Clone)]
pub(crate) struct InlineBytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Vec<u8>),
}

impl InlineBytes {
    /// To be appended to. By itself it is not JSON.
    pub(crate) const EMPTY: Self = Self(Repr::Inline {
        len: 0,
        bytes: [0; INLINE_BYTES],
    });

    pub(crate) const NULL: Self = {
        let mut bytes = [0; INLINE_BYTES];
        (bytes[0], bytes[1], bytes[2], bytes[3]) = (b'n', b'u', b'l', b'l');
        Self(Repr::Inline { len: 4, bytes })
    };

    /// Whether it needs no heap.
    pub(crate) fn is_inline(text: &[u8]) -> bool {
        text.len() <= INLINE_BYTES
    }

    #[inline]
    pub(crate) fn get(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }

    /// The same, unless it is empty.
    pub(crate) fn non_empty(&self) -> Option<&[u8]> {
        Some(self.get()).filter(|text| !text.is_empty())
    }

    /// The same as a checked value. `None` if it is not JSON after all.
    pub(crate) fn to_raw(&self) -> Option<Box<RawValue>> {
        let text = String::from_utf8(self.get().to_vec()).ok()?;
        RawValue::from_string(text).ok()
    }

    /// Appends text: from [`EMPTY`](Self::EMPTY) on, the value is written where it stays.
    #[inline]
    pub(crate) fn append(&mut self, text: &[u8]) {
        if let Repr::Inline { len, bytes } = &mut self.0 {
            let start = usize::from(*len);
            if let Some(free) = bytes.get_mut(start..start + text.len()) {
                free.copy_from_slice(text);
                *len += text.len() as u8;
                return;
            }
        }
        self.append_to_heap(text);
    }

    #[cold]
    fn append_to_heap(&mut self, text: &[u8]) {
        match &mut self.0 {
            Repr::Heap(bytes) => bytes.extend_from_slice(text),
            Repr::Inline { len, bytes } => {
                let start = &bytes[..usize::from(*len)];
                let mut long = Vec::with_capacity((2 * (start.len() + text.len())).max(128));
                long.extend_from_slice(start);
                long.extend_from_slice(text);
                self.0 = Repr::Heap(long);
            }
        }
    }
}

impl From<&[u8]> for InlineBytes {
    fn from(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        Self(match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text);
                let len = text.len() as u8;
                Repr::Inline { len, bytes }
            }
            None => Repr::Heap(text.to_vec()),
        })
    }
}

impl From<&RawValue> for InlineBytes {
    fn from(raw: &RawValue) -> Self {
        raw.get().as_bytes().into()
    }
}

impl std::fmt::Debug for InlineBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.get()))
    }
}

/// For serialisers.
impl io::Write for InlineBytes {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.write_all(text)?;
        Ok(text.len())
    }

    #[inline]
    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        self.append(text);
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
            let mut json = InlineBytes::EMPTY;
            for piece in &pieces {
                io::Write::write_all(&mut json, piece.as_bytes()).unwrap();
            }
            let whole = pieces.concat();
            prop_assert_eq!(json.get(), whole.as_bytes());
            let copy = InlineBytes::from(whole.as_bytes());
            prop_assert_eq!(copy.get(), whole.as_bytes());
            let is_inline = matches!(json.0, Repr::Inline { .. });
            prop_assert_eq!(is_inline, whole.len() <= INLINE_BYTES);
        }
    }

    #[test]
    fn only_json_is_given_as_json() {
        assert_eq!(
            InlineBytes::from(&b"[1]"[..]).to_raw().unwrap().get(),
            "[1]"
        );
        assert!(InlineBytes::from(&b"[1"[..]).to_raw().is_none());
    }
}
