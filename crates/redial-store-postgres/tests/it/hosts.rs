//! Kind of fault: a connection to the database goes where it should not: unencrypted, to any server that
//! answers, or to one that takes no writes.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use redial_store_postgres::PostgresStore;
use redial_store_tests::postgres::Cluster;

use crate::rig::Sql;

/// The first of two hosts takes no writes, as a standby; one before them is not there.
#[test]
fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let clusters = [Cluster::start(false), Cluster::start(false)];
    let [Some(standby), Some(primary)] = clusters else {
        println!("skipped: no PostgreSQL binaries of its own");
        return;
    };
    let admin = Sql::connect(&standby.url("postgres"));
    admin.run("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let (standby_at, primary_at) = (host(&standby), host(&primary));
    let url = format!(
        "postgres://postgres@127.0.0.1:1,{standby_at}:5432,{primary_at}:5432/postgres\
         ?target_session_attrs=read-write"
    );
    let store = PostgresStore::open(&url).unwrap();
    drop(store);
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'redial'";
    let at = |cluster: &Cluster| Sql::connect(&cluster.url("postgres")).number(made);
    assert_eq!(at(&standby), 0);
    assert!(at(&primary) > 0);
}

fn host(cluster: &Cluster) -> String {
    let url = cluster.url("");
    let host = url.trim_start_matches("postgres://postgres@");
    host.trim_end_matches('/').to_owned()
}

/// A machine that is gone without a word, or a database that stands still, takes a connection and says nothing.
#[test]
fn a_host_that_says_nothing_costs_no_more_than_a_moment() {
    let Some(cluster) = Cluster::start(false) else {
        println!("skipped: no PostgreSQL binaries of its own");
        return;
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let url = format!(
        "postgres://postgres@{silent},{}:5432/postgres?target_session_attrs=read-write",
        host(&cluster)
    );
    let start = now();
    let store = PostgresStore::open(&url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let read = || async { store.read("SELECT 1", Vec::new()).await.unwrap() };
    runtime.block_on(async { tokio::join!(read(), read(), read(), read()) });
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // And where there is no other, that is said.
    let alone = format!("postgres://postgres@{silent}/postgres?connect_timeout=1");
    let error = PostgresStore::open(&alone).unwrap_err().to_string();
    assert!(
        error.contains("expected a server that takes connections"),
        "{error}"
    );
    // The program may say how long, and the connection string has the last word.
    let start = now();
    let bare = format!("postgres://postgres@{silent}/postgres");
    for (url, said) in [(&bare, 100), (&alone, 60_000)] {
        let options = PostgresStore::options().connect_timeout(Duration::from_millis(said));
        options.open(url).unwrap_err();
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[expect(clippy::disallowed_methods, reason = "a database is waited for")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(feature = "tls")]
mod encrypted {
    use std::fs;

    use redial_store_postgres::{OpenError, PostgresStore};
    use redial_store_tests::postgres::Cluster;
    use redial_test_ca::TestCa;

    #[test]
    fn a_database_is_taken_for_whom_its_certificate_says_and_for_no_other() {
        let [ca, other] = ["database", "other"].map(TestCa::new);
        let pair = ca.sign(&["127.0.0.1"]);
        let Some(cluster) = Cluster::encrypted(&pair.certificate, &pair.key) else {
            println!("skipped: no PostgreSQL binaries of its own");
            return;
        };
        let folder = std::env::temp_dir().join(format!("redial-pg-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, ca: &TestCa| {
            let path = folder.join(name);
            fs::write(&path, ca.pem()).unwrap();
            path.display().to_string()
        };
        let [right, wrong] = [file("ca.pem", &ca), file("other.pem", &other)];
        let url = cluster.url("postgres");
        for mode in ["require", "verify-full"] {
            let url = format!("{url}?sslmode={mode}&sslrootcert={right}");
            let store = PostgresStore::open(&url).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let row = runtime.block_on(store.read(ssl, Vec::new())).unwrap();
            assert!(row[0].get::<_, bool>(0), "{mode}");
        }
        let error = |url: &str| PostgresStore::open(url).unwrap_err().to_string();
        let stranger = error(&format!("{url}?sslmode=verify-full&sslrootcert={wrong}"));
        assert!(stranger.contains("certificate"), "{stranger}");
        // The same server by a name that its certificate has not.
        let named = url.replace("127.0.0.1", "localhost");
        let named = error(&format!("{named}?sslmode=require&sslrootcert={right}"));
        assert!(named.contains("certificate"), "{named}");
        let none = PostgresStore::open(&format!("{url}?sslmode=require&sslrootcert=/nowhere.pem"));
        assert!(matches!(none, Err(OpenError::Tls(_))), "{none:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
