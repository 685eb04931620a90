//! What a `main` prints that returns an error of the libraries: its `Debug`.

use std::{fs::create_dir_all, time::Duration};

use redial_client::{BuildError, CallLimits, Client, ClientTls, Config};
use redial_server::{ServeError, Server, TokenFile};
use redial_store_postgres::OpenError as PostgresError;
use redial_store_sqlite::SqliteStore;

/// Kind: an error that shows its fields instead of its sentence. Instances: what a program meets before it serves,
/// or while it connects, and a call that was not executed.
#[tokio::test]
async fn an_error_that_main_returns_is_its_sentence() {
    // Nothing listens there: the port is reserved (RFC 6335), and takes a privileged program.
    let closed = "127.0.0.1:1";
    let server = Server::builder().build().unwrap();
    let nowhere = Client::connect(closed).await.map(drop).unwrap_err();
    let config = Config {
        call: CallLimits {
            max_attempts: 1,
            deadline: Duration::from_millis(200),
            ..CallLimits::default()
        },
        ..Config::default()
    };
    let client = Client::builder()
        .config(config)
        .connect_lazy(closed)
        .unwrap();
    let call = client.request("inc", (1,)).await.unwrap_err();
    let folder = std::env::temp_dir().join(format!("redial-returned-{}", std::process::id()));
    create_dir_all(&folder).unwrap();
    let none = folder.join("none");
    let BuildError::Connect(connect) = nowhere.clone() else {
        panic!("{nowhere}");
    };
    fn both(error: impl std::error::Error) -> [String; 2] {
        [format!("{error:?}"), error.to_string()]
    }
    let errors = [
        both(nowhere),
        both(connect),
        both(call.clone()),
        both(server.listen("nowhere").await.map(drop).unwrap_err()),
        both(
            server
                .listen("unix:/nowhere/socket")
                .await
                .map(drop)
                .unwrap_err(),
        ),
        both(ServeError::Listener(std::io::Error::other("closed"))),
        both(
            Server::builder()
                .mutation("rpc.a", async |_: ()| Ok(()))
                .build()
                .map(drop)
                .unwrap_err(),
        ),
        both(SqliteStore::open(none.join("a.db")).map(drop).unwrap_err()),
        both(PostgresError::Url("nowhere".to_owned())),
        both(
            ClientTls::builder()
                .roots_file(&none)
                .build()
                .map(drop)
                .unwrap_err(),
        ),
        both(TokenFile::open(&none).map(drop).unwrap_err()),
        both(redial_client::Address::from("nowhere").check().unwrap_err()),
    ];
    std::fs::remove_dir_all(&folder).unwrap();
    for [debug, sentence] in errors {
        assert_eq!(debug, sentence);
    }
    // What is asked for beside it is there.
    assert!(format!("{call:#?}").contains("report"), "{call:#?}");
}
