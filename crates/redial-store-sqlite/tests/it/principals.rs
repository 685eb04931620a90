//! After a restart, what belonged to a principal belongs to all.

use redial_server::{Extensions, Principal, Server};
use redial_store_sqlite::{SqliteStore, rusqlite::Connection};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::rig::Folder;

fn server(folder: &Folder) -> Server {
    Server::builder()
        .store(SqliteStore::open(folder.file("it.db")).unwrap())
        .mutation("who", async |(): (), context: redial_server::Context| {
            Ok(context.principal().map(Principal::to_string))
        })
        .build()
        .unwrap()
}

fn connect(server: &Server, name: Option<&str>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (server, mut extensions) = (server.clone(), Extensions::new());
    if let Some(name) = name {
        extensions.insert(Principal::new(name).unwrap());
    }
    tokio::spawn(async move { server.serve_connection_with(far, extensions).await });
    near
}

async fn call(io: &mut DuplexStream, request: Value) -> Value {
    let body = request.to_string();
    io.write_u32(body.len() as u32).await.unwrap();
    io.write_all(body.as_bytes()).await.unwrap();
    let len = io.read_u32().await.unwrap();
    let mut reply = vec![0; len as usize];
    io.read_exact(&mut reply).await.unwrap();
    serde_json::from_slice(&reply).unwrap()
}

#[tokio::test]
async fn sessions_and_plain_ids_stay_their_principals_after_a_restart() {
    let folder = Folder::new();
    let first = server(&folder);
    let mut owner = connect(&first, Some("cert:one"));
    let hello = call(&mut owner, json!({"id": "h", "method": "rpc.hello"})).await;
    let session = hello["result"]["session"].clone();
    let plain = json!({"id": "plain", "method": "who"});
    assert_eq!(call(&mut owner, plain.clone()).await["result"], "cert:one");
    drop(owner);
    first.shutdown().await;
    drop(first);
    let second = server(&folder);
    let attach = json!({"id": "h", "method": "rpc.hello", "params": {"session": session}});
    for (name, is_known) in [
        (Some("cert:two"), false),
        (None, false),
        (Some("cert:one"), true),
    ] {
        let mut io = connect(&second, name);
        let attached = call(&mut io, attach.clone()).await;
        assert_eq!(attached["error"]["code"] == -32004, !is_known, "{attached}");
        let resolve = json!({"id": "r", "method": "rpc.resolve", "params": {"id": "plain"}});
        let resolved = call(&mut io, resolve).await;
        assert_eq!(resolved["error"]["code"] == -32004, !is_known, "{resolved}");
        // Its own call of that id, or the recorded one.
        assert_eq!(call(&mut io, plain.clone()).await["result"], json!(name));
    }
    second.shutdown().await;
    drop(second);
    let rows: Vec<(String, Option<String>)> = Connection::open(folder.file("it.db"))
        .unwrap()
        .prepare("SELECT id, principal FROM redial_calls ORDER BY principal")
        .and_then(|mut rows| {
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .unwrap();
    let expected = [None, Some("cert:one"), Some("cert:two")];
    assert_eq!(
        rows,
        expected.map(|name| ("plain".into(), name.map(Into::into)))
    );
}
