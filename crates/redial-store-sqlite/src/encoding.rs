//! How acknowledgements stand in the file, beside what all stores have in common.

use redial_server::store::Acknowledged;
pub(crate) use redial_server::store::encoding::{
    is_acknowledged, is_news, key_of, merge, plain_key, session,
};

/// The numbers below the watermark that are not acknowledged, as a JSON array.
pub(crate) fn open_numbers(acknowledged: &Acknowledged) -> String {
    format!("{:?}", acknowledged.open)
}

/// What a session has acknowledged, as it was written; `None` if that is damaged.
pub(crate) fn acknowledged(below: i64, open: &str) -> Option<Acknowledged> {
    let numbers = open.strip_prefix('[')?.strip_suffix(']')?;
    let numbers = numbers
        .split(',')
        .map(str::trim)
        .filter(|number| !number.is_empty());
    Some(Acknowledged {
        below: u64::try_from(below).ok()?,
        open: numbers.map(str::parse).collect::<Result<_, _>>().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(below: u64, open: &[u64]) -> Acknowledged {
        Acknowledged {
            below,
            open: open.to_vec(),
        }
    }

    #[test]
    fn acknowledgements_survive_their_text() {
        for known in [acks(0, &[]), acks(9, &[7]), acks(1 << 62, &[1, 1 << 61])] {
            let below = known.below.cast_signed();
            assert_eq!(acknowledged(below, &open_numbers(&known)), Some(known));
        }
        assert_eq!(acknowledged(-1, "[]"), None);
        assert_eq!(acknowledged(1, "7"), None);
    }
}
