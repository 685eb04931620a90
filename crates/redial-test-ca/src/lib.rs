//! A certificate authority for tests and experiments: certificates, broken ones included, and lists of
//! revoked ones.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub use rcgen::SanType;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority with a key of its own.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    serial: AtomicU64,
}

/// A certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Its number, by which it is revoked.
    pub serial: u64,
}

impl TestCa {
    /// A new authority.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers, as all functions here.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(2200, 1, 1);
        params.is_ca = authority();
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            serial: AtomicU64::new(1000),
        }
    }

    /// The authority's own certificate, which is what to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for these names: DNS names and IP addresses, and URIs, which have a colon
    /// and two slashes.
    #[must_use]
    pub fn sign(&self, names: &[&str]) -> Pair {
        self.sign_with(names, |_| {})
    }

    /// The same, changed before it is signed.
    #[must_use]
    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        self.issue(names, KeyPair::generate().expect("a key"), change)
    }

    /// Signs a new certificate for the key of another one: whichever of both a program finds, it is a
    /// pair with the key.
    ///
    /// # Panics
    ///
    /// If the key isn't one.
    #[must_use]
    pub fn renew(&self, names: &[&str], pair: &Pair) -> Pair {
        let key = KeyPair::from_pem(&pair.key).expect("a key");
        self.issue(names, key, |_| {})
    }

    fn issue(
        &self,
        names: &[&str],
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let (uris, names): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in uris {
            let uri = uri.to_owned().try_into().expect("ASCII");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let serial = self.serial.fetch_add(1, Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(2200, 1, 1);
        params.distinguished_name.push(DnType::CommonName, "a test");
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a signature");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A list that revokes these certificates.
    #[must_use]
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a signature");
        list.pem().expect("PEM")
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME-key.pem`, each in one step, and gives their paths.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let paths = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}-key.pem")),
        );
        replace(&paths.0, &self.certificate)?;
        replace(&paths.1, &self.key)?;
        Ok(paths)
    }
}

/// What makes a certificate an authority's.
#[must_use]
pub fn authority() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

/// Writes a file in one step: its readers find the old text or the new one.
///
/// # Errors
///
/// What the system says.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
