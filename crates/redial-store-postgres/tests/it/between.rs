//! Stands between a store and a database, and has the statements of simple queries replaced by others.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    thread,
};

use crate::rig::Database;

/// What is sent instead of a text, if that is to be replaced.
pub(crate) type Change = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Returns the connection string of the proxy.
pub(crate) fn start(database: &Database, change: Change) -> Option<String> {
    let (listener, socket, url) = database.port_before()?;
    drop(thread::spawn(move || serve(&listener, &socket, &change)));
    Some(url)
}

fn serve(listener: &TcpListener, socket: &Path, change: &Change) {
    loop {
        let (near, _) = listener.accept().unwrap();
        let far = UnixStream::connect(socket).unwrap();
        let (mut to_far, mut to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let change = Arc::clone(change);
        drop(thread::spawn(move || {
            forward(near, &mut to_far, &change);
            drop(to_far.shutdown(Shutdown::Both));
        }));
        drop(thread::spawn(move || {
            let mut far = far;
            drop(std::io::copy(&mut far, &mut to_near));
            drop(to_near.shutdown(Shutdown::Both));
        }));
    }
}

/// Message by message.
fn forward(mut from: TcpStream, to: &mut UnixStream, change: &Change) -> Option<()> {
    let mut tag_bytes = 0;
    loop {
        let mut head = vec![0; tag_bytes + 4];
        from.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[tag_bytes..].try_into().ok()?);
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).ok()?;
        if head[0] == b'Q'
            && let Some(sql) = body.strip_suffix(&[0])
            && let Some(other) = change(&String::from_utf8_lossy(sql))
        {
            body = other.into_bytes();
            body.push(0);
            let length = body.len() as u32 + 4;
            head[1..].copy_from_slice(&length.to_be_bytes());
        }
        to.write_all(&head).ok()?;
        to.write_all(&body).ok()?;
        // The first has none.
        tag_bytes = 1;
    }
}
