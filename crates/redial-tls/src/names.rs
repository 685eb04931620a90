//! Which certificate a client gets: the one for the name that it asks for (SNI).

use std::{collections::HashMap, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Certificates by the names in them; the first one is for clients that ask for another name, or
/// for none.
#[derive(Debug)]
pub(crate) struct ByName {
    first: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Behind `*.`, which stands for one label.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// Of two certificates for one name the first is taken. `None` without certificates.
    pub(crate) fn new(pairs: &[Arc<CertifiedKey>]) -> Option<Self> {
        let mut by_name = Self {
            first: Arc::clone(pairs.first()?),
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        };
        for pair in pairs {
            let Ok(certificate) = webpki::EndEntityCert::try_from(&pair.cert[0]) else {
                continue;
            };
            for name in certificate.valid_dns_names() {
                let name = name.to_ascii_lowercase();
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.wildcards, parent),
                    None => (&mut by_name.exact, name.as_str()),
                };
                let entry = names.entry(name.to_owned());
                entry.or_insert_with(|| Arc::clone(pair));
            }
        }
        Some(by_name)
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let find = |name: &str| {
            let name = name.to_ascii_lowercase();
            let wildcard = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(wildcard)
        };
        name.and_then(find).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
}
