//! A name whose addresses are scripted, in virtual time; and real sockets, one of them a black hole.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket},
    time::sleep,
};

use super::*;
use crate::connect::race::ATTEMPT_DELAY;

const MS: Duration = Duration::from_millis(1);
const LIMIT: Option<Duration> = Some(Duration::from_secs(5));

/// What an address does after how many milliseconds.
#[derive(Clone, Copy)]
enum Behaviour {
    Answers(u32),
    Refuses(u32),
    IsSilent,
}

use Behaviour::{Answers, IsSilent, Refuses};

/// A name and what its addresses do, in the resolver's order.
struct Script {
    lookup: Behaviour,
    addresses: Vec<(SocketAddr, Behaviour)>,
    /// Attempts that run.
    running: Arc<AtomicUsize>,
}

/// One attempt, from its start to its end or its drop.
struct Attempting(Arc<AtomicUsize>);

impl Drop for Attempting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Script {
    fn new(addresses: &[(&str, Behaviour)]) -> Self {
        let parse = |(text, does): &(&str, Behaviour)| (text.parse().unwrap(), *does);
        Self {
            lookup: Answers(0),
            addresses: addresses.iter().map(parse).collect(),
            running: Arc::default(),
        }
    }

    /// Who wins and when, or the error and when; whatever ran beside is gone by then.
    async fn run(&self, limit: Option<Duration>) -> (Result<String, String>, u128) {
        let start = clock::now();
        let address = Address::from("counter.example:1");
        let result = dial(self, &address, limit).await;
        let took = (clock::now() - start).as_millis();
        assert_eq!(self.running.load(SeqCst), 0, "an attempt runs on");
        let result = result.map(|winner| winner.to_string());
        (result.map_err(|error| error.to_string()), took)
    }
}

async fn act(does: Behaviour) -> io::Result<()> {
    match does {
        Answers(after) => sleep(after * MS).await,
        Refuses(after) => {
            sleep(after * MS).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        IsSilent => std::future::pending().await,
    }
    Ok(())
}

impl Network for Script {
    type Io = SocketAddr;

    async fn lookup(&self, _: &Address) -> io::Result<Vec<SocketAddr>> {
        act(self.lookup).await?;
        Ok(self.addresses.iter().map(|(address, _)| *address).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.running.fetch_add(1, SeqCst);
        let _attempting = Attempting(self.running.clone());
        let behaviours: BTreeMap<_, _> = self.addresses.iter().copied().collect();
        act(behaviours[&address]).await?;
        Ok(address)
    }
}

/// Kind: a way to the server is chosen blindly. Instance: a name whose first address is a black
/// hole.
#[tokio::test(start_paused = true)]
async fn a_name_is_as_fast_as_its_best_address() {
    for (addresses, winner, after) in [
        // The first address is good: no second one is tried.
        (
            &[("[::1]:1", Answers(20)), ("1.1.1.1:1", Answers(0))][..],
            "[::1]:1",
            20,
        ),
        (
            &[("1.1.1.1:1", IsSilent), ("2.2.2.2:1", Answers(1))],
            "2.2.2.2:1",
            251,
        ),
        (
            &[("[::1]:1", IsSilent), ("1.1.1.1:1", Answers(1))],
            "1.1.1.1:1",
            251,
        ),
        // A broken family costs one delay, however many addresses it has.
        (
            &[
                ("[::1]:1", IsSilent),
                ("[::2]:1", IsSilent),
                ("[::3]:1", IsSilent),
                ("1.1.1.1:1", Answers(1)),
            ],
            "1.1.1.1:1",
            251,
        ),
        (
            &[("1.1.1.1:1", Refuses(3)), ("2.2.2.2:1", Answers(1))],
            "2.2.2.2:1",
            4,
        ),
        // Late is no loser: the second is tried beside it, not in its stead.
        (
            &[("1.1.1.1:1", Answers(300)), ("2.2.2.2:1", Answers(100))],
            "1.1.1.1:1",
            300,
        ),
        (
            &[("1.1.1.1:1", Answers(900)), ("2.2.2.2:1", Answers(100))],
            "2.2.2.2:1",
            350,
        ),
        (
            &[("1.1.1.1:1", Answers(900)), ("2.2.2.2:1", Refuses(1))],
            "1.1.1.1:1",
            900,
        ),
    ] {
        let (result, took) = Script::new(addresses).run(LIMIT).await;
        assert_eq!((result, took), (Ok(winner.to_owned()), after));
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_bounds_the_look_up_and_all_attempts_together() {
    let holes: Vec<_> = (1..100).map(|n| format!("1.1.1.{n}:1")).collect();
    let holes: Vec<_> = holes.iter().map(|text| (text.as_str(), IsSilent)).collect();
    let mut script = Script::new(&holes);
    script.lookup = Answers(4000);
    let (error, took) = script.run(LIMIT).await;
    assert_eq!(took, 5000);
    let error = error.unwrap_err();
    assert!(error.starts_with("no connection within 5s (1.1.1.1:1: no answer; 1.1.1.2:1: "));
    assert!(
        error.contains("1.1.1.5:1: not tried") && error.ends_with("and 91 more)"),
        "{error}"
    );

    script.lookup = IsSilent;
    let (error, took) = script.run(LIMIT).await;
    assert_eq!(took, 5000);
    assert_eq!(error.unwrap_err(), "the name was not resolved within 5s");
}

#[tokio::test(start_paused = true)]
async fn an_error_says_of_each_address_how_it_failed() {
    let script = Script::new(&[("[::1]:1", Refuses(1)), ("1.1.1.1:1", Refuses(9))]);
    let (error, took) = script.run(LIMIT).await;
    let expected = "no address takes connections ([::1]:1: connection refused; \
                    1.1.1.1:1: connection refused)";
    assert_eq!((error.unwrap_err().as_str(), took), (expected, 10));
    let (error, _) = Script::new(&[]).run(LIMIT).await;
    assert_eq!(error.unwrap_err(), "the name has no address");
}

#[tokio::test(start_paused = true)]
async fn limits_without_end_are_none() {
    let addresses = &[("1.1.1.1:1", IsSilent), ("2.2.2.2:1", Answers(10))];
    for limit in [None, Some(Duration::MAX)] {
        let (winner, took) = Script::new(addresses).run(limit).await;
        assert_eq!((winner.as_deref(), took), (Ok("2.2.2.2:1"), 260));
    }
}

/// The system's sockets, under a name of our own.
struct Named(Vec<SocketAddr>);

impl Network for Named {
    type Io = TcpStream;

    async fn lookup(&self, _: &Address) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        System.connect(address).await
    }
}

/// A listener whose queue is full: the system drops what else would connect, as a firewall does.
async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let (address, mut queued) = (listener.local_addr().unwrap(), Vec::new());
    while let Some(stream) = by(Some(clock::now() + 200 * MS), TcpStream::connect(address)).await {
        queued.push(stream.expect("it is queued"));
    }
    (listener, queued)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_black_hole_of_the_systems_own_costs_250_ms_and_leaves_nothing_behind() {
    let hole = black_hole().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = Named(vec![
        hole.0.local_addr().unwrap(),
        server.local_addr().unwrap(),
    ]);
    let start = clock::now();
    let address = Address::from("counter.example:1");
    let stream = dial(&name, &address, LIMIT)
        .await
        .expect("the second address answers");
    let took = clock::now() - start;
    assert!(
        (ATTEMPT_DELAY..10 * ATTEMPT_DELAY).contains(&took),
        "{took:?}"
    );
    assert!(stream.nodelay().unwrap());

    // The loser: had it been kept, its connection would be made now that there is room.
    for _ in &hole.1 {
        drop(hole.0.accept().await.unwrap());
    }
    let late = by(Some(clock::now() + 1500 * MS), hole.0.accept()).await;
    if let Some(Ok((mut late, _))) = late {
        assert_eq!(late.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    }
}
