//! Which of several hosts a connection goes to: the one that took the last, and soon the others beside it, so that
//! one that is gone without a word costs little. And how soon it is noticed that such a one is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool_postgres::Connect;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{Host, LoadBalanceHosts},
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::error::OpenError;

/// For how long one host is tried alone before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// What a connection string says of this if it says nothing: two hours.
const IDLE_UNSAID: Duration = Duration::from_hours(2);
/// After so long without a word a connection is probed, and lost if none of the probes is answered.
const IDLE: Duration = Duration::from_secs(5);
const PROBES_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// The same where something was sent that is not acknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Connects to one of the hosts.
pub(crate) struct Hosts<T> {
    tls: T,
    /// As if each were the only one.
    each: Arc<[Config]>,
    /// The one that took the last connection.
    last: AtomicUsize,
    is_shuffled: bool,
}

impl<T> Hosts<T> {
    pub(crate) fn new(config: &Config, tls: T) -> Result<Self, OpenError> {
        Ok(Self {
            tls,
            each: each(config)?.into(),
            last: AtomicUsize::new(0),
            is_shuffled: config.get_load_balance_hosts() == LoadBalanceHosts::Random,
        })
    }
}

impl<T> Connect for Hosts<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async move {
            let first = if self.is_shuffled {
                self.last.fetch_add(1, Relaxed)
            } else {
                self.last.load(Relaxed)
            };
            let count = self.each.len();
            let (at, (client, connection)) = self.race(first, count).await?;
            if !self.is_shuffled {
                self.last.store(at, Relaxed);
            }
            // What ends it is found by those who use it.
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

type Connected<T> = (
    Client,
    Connection<Socket, <T as MakeTlsConnect<Socket>>::Stream>,
);

impl<T> Hosts<T>
where
    T: MakeTlsConnect<Socket> + Clone,
{
    /// The first that takes it, and which of them that is.
    async fn race(&self, first: usize, count: usize) -> Result<(usize, Connected<T>), Error> {
        let mut attempts = FuturesUnordered::new();
        let mut waiting = (0..count).map(|turn| first.wrapping_add(turn) % count);
        loop {
            let next = waiting.next();
            if let Some(at) = next {
                attempts.push(async move {
                    let connected = self.each[at].connect(self.tls.clone()).await;
                    connected.map(|connected| (at, connected))
                });
            }
            let is_last = waiting.len() == 0;
            loop {
                let ended = if is_last {
                    attempts.next().await
                } else {
                    match timeout(HEAD_START, attempts.next()).await {
                        Ok(ended) => ended,
                        Err(_) => break,
                    }
                };
                match ended {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(error)) if is_last && attempts.is_empty() => return Err(error),
                    Some(Err(_)) if is_last => {}
                    // The next one's turn, at once.
                    _ => break,
                }
            }
        }
    }
}

/// Each host by itself, with all else that the connection string says.
fn each(config: &Config) -> Result<Vec<Config>, OpenError> {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let count = names.len().max(addresses.len());
    let fits = |given: usize| given == count || given == 0;
    if count == 0 {
        return Err(OpenError::Url("no host is named".to_owned()));
    }
    if !fits(names.len()) || !fits(addresses.len()) || (ports.len() > 1 && ports.len() != count) {
        let given = format!(
            "{} hosts, {} addresses and {} ports are named; expected as many of each",
            names.len(),
            addresses.len(),
            ports.len()
        );
        return Err(OpenError::Url(given));
    }
    let hosts = (0..count).map(|at| {
        let mut one = without_hosts(config);
        match names.get(at) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            #[cfg(unix)]
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(at).or(ports.first()) {
            one.port(*port);
        }
        one
    });
    Ok(hosts.collect())
}

fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives(config.get_keepalives());
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = config.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    let idle = config.get_keepalives_idle();
    one.keepalives_idle(if idle == IDLE_UNSAID { IDLE } else { idle })
        .keepalives_interval(config.get_keepalives_interval().unwrap_or(PROBES_EVERY))
        .keepalives_retries(config.get_keepalives_retries().unwrap_or(PROBES))
        .tcp_user_timeout(*config.get_tcp_user_timeout().unwrap_or(&UNACKNOWLEDGED));
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Vec<Config> {
        each(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn each_host_has_all_that_the_connection_string_says() {
        let url = "postgres://u:p@a:1,%2Frun:2/d?target_session_attrs=read-write\
            &options=-c%20a%3Db&application_name=n&connect_timeout=3&keepalives_retries=9";
        let all = parsed(url);
        assert_eq!(all.len(), 2);
        for (one, alone) in all.iter().zip(["u:p@a:1", "u:p@%2Frun:2"]) {
            let alone = url.replace("u:p@a:1,%2Frun:2", alone);
            assert_eq!(*one, parsed(&alone)[0]);
            let mut as_said: Config = alone.parse().unwrap();
            as_said
                .keepalives_idle(IDLE)
                .keepalives_interval(PROBES_EVERY);
            as_said.tcp_user_timeout(UNACKNOWLEDGED);
            assert_eq!(*one, as_said);
        }
    }

    /// Kind of fault: a machine that is gone without a word is waited for.
    #[test]
    fn how_soon_a_silent_machine_is_noticed_is_what_was_said_or_seconds() {
        let quiet = &parsed("postgres://h/d")[0];
        assert_eq!(quiet.get_keepalives_idle(), IDLE);
        assert_eq!(quiet.get_keepalives_interval(), Some(PROBES_EVERY));
        assert_eq!(quiet.get_tcp_user_timeout(), Some(&UNACKNOWLEDGED));
        let said = &parsed("postgres://h/d?keepalives_idle=60&tcp_user_timeout=70")[0];
        assert_eq!(said.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(said.get_tcp_user_timeout(), Some(&Duration::from_secs(70)));
    }

    #[test]
    fn hosts_and_ports_that_do_not_fit_are_said() {
        for (url, expected) in [
            ("user=u", "no host"),
            (
                "host=a,b,c port=1,2 user=u",
                "3 hosts, 0 addresses and 2 ports",
            ),
        ] {
            let error = each(&url.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
