//! Where a server listens and a client connects, in one spelling for both.

use std::{fmt, net::SocketAddr};

use thiserror::Error;

use crate::text::cut;

/// A TCP address, `host:port`, as `Server::bind` and `Client::connect` take it: an IP address or a
/// name before the last colon, IPv6 in brackets, and a port. Port 0 lets the system choose one,
/// where something listens.
///
/// It is made from text or a [`SocketAddr`] without a look at it; [`check`](Self::check) says what
/// is wrong, before anything is looked up.
///
/// ```
/// use std::net::{Ipv4Addr, SocketAddr};
///
/// use redial_protocol::Address;
///
/// let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 7077));
/// assert_eq!(Address::from(local), Address::from("127.0.0.1:7077"));
/// assert!(Address::from("counter.example:7077").check().is_ok());
///
/// let error = Address::from("counter.example").check().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#""counter.example" is not an address: expected host:port, such as 127.0.0.1:7077"#,
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Box<str>);

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an address: expected host:port, such as 127.0.0.1:7077")]
pub struct AddressError(String);

impl Address {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a host and a port.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if one of them is missing, or the port is not a number below 65,536.
    pub fn check(&self) -> Result<(), AddressError> {
        let wrong = || AddressError(cut(&self.0).to_owned());
        let (host, port) = self.0.rsplit_once(':').ok_or_else(wrong)?;
        let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || is_bare_ipv6 || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Self {
        Self(text.as_str().into())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        address.to_string().into()
    }
}

/// An address as what it maps: `[::ffff:127.0.0.1]:80` is `127.0.0.1:80`. A system with IPv6 sockets
/// for both families speaks of IPv4 peers so. Other addresses stay as they are.
#[doc(hidden)]
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, address.port()),
        // With its scope.
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in ["127.0.0.1:0", "[::1]:7077", "localhost:65535", "a.b:1"] {
            assert_eq!(Address::from(text).check(), Ok(()), "{text}");
        }
        for text in ["", ":1", "a", "a:", "a:65536", "a:-1", "::1:7", "a:b:7"] {
            assert!(Address::from(text).check().is_err(), "{text}");
        }
    }
    #[test]
    fn only_mapped_addresses_become_others() {
        for (address, expected) in [
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1%7]:80", "[fe80::1%7]:80"),
            // Compatible, not mapped: nothing routes these to 127.0.0.1.
            ("[::127.0.0.1]:80", "[::7f00:1]:80"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(unmapped(address).to_string(), expected);
        }
    }
}
