//! What is on record for an id, and what that means to those who claim it.

use redial_protocol::{CallKey, SessionId};
use redial_server::store::{Acknowledged, Claimed, Left, RecoveredState, Resumable, StoreError};
use tokio_postgres::Row;

use crate::{error::Trouble, schema::SLOTS};
use redial_server::store::encoding::{plain_key, session};

pub(crate) const STARTED: i16 = 0;
pub(crate) const FINISHED: i16 = 1;
pub(crate) const FENCED: i16 = 2;

/// Where the record of a call lies.
#[derive(Clone, Debug)]
pub(crate) enum RecordLocation {
    Session {
        id: SessionId,
        /// The same as the tables have it.
        session: i64,
        /// The slot that the call shares with others, one after the other.
        slot: i64,
        /// The slot of its own, for when another call that is open lies in that one.
        spare: i64,
        number: i64,
    },
    Plain(Vec<u8>),
}

impl RecordLocation {
    pub(crate) fn of(key: &CallKey) -> Self {
        match key {
            CallKey::Session(call) => {
                let number = call.number.cast_signed();
                Self::Session {
                    id: call.session,
                    session: session(call.session),
                    slot: (call.number % SLOTS).cast_signed(),
                    spare: spare(number),
                    number,
                }
            }
            key => Self::Plain(plain_key(key).unwrap_or_default()),
        }
    }
}

/// The slot of a call's own.
pub(crate) fn spare(number: i64) -> i64 {
    number.saturating_add(SLOTS.cast_signed())
}

/// A record as it was read.
#[derive(Debug)]
pub(crate) struct Record {
    /// Of a plain id -1.
    pub(crate) number: i64,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) state: i16,
    /// The epoch of the server that has started it.
    pub(crate) owner: i64,
    pub(crate) is_owner_alive: bool,
    pub(crate) method: Option<String>,
    pub(crate) params: Option<String>,
    pub(crate) reply: Option<Vec<u8>>,
}

impl Record {
    /// The columns that are read, of a table with this alias.
    pub(crate) const COLUMNS: &str = "s.fingerprint, s.state, s.owner, \
        EXISTS (SELECT FROM redial.server v WHERE v.epoch = s.owner AND v.expires > clock_timestamp()), \
        s.method, s.params, s.reply";

    /// The record that stands in a row from this column on, if there is one.
    pub(crate) fn read(row: &Row, number: i64, from: usize) -> Option<Self> {
        Some(Self {
            number,
            fingerprint: row.get::<_, Option<Vec<u8>>>(from)?,
            state: row.get(from + 1),
            owner: row.get(from + 2),
            is_owner_alive: row.get(from + 3),
            method: row.get(from + 4),
            params: row.get(from + 5),
            reply: row.get(from + 6),
        })
    }

    /// Its server is gone in the middle of it, and it may run again.
    pub(crate) fn left(&self) -> Option<Left> {
        let is_left = self.state == STARTED && !self.is_owner_alive;
        let method = self.method.clone().filter(|_| is_left)?;
        Some(Left {
            fingerprint: self.fingerprint(),
            resumable: Resumable {
                method,
                params: self.params.clone(),
            },
        })
    }

    fn fingerprint(&self) -> u128 {
        let fingerprint = self.fingerprint.as_slice().try_into();
        u128::from_be_bytes(fingerprint.unwrap_or_default())
    }

    pub(crate) fn is_resumable(&self) -> bool {
        self.method.is_some()
    }

    /// What it says to a call with this fingerprint; `None` is a fence, for which all are the same. `Err`
    /// for a call whose handler has started and has not ended, but for its owner.
    pub(crate) fn claimed(self, fingerprint: Option<&[u8]>) -> Result<Claimed, Self> {
        if self.state == FENCED {
            return Ok(Claimed::Fenced);
        }
        if fingerprint.is_some_and(|asked| asked != self.fingerprint) {
            return Ok(Claimed::IdReused);
        }
        if self.state == FINISHED {
            return Ok(Claimed::Recorded(self.reply.unwrap_or_default()));
        }
        Err(self)
    }

    /// The same as a server recovers it.
    pub(crate) fn recovered(self) -> (u128, RecoveredState) {
        let fingerprint = self.fingerprint();
        let state = match self.state {
            FINISHED => RecoveredState::Finished(self.reply.unwrap_or_default()),
            FENCED => RecoveredState::Fenced,
            _ => RecoveredState::Started(self.method.map(|method| Resumable {
                method,
                params: self.params,
            })),
        };
        (fingerprint, state)
    }
}

/// Numbers as a row has them.
pub(crate) fn acknowledged(below: i64, open: &[i64]) -> Acknowledged {
    Acknowledged {
        below: below.cast_unsigned(),
        open: open.iter().map(|number| number.cast_unsigned()).collect(),
    }
}

/// What is said of a call whose handler runs in this very process.
pub(crate) fn runs_here() -> Trouble {
    Trouble::Fatal(StoreError::uncertain("the call runs at this moment"))
}
