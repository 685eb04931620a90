//! Captures in the classic format of libpcap (draft-ietf-opsawg-pcap): a header, and packets with their
//! times.

/// Bytes of the header of a file.
const FILE_HEADER: usize = 24;

/// Bytes of the header of a packet.
const PACKET_HEADER: usize = 16;

/// A packet as it was captured.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// Since 1970, in microseconds.
    pub(super) at_us: u64,
    /// What its first bytes are: a LINKTYPE.
    pub(super) link: u32,
    pub(super) bytes: &'a [u8],
}

/// How a file spells its numbers.
#[derive(Clone, Copy)]
struct Spelling {
    is_big: bool,
    has_nanoseconds: bool,
}

impl Spelling {
    fn of(bytes: &[u8]) -> Option<Self> {
        let magic = u32::from_be_bytes(*bytes.first_chunk()?);
        let (is_big, has_nanoseconds) = match magic {
            0xa1b2_c3d4 => (true, false),
            0xa1b2_3c4d => (true, true),
            0xd4c3_b2a1 => (false, false),
            0x4d3c_b2a1 => (false, true),
            _ => return None,
        };
        Some(Self {
            is_big,
            has_nanoseconds,
        })
    }

    fn number(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }
}

/// Whether the bytes are such a capture.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    Spelling::of(bytes).is_some()
}

/// The packets of a capture. One that was cut off at the end of the file is left out.
pub(super) fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>, String> {
    let spelling = Spelling::of(bytes).ok_or("no capture")?;
    let link = spelling
        .number(bytes, 20)
        .ok_or("the capture ends in its header")?
        & 0xffff;
    let mut packets = Vec::new();
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    while let Some(header) = rest.get(..PACKET_HEADER) {
        let number = |at| u64::from(spelling.number(header, at).unwrap_or_default());
        let fraction = if spelling.has_nanoseconds {
            number(4) / 1000
        } else {
            number(4)
        };
        let length = usize::try_from(number(8)).unwrap_or(usize::MAX);
        rest = &rest[PACKET_HEADER..];
        let Some(packet) = rest.get(..length) else {
            break;
        };
        rest = &rest[length..];
        let at_us = number(0) * 1_000_000 + fraction;
        packets.push(Packet {
            at_us,
            link,
            bytes: packet,
        });
    }
    Ok(packets)
}
