//! How a client hears at which addresses the servers are.

use std::{io, sync::Arc};

use redial_client::{Endpoint, Endpoints, EndpointsFuture};
use tokio::time::sleep_until;

use crate::{bug::Bug, clock, host::Subject, scenario::AddressChange, world::World};

/// Says what the scenario has it say, when it is time.
pub(crate) struct Discovery {
    world: Arc<World>,
    /// How many lists it has given.
    said: usize,
    has_failed: bool,
}

impl Discovery {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            said: 0,
            has_failed: false,
        }
    }

    async fn next(&mut self) -> io::Result<Vec<Endpoint>> {
        let world = self.world.clone();
        let plan = world.scenario.endpoints.as_ref();
        let plan = plan.expect("there are several addresses");
        if plan.fails_first && !self.has_failed {
            self.has_failed = true;
            return Err(io::Error::other("no such name"));
        }
        let changes = plan.changes.iter();
        let changes = changes.filter_map(|(at, change)| match change {
            AddressChange::List(list) => Some((world.start + *at, list)),
            _ => None,
        });
        let lists: Vec<_> = [(world.start, &plan.first)]
            .into_iter()
            .chain(changes)
            .collect();
        let is_deaf = world.subject == Subject::Buggy(Bug::ListIgnored);
        let said = match self.said {
            0 => lists.partition_point(|(at, _)| *at <= clock::now()),
            all if all == lists.len() || is_deaf => std::future::pending().await,
            next => {
                sleep_until(lists[next].0).await;
                next + 1
            }
        };
        let list = lists[said - 1].1.iter();
        let endpoints = list.map(|address| endpoint(*address)).collect();
        self.said = said;
        Ok(endpoints)
    }
}

impl Endpoints for Discovery {
    fn changed(&mut self) -> EndpointsFuture<'_> {
        Box::pin(self.next())
    }
}

/// How an address is spelled.
fn endpoint(address: u32) -> Endpoint {
    Endpoint::new(format!("address-{address}:1"))
}

/// The number of an address.
pub(crate) fn number(endpoint: &Endpoint) -> u32 {
    let text = endpoint.address().as_str();
    let number = text
        .strip_prefix("address-")
        .and_then(|text| text.strip_suffix(":1"));
    number
        .and_then(|number| number.parse().ok())
        .expect("it is one of the world's")
}
