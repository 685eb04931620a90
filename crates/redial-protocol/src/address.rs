//! Where a server listens and a client connects, in one spelling for both.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::text::cut;

/// Where a server listens, as `Server::listen` and `Client::connect` take it (`Server::bind` takes
/// TCP alone):
///
/// * `host:port`, TCP: an IP address or a name before the last colon, IPv6 in brackets, and a port.
///   Port 0 lets the system choose one, where something listens.
/// * `unix:/path`, a Unix socket; `unix:./path` is relative to the working directory.
/// * `unix:@name`, a Unix socket of Linux without a file, in its abstract namespace.
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
/// # #[cfg(unix)]
/// assert!(Address::from("unix:/run/counter.sock").check().is_ok());
///
/// let error = Address::from("counter.example").check().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#""counter.example" is not an address: expected host:port, such as 127.0.0.1:7077, or unix:/path"#,
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Box<str>);

/// Why a text is not an [`Address`].
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an address: {expected}")]
pub struct AddressError {
    text: String,
    expected: &'static str,
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const EXPECTED: &str = "expected host:port, such as 127.0.0.1:7077, or unix:/path";

/// Whether Unix sockets have names without files here.
const HAS_ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl Address {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a host and a port, or is a Unix socket's and the system has those.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if the host or the port is missing, the port is not a number below 65,536, or a
    /// Unix socket has no name that the system knows.
    pub fn check(&self) -> Result<(), AddressError> {
        let wrong = |expected| AddressError {
            text: cut(&self.0).to_owned(),
            expected,
        };
        if let Some(name) = self.unix_name() {
            return match name {
                _ if !cfg!(unix) => Err(wrong("this system has no Unix sockets")),
                "@" => Err(wrong("expected a name behind the @")),
                _ if name.contains('\0') => Err(wrong("expected a name without NUL")),
                _ if name.starts_with('@') && !HAS_ABSTRACT_NAMES => Err(wrong(
                    "only Linux has names without files; expected unix:/path",
                )),
                _ => Ok(()),
            };
        }
        let (host, port) = self.0.rsplit_once(':').ok_or_else(|| wrong(EXPECTED))?;
        let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || is_bare_ipv6 || port.parse::<u16>().is_err() {
            return Err(wrong(EXPECTED));
        }
        Ok(())
    }

    /// The path of a Unix socket, as the system's calls take it: a name without a file begins with
    /// NUL. `None` if this is a TCP address.
    #[must_use]
    pub fn unix_path(&self) -> Option<PathBuf> {
        let name = self.unix_name()?;
        Some(match name.strip_prefix('@') {
            Some(name) => format!("\0{name}").into(),
            None => name.into(),
        })
    }

    /// The address of a Unix socket, from its path as the system's calls take it.
    #[must_use]
    pub fn from_unix_path(path: &Path) -> Self {
        let path = path.to_string_lossy();
        match path.strip_prefix('\0') {
            Some(name) => format!("unix:@{name}"),
            None if path.starts_with(['/', '.']) => format!("unix:{path}"),
            None => format!("unix:./{path}"),
        }
        .into()
    }

    /// The host of a TCP address, without the brackets of IPv6.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        if self.unix_name().is_some() {
            return None;
        }
        let (host, _) = self.0.rsplit_once(':')?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        Some(bare.unwrap_or(host))
    }

    /// What stands behind `unix:`. A host may have that name, but no port begins like a path.
    fn unix_name(&self) -> Option<&str> {
        let name = self.0.strip_prefix("unix:")?;
        name.starts_with(['/', '.', '@']).then_some(name)
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
        for text in [
            "127.0.0.1:0",
            "[::1]:7077",
            "localhost:65535",
            "a.b:1",
            "unix:1",
        ] {
            assert_eq!(Address::from(text).check(), Ok(()), "{text}");
        }
        for text in [
            "", ":1", "a", "a:", "a:65536", "a:-1", "::1:7", "a:b:7", "unix:", "unix:a",
        ] {
            assert!(Address::from(text).check().is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_has_a_path_or_on_linux_a_name() {
        for (text, path) in [
            ("unix:/run/a:b.sock", "/run/a:b.sock"),
            ("unix:./a", "./a"),
            ("unix:../a", "../a"),
        ] {
            let address = Address::from(text);
            assert_eq!(address.check(), Ok(()), "{text}");
            assert_eq!(address.unix_path(), Some(path.into()), "{text}");
            assert_eq!(Address::from_unix_path(Path::new(path)), address);
            assert_eq!(address.host(), None);
        }
        let named = Address::from("unix:@counter");
        assert_eq!(named.check().is_ok(), HAS_ABSTRACT_NAMES);
        assert_eq!(named.unix_path(), Some("\0counter".into()));
        assert_eq!(Address::from_unix_path(Path::new("\0counter")), named);
        for text in ["unix:@", "unix:/a\0b", "unix:@\0"] {
            assert!(Address::from(text).check().is_err(), "{text:?}");
        }
        assert_eq!(Address::from("unix:7077").unix_path(), None);
    }

    #[test]
    fn a_host_stands_before_the_last_colon() {
        for (text, host) in [("a.b:1", "a.b"), ("[::1]:7", "::1"), ("unix:7", "unix")] {
            assert_eq!(Address::from(text).host(), Some(host));
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
