//! Who is at the other end, as far as shares go: each limit that all clients have in common is
//! divided among peers, so that one of them can't take it all.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use redial_protocol::{Principal, unmapped};

/// Whose share a connection, a session or a call counts towards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// All transports without addresses and without principals: pipes, Unix sockets.
    Local,
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: the least that a network hands out, within which a host
    /// takes as many addresses as it likes (RFC 8981).
    V6Network(u64),
    /// Wherever it calls from.
    Principal(Principal),
    /// The clients without principals of sessions that a store has kept, which don't say where they came from.
    Recovered,
}

impl From<Option<SocketAddr>> for Peer {
    fn from(address: Option<SocketAddr>) -> Self {
        match address.map(|address| unmapped(address).ip()) {
            None => Self::Local,
            Some(IpAddr::V4(ip)) => Self::V4(ip),
            Some(IpAddr::V6(ip)) => Self::V6Network((ip.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One client under many names: ports, mapped addresses and addresses of one network are no
    /// further peers.
    #[test]
    fn a_peer_is_an_address_or_a_network_and_never_a_port() {
        let peer = |text: &str| Peer::from(Some(text.parse().unwrap()));
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("192.0.2.7:1", "[::ffff:192.0.2.7]:2"),
            ("[2001:db8:1:2::3]:1", "[2001:db8:1:2:ffff::4]:2"),
        ] {
            assert_eq!(peer(one), peer(other), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("[2001:db8:1:2::3]:1", "[2001:db8:1:3::3]:1"),
            ("[::1]:1", "[2001:db8::1]:1"),
        ] {
            assert_ne!(peer(one), peer(other), "{one} {other}");
        }
        assert_eq!(Peer::from(None), Peer::Local);
    }
}
