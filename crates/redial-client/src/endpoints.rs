//! The seam of discovery: at which addresses the servers of a service are.

mod dns;

use std::{future::Future, io, net::SocketAddr, pin::Pin};

use redial_protocol::{Address, AddressError};

pub use self::dns::{Dns, Resolver, SystemResolver};

/// What [`Endpoints::changed`] gives.
pub type EndpointsFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<Endpoint>>> + Send + 'a>>;

/// Says at which addresses the servers of a service are, and when these change: what others call
/// service discovery, or a name resolver. Ready-made: [`Addresses`], a list that stays as it is, and
/// [`Dns`], a name that is looked up again and again.
///
/// ```
/// use redial_client::{Endpoint, Endpoints, EndpointsFuture};
/// use tokio::sync::watch;
///
/// /// Follows what another task finds out.
/// struct Watched(watch::Receiver<Vec<String>>);
///
/// impl Endpoints for Watched {
///     fn changed(&mut self) -> EndpointsFuture<'_> {
///         Box::pin(async {
///             if self.0.changed().await.is_err() {
///                 // Nothing more is found out: what is known stays.
///                 std::future::pending::<()>().await;
///             }
///             let addresses = self.0.borrow_and_update();
///             Ok(addresses.iter().map(|text| Endpoint::new(text.as_str())).collect())
///         })
///     }
/// }
/// ```
pub trait Endpoints: Send + 'static {
    /// Gives all endpoints, at first as soon as they are known, and then whenever they have changed.
    /// The future may be dropped before it is ready, and must lose nothing by that. An error leaves the
    /// endpoints as they are; the client asks again after a pause.
    fn changed(&mut self) -> EndpointsFuture<'_>;

    /// A connection could not be made or was lost, so that now is a good time to look. Called after
    /// each, which may be often.
    fn refresh(&mut self) {}
}

/// One address of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: Address,
    host: Option<String>,
}

impl Endpoint {
    /// The server at an address, such as `"10.0.0.1:7077"`.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            host: None,
        }
    }

    /// The name for which the server's certificate has to be, where TLS is spoken. Default: the host of
    /// the address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.host = Some(name.into());
        self
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The host for which the server's certificate has to be, if there is one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().or_else(|| self.address.host())
    }
}

impl<A: Into<Address>> From<A> for Endpoint {
    fn from(address: A) -> Self {
        Self::new(address)
    }
}

/// Addresses that stay as they are: one, or those of several servers, from a list or from one text
/// with commas in between.
///
/// ```
/// use redial_client::Addresses;
///
/// assert_eq!(Addresses::from("10.0.0.1:7077, 10.0.0.2:7077").iter().count(), 2);
/// assert_eq!(Addresses::from(["10.0.0.1:7077", "unix:/run/counter.sock"]).iter().count(), 2);
/// // What stands behind a comma and is no address belongs to the one before.
/// assert_eq!(Addresses::from("unix:/run/a,b.sock").iter().count(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    all: Vec<Address>,
    /// They were said already.
    is_said: bool,
}

impl Addresses {
    /// Each address, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.all.iter()
    }

    /// Whether all of them are addresses, and there is one.
    pub(crate) fn check(&self) -> Result<(), AddressError> {
        if self.all.is_empty() {
            return Address::from("").check();
        }
        self.all.iter().try_for_each(Address::check)
    }

    /// The only one, if it is.
    pub(crate) fn only(&self) -> Option<&Address> {
        match &*self.all {
            [only] => Some(only),
            _ => None,
        }
    }

    fn parse(text: &str) -> Self {
        let mut all: Vec<String> = Vec::new();
        for part in text.split(',') {
            let is_address = Address::from(part.trim()).check().is_ok();
            match all.last_mut() {
                // A part of a path.
                Some(path) if !is_address && path.starts_with("unix:") => {
                    path.push(',');
                    path.push_str(part);
                }
                _ => all.push(part.trim().to_owned()),
            }
        }
        all.into_iter().collect()
    }
}

impl Endpoints for Addresses {
    fn changed(&mut self) -> EndpointsFuture<'_> {
        if std::mem::replace(&mut self.is_said, true) {
            return Box::pin(std::future::pending());
        }
        let all = self.all.iter().cloned().map(Endpoint::new).collect();
        Box::pin(std::future::ready(Ok(all)))
    }
}

impl<A: Into<Address>> FromIterator<A> for Addresses {
    fn from_iter<I: IntoIterator<Item = A>>(addresses: I) -> Self {
        Self {
            all: addresses.into_iter().map(Into::into).collect(),
            is_said: false,
        }
    }
}

impl From<&str> for Addresses {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl From<String> for Addresses {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<&String> for Addresses {
    fn from(text: &String) -> Self {
        Self::parse(text)
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Self {
        [address].into_iter().collect()
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        [address].into_iter().collect()
    }
}

impl<A: Into<Address>> From<Vec<A>> for Addresses {
    fn from(addresses: Vec<A>) -> Self {
        addresses.into_iter().collect()
    }
}

impl<A: Into<Address>, const N: usize> From<[A; N]> for Addresses {
    fn from(addresses: [A; N]) -> Self {
        addresses.into_iter().collect()
    }
}

impl<A: Into<Address> + Clone> From<&[A]> for Addresses {
    fn from(addresses: &[A]) -> Self {
        addresses.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text that is taken for one address though it has several, or the other way round.
    #[test]
    fn commas_separate_addresses_and_not_parts_of_a_path() {
        for (text, expected) in [
            ("a:1", vec!["a:1"]),
            ("a:1,b:2", vec!["a:1", "b:2"]),
            (" a:1 , [::1]:2 ", vec!["a:1", "[::1]:2"]),
            ("unix:/a,b,c:1", vec!["unix:/a,b", "c:1"]),
            ("unix:/a,unix:/b", vec!["unix:/a", "unix:/b"]),
        ] {
            let addresses = Addresses::from(text);
            let found: Vec<_> = addresses.iter().map(Address::as_str).collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(addresses.check(), Ok(()), "{text:?}");
        }
        for text in ["", "a:1,", ",a:1", "a:1,b", "a,b:1"] {
            assert!(Addresses::from(text).check().is_err(), "{text:?}");
        }
        assert!(Addresses::from(Vec::<Address>::new()).check().is_err());
    }
}
