//! Captures in the format pcapng (draft-ietf-opsawg-pcapng), as Wireshark writes them: blocks that say how
//! long they are, of which those with packets count.

use super::pcap::Packet;

/// Types of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Options of an interface.
const RESOLUTION: u16 = 9;
const OFFSET: u16 = 14;

/// Bytes of a block without its body: its type, and its length twice.
const FRAME: usize = 12;

/// What packets were captured on.
struct Interface {
    link: u32,
    ticks_per_s: u128,
    /// What is added to times, in seconds.
    offset_s: i64,
}

/// The order of bytes in a section.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn two(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big {
            u16::from_be_bytes(two)
        } else {
            u16::from_le_bytes(two)
        })
    }

    fn four(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }

    fn eight(self, bytes: &[u8], at: usize) -> Option<u64> {
        let eight = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big {
            u64::from_be_bytes(eight)
        } else {
            u64::from_le_bytes(eight)
        })
    }
}

/// Whether the bytes are such a capture.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION.to_be_bytes())
}

/// The packets of a capture. One that was cut off at the end of the file is left out.
pub(super) fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>, String> {
    let (mut packets, mut interfaces) = (Vec::new(), Vec::new());
    let mut order = Order { is_big: false };
    let mut rest = bytes;
    while rest.len() >= FRAME {
        if is_one(rest) {
            order = order_of(rest).ok_or("a section of the capture has no order of bytes")?;
            interfaces.clear();
        }
        let length = order.four(rest, 4).unwrap_or_default() as usize;
        if length < FRAME || !length.is_multiple_of(4) {
            let expected = "expected 12 or more, in fours";
            return Err(format!(
                "a block of the capture has {length} bytes; {expected}"
            ));
        }
        let Some(block) = rest.get(..length) else {
            break;
        };
        rest = &rest[length..];
        let body = &block[8..length - 4];
        match order.four(block, 0) {
            Some(INTERFACE) => interfaces.extend(interface(body, order)),
            Some(ENHANCED_PACKET) => packets.extend(enhanced(body, order, &interfaces)),
            Some(SIMPLE_PACKET) => packets.extend(simple(body, order, &interfaces)),
            _ => {}
        }
    }
    Ok(packets)
}

fn order_of(section: &[u8]) -> Option<Order> {
    match section.get(8..12)? {
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(Order { is_big: true }),
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(Order { is_big: false }),
        _ => None,
    }
}

fn interface(body: &[u8], order: Order) -> Option<Interface> {
    let mut interface = Interface {
        link: order.two(body, 0)?.into(),
        ticks_per_s: 1_000_000,
        offset_s: 0,
    };
    let mut options = body.get(8..)?;
    while let (Some(code), Some(length)) = (order.two(options, 0), order.two(options, 2)) {
        let Some(value) = options.get(4..4 + usize::from(length)) else {
            break;
        };
        match (code, value) {
            (RESOLUTION, [n]) if n & 0x80 != 0 => interface.ticks_per_s = 1 << (n & 0x3f),
            (RESOLUTION, [n]) => interface.ticks_per_s = 10_u128.pow(u32::from(*n).min(38)),
            (OFFSET, _) => interface.offset_s = order.eight(value, 0)? as i64,
            _ => {}
        }
        options = options
            .get(4 + value.len().next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Some(interface)
}

fn enhanced<'a>(body: &'a [u8], order: Order, interfaces: &[Interface]) -> Option<Packet<'a>> {
    let interface = interfaces.get(order.four(body, 0)? as usize)?;
    let [high, low] = [order.four(body, 4)?, order.four(body, 8)?];
    let ticks = u128::from(high) << 32 | u128::from(low);
    let length = order.four(body, 12)? as usize;
    let at_us = (ticks * 1_000_000 / interface.ticks_per_s) as i64;
    Some(Packet {
        at_us: at_us.saturating_add(interface.offset_s.saturating_mul(1_000_000)) as u64,
        link: interface.link,
        bytes: body.get(20..)?.get(..length)?,
    })
}

/// A packet of the first interface, without its time.
fn simple<'a>(body: &'a [u8], order: Order, interfaces: &[Interface]) -> Option<Packet<'a>> {
    let length = order.four(body, 0)? as usize;
    let bytes = body.get(4..)?;
    Some(Packet {
        at_us: 0,
        link: interfaces.first()?.link,
        bytes: &bytes[..length.min(bytes.len())],
    })
}
