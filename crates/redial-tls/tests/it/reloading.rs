//! Files that change while the server runs: new ones are used from the next handshake on, broken ones
//! are refused, and the old ones stay in use.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_test_ca::{TestCa, replace};
use redial_tls::{ClientTls, ServerTls};

use crate::common::{Folder, HOST, agree, client, disagree};

const EVERY: Duration = Duration::from_millis(5);

/// What the server said of its reloads.
type ReloadLog = Arc<Mutex<Vec<String>>>;

fn watched(folder: &Folder) -> (ServerTls, ReloadLog) {
    let log = ReloadLog::default();
    let says = Arc::clone(&log);
    let path = |name: &str| folder.path().join(name);
    let builder = ServerTls::builder()
        .certificate_files(path("server.pem"), path("server-key.pem"))
        .check_files_every(EVERY)
        .on_reload(move |reloaded| {
            let text = reloaded.map_or_else(ToString::to_string, |()| "reloaded".to_owned());
            says.lock().unwrap().push(text);
        });
    (builder.build().unwrap(), log)
}

/// Waits until the server has said something more.
async fn next(log: &ReloadLog, count: usize) -> String {
    let spoken = async {
        while log.lock().unwrap().len() < count {
            tokio::time::sleep(EVERY).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), spoken).await;
    waited.expect("no reload");
    log.lock().unwrap()[count - 1].clone()
}

#[tokio::test]
async fn a_new_pair_is_used_and_a_broken_one_is_refused_and_the_old_one_kept() {
    let folder = Folder::new();
    let (old, new, newest) = (
        TestCa::new("old"),
        TestCa::new("new"),
        TestCa::new("newest"),
    );
    old.sign(&[HOST]).write(folder.path(), "server").unwrap();
    let (server, log) = watched(&folder);
    let watching = server.clone();
    tokio::spawn(async move { watching.watch().await });
    agree(&server, &client(&old)).await;

    new.sign(&[HOST]).write(folder.path(), "server").unwrap();
    // Between its two files it may be no pair.
    let mut count = 1;
    while next(&log, count).await != "reloaded" {
        count += 1;
    }
    agree(&server, &client(&new)).await;
    disagree(&server, &client(&old), HOST).await;

    let path = folder.path().join("server.pem");
    replace(&path, &newest.sign(&[HOST]).certificate).unwrap();
    let text = next(&log, count + 1).await;
    assert!(
        text.contains("server-key.pem belongs to another certificate"),
        "{text}"
    );
    agree(&server, &client(&new)).await;
    replace(&path, "not a certificate").unwrap();
    let text = next(&log, count + 2).await;
    assert!(
        text.contains("server.pem can't be used: no certificate"),
        "{text}"
    );
    agree(&server, &client(&new)).await;
    std::fs::remove_file(&path).unwrap();
    let text = next(&log, count + 3).await;
    assert!(text.contains("can't read the certificate"), "{text}");
    agree(&server, &client(&new)).await;

    newest.sign(&[HOST]).write(folder.path(), "server").unwrap();
    count += 4;
    while next(&log, count).await != "reloaded" {
        count += 1;
    }
    agree(&server, &client(&newest)).await;
    // Each reason is said once, however often the files are looked at.
    tokio::time::sleep(EVERY * 10).await;
    assert_eq!(log.lock().unwrap().len(), count, "{log:?}");
}

#[tokio::test]
async fn a_connection_goes_on_with_the_certificate_that_it_began_with() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (folder, old, new) = (Folder::new(), TestCa::new("old"), TestCa::new("new"));
    old.sign(&[HOST]).write(folder.path(), "server").unwrap();
    let (server, _) = watched(&folder);
    let (mut served, mut called) = agree(&server, &client(&old)).await;
    new.sign(&[HOST]).write(folder.path(), "server").unwrap();
    server.reload().unwrap();
    called.write_all(b"more").await.unwrap();
    called.flush().await.unwrap();
    let mut bytes = [0; 4];
    served.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"more");
}

/// Certificates that live for a day: the client's own files are read again, too.
#[tokio::test]
async fn a_client_shows_its_new_certificate_from_the_next_connection_on() {
    let (folder, ca) = (Folder::new(), TestCa::new("short"));
    let pair = ca.sign(&[HOST]);
    let server = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let server = server.client_ca_pem(ca.pem()).build().unwrap();
    let (certificate, key) = ca
        .sign(&["a.example"])
        .write(folder.path(), "client")
        .unwrap();
    let client = ClientTls::builder().roots_pem(ca.pem());
    let client = client
        .certificate_files(&certificate, &key)
        .build()
        .unwrap();
    let (served, _) = agree(&server, &client).await;
    assert_eq!(served.peer_name().as_deref(), Some("a.example"));
    ca.sign(&["b.example"])
        .write(folder.path(), "client")
        .unwrap();
    let (served, _) = agree(&server, &client).await;
    assert_eq!(served.peer_name().as_deref(), Some("b.example"));
    replace(&key, "broken").unwrap();
    let (served, _) = agree(&server, &client).await;
    assert_eq!(served.peer_name().as_deref(), Some("b.example"));
}
