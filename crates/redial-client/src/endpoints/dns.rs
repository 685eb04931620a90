//! A name with several addresses, each of which is an endpoint. It is looked up at an interval, and
//! when connections fail.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use redial_protocol::{Address, unmapped};
use tokio::{
    net::lookup_host,
    runtime::{self, Handle},
    time::sleep_until,
};

use super::{Endpoint, Endpoints, EndpointsFuture};
use crate::clock::{self, after};

/// How often a name is looked up while all is well, unless the program says otherwise. A record of DNS
/// is rarely valid for less, and a change is followed within so long.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long after a look-up the next one is made at the soonest, however many connections fail.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Looks up the addresses of a name. A function from an [`Address`] to a future of them is one.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of the name, with the port.
    fn resolve(
        &self,
        name: Address,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
}

impl<F, Fut> Resolver for F
where
    F: Fn(Address) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve(
        &self,
        name: Address,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        Box::pin(self(name))
    }
}

/// The system's own resolver (`getaddrinfo`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        name: Address,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        Box::pin(async move { Ok(lookup_host(name.as_str()).await?.collect()) })
    }
}

/// The addresses of a name, each an endpoint of its own.
///
/// Where a name is given to [`Client::connect`](crate::Client::connect) instead, its addresses are ways
/// to one server, of which the first that answers is taken.
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use std::time::Duration;
/// use redial_client::{Client, Dns};
///
/// let servers = Dns::new("counter.example:7077").interval(Duration::from_secs(10));
/// let client = Client::builder().connect_endpoints(servers).await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Dns<R = SystemResolver> {
    name: Address,
    resolver: R,
    interval: Duration,
    known: Option<Vec<SocketAddr>>,
    looked_at: Option<Instant>,
    is_due: bool,
    running: Option<LookUp>,
}

/// A look-up that goes on, however often what waits for it is dropped: connections may fail more often than
/// it takes.
struct LookUp {
    /// Where it has begun, and may be polled.
    runtime: runtime::Id,
    found: Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>,
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUp").finish_non_exhaustive()
    }
}

impl Dns {
    /// The addresses of `name`, as in `"counter.example:7077"`, as the system resolves it. Looked up
    /// every 30 s, and when connections fail, though not more often than once a second.
    #[must_use]
    pub fn new(name: impl Into<Address>) -> Self {
        Self {
            name: name.into(),
            resolver: SystemResolver,
            interval: INTERVAL,
            known: None,
            looked_at: None,
            is_due: false,
            running: None,
        }
    }
}

impl<R: Resolver> Dns<R> {
    /// How long after a look-up the next one is made, if no connection fails before. Default 30 s; at
    /// least 1 s. A change is followed within this.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(MIN_INTERVAL);
        self
    }

    /// Looks the name up by other means.
    #[must_use]
    pub fn resolver<S: Resolver>(self, resolver: S) -> Dns<S> {
        Dns {
            name: self.name,
            resolver,
            interval: self.interval,
            known: self.known,
            looked_at: self.looked_at,
            is_due: self.is_due,
            running: None,
        }
    }

    /// When the next look-up is to be made, if not at once.
    fn next_at(&self) -> Option<Instant> {
        // Until an address is known no connection can fail.
        let pause = if self.is_due || self.known.is_none() {
            MIN_INTERVAL
        } else {
            self.interval
        };
        self.looked_at.map(|at| after(at, pause))
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let endpoint = Endpoint::new(unmapped(address));
        match self.name.host() {
            Some(host) => endpoint.server_name(host),
            None => endpoint,
        }
    }

    async fn next_change(&mut self) -> io::Result<Vec<Endpoint>> {
        loop {
            let mut found = self.look_up().await.map_err(|error| {
                let text = format!("{} was not resolved: {error}", self.name);
                io::Error::new(error.kind(), text)
            })?;
            found.sort_unstable();
            found.dedup();
            // A name without an address says less about the servers than about the name.
            if found.is_empty() && self.known.is_some() || self.known.as_ref() == Some(&found) {
                continue;
            }
            if found.is_empty() {
                let text = format!("{} has no address", self.name);
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            let known = self.known.insert(found).clone();
            return Ok(known.into_iter().map(|one| self.endpoint(one)).collect());
        }
    }

    /// Goes on with the look-up that runs, or begins the next when it is time.
    async fn look_up(&mut self) -> io::Result<Vec<SocketAddr>> {
        let runtime = Handle::current().id();
        self.running.take_if(|running| running.runtime != runtime);
        if self.running.is_none()
            && let Some(at) = self.next_at()
        {
            sleep_until(at.into()).await;
        }
        let begin = || LookUp {
            runtime,
            found: self.resolver.resolve(self.name.clone()),
        };
        let running = self.running.get_or_insert_with(begin);
        let found = running.found.as_mut().await;
        self.running = None;
        (self.looked_at, self.is_due) = (Some(clock::now()), false);
        found
    }
}

impl<R: Resolver> Endpoints for Dns<R> {
    fn changed(&mut self) -> EndpointsFuture<'_> {
        Box::pin(self.next_change())
    }

    fn refresh(&mut self) {
        self.is_due = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::timeout;

    use super::*;

    type Answer = Arc<Mutex<(Vec<&'static str>, u32)>>;

    fn resolver(answer: &Answer) -> impl Resolver + use<> {
        let answer = answer.clone();
        move |_| {
            let mut answer = answer.lock().unwrap();
            answer.1 += 1;
            let parsed = answer.0.iter().map(|text| text.parse().unwrap());
            std::future::ready(Ok(parsed.collect::<Vec<SocketAddr>>()))
        }
    }

    async fn texts(dns: &mut Dns<impl Resolver>) -> Vec<String> {
        let found = dns.changed().await.unwrap();
        assert!(
            found
                .iter()
                .all(|one| one.host() == Some("counter.example"))
        );
        found.iter().map(|one| one.address().to_string()).collect()
    }

    /// A name whose addresses change, and no look-up follows; or look-ups without pause.
    #[tokio::test(start_paused = true)]
    async fn a_change_is_followed_within_the_interval_and_sooner_when_connections_fail() {
        let answer: Answer = Arc::new(Mutex::new((vec!["10.0.0.2:1", "10.0.0.1:1"], 0)));
        let second = Duration::from_secs(1);
        let dns = Dns::new("counter.example:1").interval(10 * second);
        let mut dns = dns.resolver(resolver(&answer));
        assert_eq!(texts(&mut dns).await, ["10.0.0.1:1", "10.0.0.2:1"]);
        assert!(timeout(35 * second, dns.changed()).await.is_err());
        assert_eq!(answer.lock().unwrap().1, 4, "once in ten seconds");
        answer.lock().unwrap().0 = vec!["10.0.0.3:1"];
        let asked = clock::now();
        assert_eq!(texts(&mut dns).await, ["10.0.0.3:1"]);
        assert!(clock::now() - asked <= 10 * second);
        answer.lock().unwrap().0 = vec!["10.0.0.4:1"];
        let asked = clock::now();
        for _ in 0..100 {
            dns.refresh();
            assert!(timeout(second / 1_000, dns.changed()).await.is_err());
        }
        assert_eq!(texts(&mut dns).await, ["10.0.0.4:1"]);
        assert!(clock::now() - asked <= second + second / 100);
    }

    /// A resolver that is slower than connections fail is asked again and again, and never heard.
    #[tokio::test(start_paused = true)]
    async fn a_look_up_comes_to_its_end_however_often_connections_fail() {
        let second = Duration::from_secs(1);
        let asked = Arc::new(Mutex::new(0));
        let slow = {
            let asked = asked.clone();
            move |_| {
                *asked.lock().unwrap() += 1;
                let port = *asked.lock().unwrap();
                async move {
                    tokio::time::sleep(5 * second).await;
                    Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
                }
            }
        };
        let mut dns = Dns::new("counter.example:1").resolver(slow);
        assert_eq!(texts(&mut dns).await, ["10.0.0.1:1"]);
        let began = clock::now();
        let found = loop {
            dns.refresh();
            if let Ok(found) = timeout(second / 3, texts(&mut dns)).await {
                break found;
            }
            assert!(clock::now() - began < 20 * second, "it never ends");
        };
        assert_eq!(
            (found, *asked.lock().unwrap()),
            (vec!["10.0.0.1:2".to_owned()], 2)
        );
    }

    /// A first look-up that fails, or finds nothing, is not made again for an interval, or is waited for for ever.
    #[tokio::test(start_paused = true)]
    async fn what_was_not_found_at_first_is_looked_for_again_soon() {
        let answer: Answer = Arc::new(Mutex::new((vec![], 0)));
        let mut dns = Dns::new("counter.example:1").resolver(resolver(&answer));
        let error = dns.changed().await.unwrap_err().to_string();
        assert_eq!(error, "counter.example:1 has no address");
        answer.lock().unwrap().0 = vec!["10.0.0.1:1"];
        let began = clock::now();
        assert_eq!(texts(&mut dns).await, ["10.0.0.1:1"]);
        assert!(clock::now() - began <= MIN_INTERVAL);
    }

    /// A resolver that has a bad moment takes all servers away.
    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_address_and_an_error_leave_what_is_known() {
        let answer: Answer = Arc::new(Mutex::new((vec!["10.0.0.1:1"], 0)));
        let mut dns = Dns::new("counter.example:1").resolver(resolver(&answer));
        assert_eq!(texts(&mut dns).await.len(), 1);
        answer.lock().unwrap().0.clear();
        let long = Duration::from_secs(100);
        assert!(timeout(long, dns.changed()).await.is_err());
        let refuse = |_| async { Err(io::ErrorKind::NotFound.into()) };
        let mut dns = Dns::new("counter.example:1").resolver(refuse);
        let error = dns.changed().await.unwrap_err().to_string();
        assert!(
            error.starts_with("counter.example:1 was not resolved"),
            "{error}"
        );
    }
}
