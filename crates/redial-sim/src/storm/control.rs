//! A storm between two processes on loopback: the one that calls tells the one that serves when to stall, and
//! asks it in the end what it has done.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use redial_client::Client;
use redial_server::{Abort, Principal, ServerBuilder};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};

use super::{ground::Ground, recorder::ServerStep, workers::Workers};

/// The server in another process.
#[derive(Clone)]
pub(crate) struct Remote {
    address: SocketAddr,
    control: Client,
}

/// What it has noted.
#[derive(Deserialize, Serialize)]
struct Noted {
    effects: Vec<u32>,
    steps: Vec<ServerStep>,
    elapsed: Duration,
}

/// Adds the methods by which the calling process stalls a server, and asks it.
pub(crate) fn methods(
    builder: ServerBuilder,
    ground: &Arc<Ground>,
    workers: &Workers,
) -> ServerBuilder {
    let (workers, ground) = (workers.clone(), ground.clone());
    let stall = move |(ms,): (u64,)| {
        let workers = workers.clone();
        async move {
            let time = Duration::from_millis(ms);
            tokio::spawn(async move { workers.stall(time).await });
            Ok::<_, Abort>(())
        }
    };
    let noted = move |(): ()| {
        let noted = Noted {
            effects: ground.ledger.effects(),
            steps: ground.recorder.server().clone(),
            elapsed: ground.elapsed(),
        };
        async move { Ok::<_, Abort>(noted) }
    };
    builder.mutation("stall", stall).query("noted", noted)
}

impl Remote {
    /// Connects to it.
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let control = Client::connect(address).await?;
        Ok(Self { address, control })
    }

    pub(crate) async fn stall(&self, time: Duration) {
        let stall = self.control.request("stall", (time.as_millis() as u64,));
        stall.await.expect("the server is there");
    }

    /// Whether it has done nothing for a while.
    pub(crate) async fn is_idle(&self) -> bool {
        let Some(noted) = self.noted().await else {
            return false;
        };
        let (sum, before) = (
            noted.effects.iter().sum::<u32>(),
            Duration::from_millis(300),
        );
        tokio::time::sleep(before).await;
        let after = self.noted().await;
        after.is_some_and(|noted| noted.effects.iter().sum::<u32>() == sum)
    }

    /// Fetches what it has noted.
    pub(crate) async fn collect(&self, ground: &Ground) {
        let noted = self.noted().await.expect("the server is there");
        ground.ledger.add_effects(&noted.effects);
        let later = ground.elapsed().saturating_sub(noted.elapsed);
        ground.recorder.add_server(noted.steps, later);
    }

    async fn noted(&self) -> Option<Noted> {
        self.control.query("noted", ()).returning().await.ok()
    }

    /// Connects from this address.
    pub(crate) async fn dial(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The address of the principal, or of the client, since an address is whose share it is.
pub(crate) fn address(client: u32, principal: Option<&Principal>) -> Ipv4Addr {
    let name = principal.map(Principal::to_string).unwrap_or_default();
    let number = name.rsplit('-').next().and_then(|text| text.parse().ok());
    match number {
        Some(principal) => Ipv4Addr::new(127, 1, 1, principal),
        None => Ipv4Addr::from_bits(Ipv4Addr::new(127, 2, 0, 1).to_bits() + client),
    }
}
