//! The calls in flight: a ring of slots, the oldest first.

use std::fmt;

/// How much of a reply is kept for a call that is sent twice.
const KEPT_BYTES: usize = 96;

/// The end of a session's reply that is sent a second time.
const REPLAYED: &[u8] = br#","redial":{"replayed":true}}"#;

#[derive(Clone, Copy)]
struct Slot {
    /// How many replies are still to come.
    pending: u8,
    sent_ns: u64,
    kept: [u8; KEPT_BYTES],
    kept_bytes: usize,
}

/// The calls of one connection.
pub struct Slots {
    ring: Vec<Slot>,
    /// The first call that has not completed: what is acknowledged.
    watermark: u32,
    /// The next call.
    next: u32,
    in_flight: usize,
}

/// Which reply of a call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replied {
    /// It was the first one: the call was sent at this time.
    First {
        /// When the call was sent.
        sent_ns: u64,
    },
    /// It was the second one, and says the same.
    Again,
}

/// Why a reply is wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum WrongReply {
    /// No call of that number waits for a reply.
    Unasked,
    /// The first reply to the same call said this.
    Differs(String),
}

impl fmt::Display for WrongReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => write!(f, "no call waits for it"),
            Self::Differs(first) => write!(
                f,
                "it differs from the first reply to the same call, {first}"
            ),
        }
    }
}

impl Slots {
    /// Room for so many calls at once.
    #[must_use]
    pub fn new(in_flight: usize) -> Self {
        let empty = Slot {
            pending: 0,
            sent_ns: 0,
            kept: [0; KEPT_BYTES],
            kept_bytes: 0,
        };
        Self {
            ring: vec![empty; (in_flight * 2).next_power_of_two()],
            watermark: 0,
            next: 0,
            in_flight: 0,
        }
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.next
    }

    /// Every call below this number has completed.
    #[must_use]
    pub fn watermark(&self) -> u32 {
        self.watermark
    }

    /// Whether the ring has a slot for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        ((self.next - self.watermark) as usize) < self.ring.len()
    }

    /// The number of a new call, which is sent so many times. There must be room.
    pub fn take(&mut self, times: u8, now_ns: u64) -> u32 {
        let number = self.next;
        let slot = self.slot(number);
        slot.pending = times;
        slot.sent_ns = now_ns;
        slot.kept_bytes = 0;
        self.next = number
            .checked_add(1)
            .expect("a run has fewer than 2^32 calls");
        self.in_flight += 1;
        number
    }

    /// Takes a reply. `twice` says whether the connection sends anything twice; then what it
    /// says is kept, to be compared.
    ///
    /// # Errors
    ///
    /// [`WrongReply`] if it can't be true.
    pub fn replied(
        &mut self,
        number: u32,
        body: &[u8],
        twice: bool,
    ) -> Result<Replied, WrongReply> {
        if number.wrapping_sub(self.watermark) >= self.next - self.watermark {
            return Err(WrongReply::Unasked);
        }
        let slot = self.slot(number);
        let sent_ns = slot.sent_ns;
        let replied = match slot.pending {
            0 => return Err(WrongReply::Unasked),
            _ if twice && slot.kept_bytes > 0 => {
                let first = &slot.kept[..slot.kept_bytes];
                if !says_the_same(first, body) {
                    return Err(WrongReply::Differs(
                        String::from_utf8_lossy(first).into_owned(),
                    ));
                }
                Replied::Again
            }
            _ => Replied::First { sent_ns },
        };
        slot.pending -= 1;
        if slot.pending > 0 {
            slot.kept_bytes = body.len().min(KEPT_BYTES);
            slot.kept[..slot.kept_bytes].copy_from_slice(&body[..slot.kept_bytes]);
        } else {
            self.in_flight -= 1;
            self.advance();
        }
        Ok(replied)
    }

    fn advance(&mut self) {
        while self.watermark < self.next && self.slot(self.watermark).pending == 0 {
            self.watermark += 1;
        }
    }

    fn slot(&mut self, number: u32) -> &mut Slot {
        let mask = self.ring.len() - 1;
        &mut self.ring[number as usize & mask]
    }
}

/// Whether the second reply is the first, or says of itself that it is a replay and is the first
/// otherwise. Either may have come first: a copy may overtake what it is a copy of.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let bare = |reply| match <[u8]>::strip_suffix(reply, REPLAYED) {
        Some(start) => start,
        None => reply.strip_suffix(b"}").unwrap_or(reply),
    };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(sent_ns: u64) -> Result<Replied, WrongReply> {
        Ok(Replied::First { sent_ns })
    }

    #[test]
    fn the_watermark_waits_for_the_slowest() {
        let mut slots = Slots::new(2);
        for number in 0..4 {
            assert!(slots.has_room());
            assert_eq!(slots.take(1, u64::from(number)), number);
        }
        assert!(!slots.has_room());
        assert_eq!(slots.replied(1, b"", false), first(1));
        assert_eq!((slots.watermark(), slots.in_flight()), (0, 3));
        assert!(!slots.has_room());
        assert_eq!(slots.replied(0, b"", false), first(0));
        assert_eq!((slots.watermark(), slots.in_flight()), (2, 2));
        assert!(slots.has_room());
    }

    #[test]
    fn a_reply_that_no_call_waits_for_is_noticed() {
        let mut slots = Slots::new(2);
        slots.take(1, 0);
        assert_eq!(slots.replied(1, b"", false), Err(WrongReply::Unasked));
        assert_eq!(slots.replied(0, b"", false), first(0));
        assert_eq!(slots.replied(0, b"", false), Err(WrongReply::Unasked));
        let mut slots = Slots::new(2);
        slots.take(1, 0);
        slots.take(1, 0);
        assert_eq!(slots.replied(1, b"", false), first(0));
        assert_eq!(slots.replied(1, b"", false), Err(WrongReply::Unasked));
    }

    #[test]
    fn both_replies_to_a_call_that_is_sent_twice_are_waited_for_and_compared() {
        let reply = br#"{"id":"0","result":17}"#;
        let replay = br#"{"id":"0","result":17,"redial":{"replayed":true}}"#;
        for (one, other) in [
            (&reply[..], &reply[..]),
            (reply, replay),
            (&replay[..], reply),
        ] {
            let mut slots = Slots::new(1);
            slots.take(2, 5);
            assert_eq!(slots.replied(0, one, true), first(5));
            assert_eq!((slots.watermark(), slots.in_flight()), (0, 1));
            assert_eq!(slots.replied(0, other, true), Ok(Replied::Again));
            assert_eq!((slots.watermark(), slots.in_flight()), (1, 0));
        }
        let mut slots = Slots::new(1);
        slots.take(2, 5);
        slots.replied(0, reply, true).unwrap();
        let wrong = slots.replied(0, br#"{"id":"0","result":18}"#, true);
        assert!(matches!(wrong, Err(WrongReply::Differs(first)) if first.contains("17")));
    }
}
