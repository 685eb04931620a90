//! What is wrong with a file is said with its name, what was found and what was expected, and no
//! secret is ever printed.

use redial_test_ca::{Pair, TestCa};
use redial_tls::{ClientTls, ServerTls};

use crate::common::{Folder, HOST};

struct Files {
    folder: Folder,
    ca: TestCa,
    pair: Pair,
}

impl Files {
    fn new() -> Self {
        let (folder, ca) = (Folder::new(), TestCa::new("errors"));
        let pair = ca.sign(&[HOST]);
        pair.write(folder.path(), "good").unwrap();
        folder.write("ca.pem", ca.pem());
        Self { folder, ca, pair }
    }

    fn server(&self, certificate: &str, key: &str) -> String {
        let path = |name: &str| self.folder.path().join(name);
        let builder = ServerTls::builder().certificate_files(path(certificate), path(key));
        let error = builder.build().expect_err(certificate).to_string();
        error.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// Kind: a file that keeps its reader waiting, or takes all memory. Instances: a pipe that has no other
/// end, a folder, a device that never ends.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let files = Files::new();
    let pipe = files.folder.path().join("pipe.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    std::fs::create_dir(files.folder.path().join("folder.pem")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", files.folder.path().join("zero.pem")).unwrap();
    for name in ["pipe.pem", "folder.pem", "zero.pem"] {
        for (error, what) in [
            (files.server(name, "good-key.pem"), "certificate"),
            (files.server("good.pem", name), "private key"),
        ] {
            let expected = format!("can't read the {what} {name}: it is no regular file");
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn each_broken_file_is_named_with_the_reason() {
    let files = Files::new();
    let other = files.ca.sign(&[HOST]);
    let write = |name: &str, text: &str| files.folder.write(name, text);
    write("other-key.pem", &other.key);
    write("empty.pem", "");
    write("cut.pem", &files.pair.certificate[..200]);
    let base64 = "-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n";
    write("no-base64.pem", base64);
    let der = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    write("no-der.pem", der);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    write("encrypted.pem", encrypted);
    for (certificate, key, expected) in [
        (
            "none.pem",
            "good-key.pem",
            "can't read the certificate none.pem: No such file",
        ),
        (
            "good.pem",
            "none.pem",
            "can't read the private key none.pem: No such file",
        ),
        (
            "empty.pem",
            "good-key.pem",
            "the certificate empty.pem can't be used: no certificate in it",
        ),
        (
            "good-key.pem",
            "good.pem",
            "the certificate good-key.pem can't be used: no certificate in it",
        ),
        (
            "good.pem",
            "good.pem",
            "the private key good.pem can't be used: no key in it",
        ),
        (
            "good.pem",
            "encrypted.pem",
            "the private key encrypted.pem can't be used: it is encrypted",
        ),
        (
            "cut.pem",
            "good-key.pem",
            "the certificate cut.pem can't be used: ",
        ),
        (
            "no-base64.pem",
            "good-key.pem",
            "the certificate no-base64.pem can't be used: ",
        ),
        (
            "no-der.pem",
            "good-key.pem",
            "the certificate no-der.pem can't be used: ",
        ),
        (
            "good.pem",
            "other-key.pem",
            "the private key other-key.pem belongs to another certificate",
        ),
    ] {
        let error = files.server(certificate, key);
        assert!(error.starts_with(expected), "{certificate} {key}: {error}");
    }
}

#[test]
fn a_file_without_an_end_is_not_read_for_ever() {
    let folder = Folder::new();
    let path = folder.write("large.pem", "");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let error = ClientTls::builder().roots_file(&path).build();
    let error = error.expect_err("zeros").to_string();
    assert!(
        error.ends_with("large.pem: it has more than 64 MiB"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_asked_for() {
    let files = Files::new();
    let missing = ServerTls::builder().build().unwrap_err().to_string();
    assert_eq!(
        missing,
        "no certificate to show to clients; expected one with its private key"
    );
    let (certificate, key) = (&*files.pair.certificate, &*files.pair.key);
    let server = || ServerTls::builder().certificate_pem(certificate, key);
    let lists_alone = server().client_crl_pem(files.ca.revoke(&[])).build();
    let error = lists_alone.unwrap_err().to_string();
    assert!(error.starts_with("no authority"), "{error}");
    let error = server().client_certificates_optional().build();
    assert!(error.is_err());
    let error = ClientTls::builder().build().unwrap_err().to_string();
    assert!(error.starts_with("no certificate authority"), "{error}");
    let name = ClientTls::builder().roots_pem(files.ca.pem());
    let error = name.server_name("a b").build().unwrap_err().to_string();
    assert!(error.contains("\"a b\" is not a name"), "{error}");
    let wrong_list = server().client_ca_pem(files.ca.pem());
    let error = wrong_list.client_crl_pem(files.ca.pem()).build();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no list in it; expected PEM with X509 CRL"),
        "{error}"
    );
}

#[test]
fn no_secret_is_printed() {
    let files = Files::new();
    let (certificate, key) = (&*files.pair.certificate, &*files.pair.key);
    let server = ServerTls::builder().certificate_pem(certificate, key);
    let client = ClientTls::builder().roots_pem(files.ca.pem());
    let client = client.certificate_pem(certificate, key);
    let mut printed = format!("{server:?} {client:?}");
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    printed += &format!("{server:?} {client:?}");
    assert!(printed.contains("in memory"), "{printed}");
    let secret = key.lines().nth(1).unwrap();
    assert!(!printed.contains(secret), "{printed}");
    // Neither as text nor as a list of bytes.
    assert!(printed.len() < 1_000, "{printed}");
}
