//! How the server is doing: `rpc.health` for everyone, `rpc.stats` for those who may ask.

use redial_protocol::rpc;

use super::{Dispatcher, call::Call, policy::refuses, rpc::NoParams};
use crate::{method_times::micros, refusal, shared::Shared};

impl Dispatcher<'_> {
    pub(super) fn health(&mut self, call: &Call<'_, '_>) {
        self.answer(call, |this, NoParams {}| {
            let readiness = this.shared.readiness();
            let detail = (!readiness.is_ready() && this.may_see_stats())
                .then(|| readiness.to_string().into());
            Ok(rpc::Health {
                live: true,
                ready: readiness.is_ready(),
                why: readiness.why().map(Into::into),
                detail,
            })
        });
    }

    pub(super) fn stats(&mut self, call: &Call<'_, '_>) {
        self.answer(call, |this, NoParams {}| {
            let may = this.may_see_stats();
            may.then(|| wire_stats(this.shared))
                .ok_or_else(|| refusal::forbidden(rpc::STATS))
        });
    }

    /// What a server does in all is no stranger's business: a caller shows who it is, or is on this
    /// machine; and the policy, if there is one, lets it.
    fn may_see_stats(&self) -> bool {
        let is_known = self.caller.principal().is_some() || self.caller.is_local();
        let policy = self.shared.policy.as_ref();
        let is_refused = policy.is_some_and(|policy| refuses(policy, self.caller, rpc::STATS));
        self.is_admitted() && is_known && !is_refused
    }
}

/// All numbers, as they stand on the wire.
fn wire_stats(shared: &Shared) -> rpc::ServerStats {
    let stats = shared.stats();
    let refusals = stats.refusals.iter();
    let refusals = refusals.map(|(code, count)| rpc::Refusals {
        code: code.map_or(0, i32::from),
        count,
    });
    rpc::ServerStats {
        awake_ms: shared.awake.millis(shared.awake.now()),
        started: stats.started,
        finished: stats.finished,
        timed_out: stats.timed_out,
        joined: stats.joined,
        replayed: stats.replayed,
        refused: stats.refused,
        refusals: refusals.collect(),
        failed_handshakes: stats.failed_handshakes,
        in_flight: stats.running as u64,
        queued: stats.queued as u64,
        dequeued: stats.dequeued,
        queue_delay_us: micros(stats.queue_delay),
        shed: stats.shed,
        given_up: stats.given_up,
        displaced: stats.displaced,
        queue_full: stats.queue_full,
        overloaded: stats.overloaded,
        running_limit: stats.running_limit as u64,
        connections: stats.connections as u64,
        sessions: stats.sessions as u64,
        session_records: stats.session_records as u64,
        session_bytes: stats.session_bytes as u64,
        records: stats.records as u64,
        record_bytes: stats.record_bytes as u64,
        commits: stats.commits,
        committed: stats.committed,
        largest_commit: stats.largest_commit,
        slowest: shared.times.slowest(&shared.router),
    }
}
