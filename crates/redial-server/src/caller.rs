//! Who is at the other end of a connection, and what the program knows of it.

use std::{net::SocketAddr, sync::Arc};

use redial_protocol::{Principal, unmapped};

use crate::{extensions::Extensions, peer::Peer};

/// Who is at the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// `None` if the transport has no addresses.
    pub(crate) address: Option<SocketAddr>,
    /// What few connections have; shared with their calls.
    known: Option<Arc<Known>>,
}

/// What is known of a caller beside its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) principal: Option<Principal>,
    pub(crate) extensions: Option<Arc<Extensions>>,
}

impl Known {
    /// Of a call whose connection is gone.
    pub(crate) fn of(principal: &Principal) -> Self {
        Self {
            principal: Some(principal.clone()),
            extensions: None,
        }
    }
}

impl Caller {
    /// The peer of a transport, by its address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address: Some(unmapped(address)),
            known: None,
        }
    }

    /// The same with a principal that the transport vouches for.
    pub(crate) fn with_principal(mut self, principal: Principal) -> Self {
        let mut known = self
            .known
            .take()
            .map_or_else(Known::default, Arc::unwrap_or_clone);
        known.principal = Some(principal);
        self.known = Some(Arc::new(known));
        self
    }

    /// It has shown who it is.
    pub(crate) fn set_principal(&mut self, principal: Principal) {
        *self = std::mem::take(self).with_principal(principal);
    }

    /// Who calls, if something has vouched for it.
    #[inline]
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.known.as_ref()?.principal.as_ref()
    }

    /// Whether it is on this machine: it comes from a loopback address, or over a transport without any.
    pub(crate) fn is_local(&self) -> bool {
        let address = self.address.as_ref();
        address.is_none_or(|address| address.ip().is_loopback())
    }

    /// Whose share of the limits it takes.
    pub(crate) fn peer(&self) -> Peer {
        match self.principal() {
            Some(principal) => Peer::Principal(principal.clone()),
            None => self.address.into(),
        }
    }

    /// What few connections have, if this one does.
    #[inline]
    pub(crate) fn known(&self) -> Option<&Arc<Known>> {
        self.known.as_ref()
    }
}

/// Takes out what the server itself goes by.
impl From<Extensions> for Caller {
    fn from(mut extensions: Extensions) -> Self {
        let address = extensions.remove::<SocketAddr>();
        let principal = extensions.remove();
        let extensions = (!extensions.is_empty()).then(|| Arc::new(extensions));
        let is_known = principal.is_some() || extensions.is_some();
        let known = Known {
            principal,
            extensions,
        };
        Self {
            address: address.map(unmapped),
            known: is_known.then(|| Arc::new(known)),
        }
    }
}
