//! The authorities that the system trusts, where `SSL_CERT_FILE` says which. Each case is a process of its
//! own, since the variables are read from the environment.

use std::{env, process::Command};

use redial_test_ca::TestCa;
use redial_tls::ClientTls;

use crate::common::{Folder, agree, disagree, server};

/// Which part of a case this process is to play.
const PART: &str = "REDIAL_TEST_NATIVE_ROOTS";

/// Runs this test once more, with these variables, and gives what it prints.
fn again(test: &str, part: &str, variables: &[(&str, &str)]) -> String {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", &format!("native_roots::{test}"), "--nocapture"]);
    process
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR");
    process.env(PART, part).envs(variables.iter().copied());
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {said}{errors}");
    said
}

/// Kind: a feature that no test turns on. A client that trusts the system's authorities takes a server that
/// one of them has signed, and no other.
#[tokio::test]
async fn a_server_is_trusted_that_an_authority_of_the_system_has_signed() {
    if env::var(PART).is_ok() {
        let file = env::var("SSL_CERT_FILE").unwrap();
        let key = std::fs::read_to_string(file.replace("ca.pem", "server-key.pem")).unwrap();
        let pem = std::fs::read_to_string(file.replace("ca.pem", "server.pem")).unwrap();
        let ours = redial_tls::ServerTls::builder().certificate_pem(pem, key);
        let client = ClientTls::builder().native_roots().build().unwrap();
        agree(&ours.build().unwrap(), &client).await;
        let theirs = server(&TestCa::new("theirs"));
        let (_, called) = disagree(&theirs, &client, crate::common::HOST).await;
        println!("refused: {called}");
        return;
    }
    let (ca, folder) = (TestCa::new("the system's"), Folder::new());
    let roots = folder.write("ca.pem", ca.pem());
    ca.sign(&[crate::common::HOST])
        .write(folder.path(), "server")
        .unwrap();
    let test = "a_server_is_trusted_that_an_authority_of_the_system_has_signed";
    let said = again(
        test,
        "client",
        &[("SSL_CERT_FILE", roots.to_str().unwrap())],
    );
    assert!(
        said.contains("refused: ") && said.contains("no root that this client trusts"),
        "{said}"
    );
}

/// The neighbours: no certificate in the store, a broken one, no store; alone, and with roots of one's own.
#[test]
fn a_store_without_a_certificate_is_refused_though_there_are_roots_beside_it() {
    if let Ok(part) = env::var(PART) {
        let mut builder = ClientTls::builder().native_roots();
        if part == "beside" {
            builder = builder.roots_pem(TestCa::new("ours").pem());
        }
        match builder.build() {
            Ok(_) => println!("built"),
            Err(error) => println!("{error}"),
        }
        return;
    }
    let folder = Folder::new();
    let empty = folder.write("empty.pem", "");
    let broken = folder.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let missing = folder.path().join("missing.pem");
    let test = "a_store_without_a_certificate_is_refused_though_there_are_roots_beside_it";
    for file in [empty, broken, missing] {
        let file = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let said = again(test, "alone", &file);
        assert!(
            !said.contains("built") && said.contains("the system"),
            "{said}"
        );
        let said = again(test, "beside", &file);
        assert!(
            !said.contains("built") && said.contains("the system"),
            "{said}"
        );
    }
}
