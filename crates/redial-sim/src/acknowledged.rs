//! What a session's client will never ask for again, as the model stores keep it.

use redial_server::store::Acknowledged;

/// Whether the client will never ask for the call with this number.
pub(crate) fn covers(acknowledged: &Acknowledged, number: u64) -> bool {
    number < acknowledged.below && !acknowledged.open.contains(&number)
}

/// What either of two says.
pub(crate) fn merged(one: &Acknowledged, other: &Acknowledged) -> Acknowledged {
    let all = one.open.iter().chain(&other.open).copied();
    let mut open: Vec<u64> = all
        .filter(|number| !covers(one, *number) && !covers(other, *number))
        .collect();
    open.sort_unstable();
    open.dedup();
    let below = one.below.max(other.below);
    Acknowledged { below, open }
}
