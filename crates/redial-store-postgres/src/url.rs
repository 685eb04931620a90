//! What a connection string says of TLS, in the words of libpq, which `tokio-postgres` does not know
//! all of.

use std::path::PathBuf;

/// Which authorities may sign the database's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those of the system.
    System,
    /// Those in a file, as PEM.
    File(PathBuf),
}

/// A connection string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without what is said here of TLS.
    pub(crate) url: String,
    /// Whether connections have to be encrypted.
    pub(crate) is_encrypted: bool,
    #[cfg_attr(
        not(feature = "tls"),
        allow(dead_code, reason = "without TLS none is asked for")
    )]
    pub(crate) trust: Trust,
}

impl Target {
    /// Of `sslmode` all that ask for TLS are one: the certificate is verified, and the name in it.
    pub(crate) fn parse(url: &str) -> Self {
        let mut target = Self {
            url: url.to_owned(),
            is_encrypted: false,
            trust: Trust::System,
        };
        let Some((base, query)) = url.split_once('?') else {
            return target;
        };
        let mut rest = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", "require" | "verify-ca" | "verify-full")) => {
                    target.is_encrypted = true;
                }
                Some(("sslrootcert", path)) if path != "system" => {
                    target.trust = Trust::File(decoded(path).into());
                }
                Some(("sslrootcert", _)) => {}
                _ => rest.push(pair),
            }
        }
        target.url = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        target
    }
}

/// A text with its `%2F` and the like as the bytes that they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_tls_is_taken_out_and_the_rest_stays() {
        let file = |path: &str| Trust::File(path.into());
        for (url, rest, is_encrypted, trust) in [
            ("postgres://u@h/d", "postgres://u@h/d", false, Trust::System),
            (
                "postgres://u@h/d?sslmode=verify-full",
                "postgres://u@h/d",
                true,
                Trust::System,
            ),
            (
                "postgres://u@a,b/d?sslmode=require&target_session_attrs=read-write",
                "postgres://u@a,b/d?target_session_attrs=read-write",
                true,
                Trust::System,
            ),
            (
                "postgres://h/d?sslrootcert=%2Fetc/ca%20one.pem&sslmode=verify-ca",
                "postgres://h/d",
                true,
                file("/etc/ca one.pem"),
            ),
            (
                "postgres://h/d?sslmode=disable&sslrootcert=system",
                "postgres://h/d?sslmode=disable",
                false,
                Trust::System,
            ),
        ] {
            let target = Target {
                url: rest.to_owned(),
                is_encrypted,
                trust,
            };
            assert_eq!(Target::parse(url), target);
        }
    }
}
