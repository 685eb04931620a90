//! Packets taken apart: link, IP, TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The part of a TCP stream that a packet carries.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    /// The connection begins, and its first byte has the next number.
    pub(super) is_syn: bool,
    pub(super) payload: &'a [u8],
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// VLAN tags (IEEE 802.1Q and 802.1ad), 4 bytes each.
const ETHERTYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];
const PROTOCOL_TCP: u8 = 6;
/// Headers of IPv6 that say how long they are: hop-by-hop, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// Which links are understood, for an error.
pub(super) const LINKS: &str = "Ethernet, loopback, raw IP or Linux cooked";

/// Whether packets of this LINKTYPE can be read.
pub(super) fn is_known_link(link: u32) -> bool {
    matches!(link, 0 | 1 | 101 | 108 | 113 | 228 | 229 | 276)
}

/// The segment in a packet, if it is one of TCP.
pub(super) fn segment(link: u32, bytes: &[u8]) -> Option<Segment<'_>> {
    let (from, to, tcp) = ip(network(link, bytes)?)?;
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from: SocketAddr::new(from, number(tcp, 0)?),
        to: SocketAddr::new(to, number(tcp, 2)?),
        seq: u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?),
        is_syn: tcp.get(13)? & 2 != 0,
        payload: tcp.get(header..)?,
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What lies within the frame of the link.
fn network(link: u32, bytes: &[u8]) -> Option<&[u8]> {
    match link {
        // Null and loopback: the family in 4 bytes.
        0 | 108 => bytes.get(4..),
        1 => ethernet(bytes),
        // Raw IP.
        101 | 228 | 229 => Some(bytes),
        // Linux cooked, and its second version.
        113 => bytes.get(16..),
        276 => bytes.get(20..),
        _ => None,
    }
}

fn ethernet(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    while ETHERTYPE_VLAN.contains(&number(bytes, at)?) {
        at += 4;
    }
    let kind = number(bytes, at)?;
    let is_ip = [ETHERTYPE_IPV4, ETHERTYPE_IPV6].contains(&kind);
    bytes.get(at + 2..).filter(|_| is_ip)
}

/// Addresses, and what IP carries, if that is TCP and whole: pieces of a packet are passed over.
fn ip(bytes: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

fn ipv4(bytes: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header = usize::from(bytes.first()? & 15) * 4;
    // 0 where the network card cuts the packet up.
    let total = match number(bytes, 2)? {
        0 => bytes.len(),
        total => usize::from(total),
    };
    let is_fragment = number(bytes, 6)? & 0x3fff != 0;
    let address = |at: usize| {
        let octets: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
        Some(IpAddr::from(Ipv4Addr::from(octets)))
    };
    let is_tcp = *bytes.get(9)? == PROTOCOL_TCP && !is_fragment;
    // Behind the packet the link may have padding.
    let carried = bytes
        .get(header..total.min(bytes.len()))
        .filter(|_| is_tcp)?;
    Some((address(12)?, address(16)?, carried))
}

fn ipv6(bytes: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let address = |at: usize| {
        let octets: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
        Some(IpAddr::from(Ipv6Addr::from(octets)))
    };
    let mut next = *bytes.get(6)?;
    let end = match number(bytes, 4)? {
        0 => bytes.len(),
        length => (40 + usize::from(length)).min(bytes.len()),
    };
    let mut carried = bytes.get(40..end)?;
    while EXTENSIONS.contains(&next) {
        next = *carried.first()?;
        let length = (usize::from(*carried.get(1)?) + 1) * 8;
        carried = carried.get(length..)?;
    }
    (next == PROTOCOL_TCP).then_some((address(8)?, address(24)?, carried))
}
