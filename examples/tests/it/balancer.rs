//! One address behind which different servers answer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Addresses that may change while connections are made to them.
pub(crate) type Backends = Arc<Mutex<Vec<String>>>;

/// Connections go to one server after the other, whichever takes them.
pub(crate) async fn balancer(backends: Backends) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((mut client, _)) = listener.accept().await else {
                return;
            };
            let mut order = backends.lock().unwrap().clone();
            let first = turn % order.len();
            order.rotate_left(first);
            tokio::spawn(async move {
                for backend in order {
                    if let Ok(mut backend) = TcpStream::connect(backend).await {
                        drop(copy_bidirectional(&mut client, &mut backend).await);
                        return;
                    }
                }
            });
        }
    });
    address
}
