//! A call as a client sends it, under a UUID: written in one go, since this is done for every call.

use uuid::Uuid;

use crate::{
    hex::digits,
    message::{Dialect, is_plain, write_request},
    meta::RequestMeta,
};

/// What a request begins with. The digits are put in afterwards.
const STANDARD: &[u8] =
    br#"{"jsonrpc":"2.0","id":"00000000-0000-0000-0000-000000000000","method":""#;
const NOTEBOOK: &[u8] = br#"{"id":"00000000-0000-0000-0000-000000000000","method":""#;

/// From the id's first digit to the end of both.
const FROM_ID_BYTES: usize = UUID_BYTES + br#"","method":""#.len();

const UUID_BYTES: usize = 36;

/// What `redial` takes at most, but for a traceparent, and what is around the params.
const REST_BYTES: usize = 120;

/// Appends a request to `out`, without a frame around it: what [`write_request`] appends if the id
/// is that UUID.
///
/// ```
/// use redial_protocol::{Dialect, RequestMeta, write_call};
///
/// let id = "12345678-9abc-8def-8000-000000000007".parse()?;
/// let mut out = Vec::new();
/// write_call(&mut out, Dialect::Notebook, id, "get", None, &RequestMeta::default());
/// assert_eq!(out, br#"{"id":"12345678-9abc-8def-8000-000000000007","method":"get"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_call(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: Uuid,
    method: &str,
    params: Option<&[u8]>,
    meta: &RequestMeta<'_>,
) {
    if !is_plain(method) {
        let id = format!("\"{id}\"");
        return write_request(out, dialect, Some(&id), method, params, meta);
    }
    let params_bytes = params.map_or(0, <[u8]>::len);
    out.reserve(STANDARD.len() + method.len() + params_bytes + REST_BYTES);
    match dialect {
        Dialect::JsonRpc2 => out.extend_from_slice(STANDARD),
        Dialect::Notebook => out.extend_from_slice(NOTEBOOK),
    }
    let from_id = out.last_chunk_mut::<FROM_ID_BYTES>();
    write_uuid(id, from_id.expect("it was just appended"));
    out.extend_from_slice(method.as_bytes());
    match params {
        Some(params) => {
            out.extend_from_slice(br#"","params":"#);
            out.extend_from_slice(params);
        }
        None => out.push(b'"'),
    }
    if !meta.is_empty() {
        out.extend_from_slice(br#","redial":"#);
        meta.write(out);
    }
    out.push(b'}');
}

/// The 36 characters of a UUID (RFC 9562, section 4), in front of what else there is.
fn write_uuid<const N: usize>(id: Uuid, out: &mut [u8; N]) {
    let bits = id.as_u128();
    let [a, b, c, d] = [96, 64, 32, 0].map(|shift| digits((bits >> shift) as u32));
    out[..8].copy_from_slice(&a);
    out[9..13].copy_from_slice(&b[..4]);
    out[14..18].copy_from_slice(&b[4..]);
    out[19..23].copy_from_slice(&c[..4]);
    out[24..28].copy_from_slice(&c[4..]);
    out[28..36].copy_from_slice(&d);
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_call_is_the_request_that_the_long_way_writes(
            is_standard: bool,
            id: u128,
            method in prop_oneof!["[ -~]{0,12}", ".{0,5}"],
            params in prop::option::of("[ -~]{0,80}"),
            numbers: (u32, Option<u64>, Option<u64>),
            traceparent in prop::option::of("[ -~]{0,9}"),
        ) {
            let dialect = if is_standard { Dialect::JsonRpc2 } else { Dialect::Notebook };
            let (attempt, timeout_ms, ack) = numbers;
            let attempt = attempt % 3;
            let traceparent = traceparent.map(Cow::Owned);
            let meta = RequestMeta { attempt, timeout_ms, ack, traceparent };
            let (id, params) = (Uuid::from_u128(id), params.as_deref().map(str::as_bytes));
            let text = format!("\"{}\"", id.hyphenated());
            let (mut call, mut request) = (b"before".to_vec(), b"before".to_vec());
            write_call(&mut call, dialect, id, &method, params, &meta);
            write_request(&mut request, dialect, Some(&text), &method, params, &meta);
            prop_assert_eq!(String::from_utf8(call), String::from_utf8(request));
        }
    }
}
