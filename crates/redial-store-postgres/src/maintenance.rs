//! What is done beside the calls: the epoch is renewed, acknowledgements are saved, and what has expired goes.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use redial_protocol::{Principal, SessionId};
use redial_server::store::{Acknowledged, StoreError};
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::types::Type;

use crate::{
    connection::{Connection, Typed},
    error::Trouble,
    open::new_epoch,
    patience::Patience,
    record::acknowledged,
    schema::SLOTS,
    store::Shared,
};
use redial_server::store::encoding::{merge, session};

/// How often acknowledgements are saved, if it is not urgent.
const SAVE_EVERY: Duration = Duration::from_millis(50);
/// How often expired rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How soon a database that is away is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long steps may take when the store is closed.
const END: Duration = Duration::from_secs(5);

const RENEW: &str = "UPDATE redial.server SET expires = clock_timestamp() + make_interval(secs => $2) \
    WHERE epoch = $1 AND expires > clock_timestamp()";

/// Only of sessions that were not used for a while.
const RENEW_SESSIONS: &str = "UPDATE redial.session SET touched = clock_timestamp() \
    WHERE id = ANY ($1) AND dead_since IS NULL \
    AND touched < clock_timestamp() - make_interval(secs => $2)";

const FIND: &str = "SELECT below, open FROM redial.session \
    WHERE id = $1 AND owner IS NOT DISTINCT FROM $2 AND dead_since IS NULL";

const DELETE_SPARES: &str = "DELETE FROM redial.slot WHERE session = $1 AND slot >= $2 \
    AND slot < $2 + $3 AND slot - $2 <> ALL ($4)";

/// Only what was fenced may be left of a session that dies: nothing of it ever runs.
const SAVE: &str = "UPDATE redial.session SET below = $2, open = $3, touched = clock_timestamp(), \
    dead_since = CASE WHEN $4 AND dead_since IS NULL AND NOT EXISTS (SELECT FROM redial.slot s \
        WHERE s.session = $1 AND s.seq >= 0 AND s.state <> 2 AND (s.seq >= $2 OR s.seq = ANY ($3))) \
        THEN clock_timestamp() ELSE dead_since END WHERE id = $1";

/// Sessions die first, and their rows go a minute later, some at a time.
const SWEEPS: [&str; 5] = [
    "UPDATE redial.session SET dead_since = clock_timestamp() WHERE dead_since IS NULL \
     AND touched < clock_timestamp() - make_interval(secs => $1 + 0 * $2)",
    "DELETE FROM redial.slot WHERE (session, slot) IN (SELECT s.session, s.slot \
     FROM redial.session h JOIN redial.slot s ON s.session = h.id \
     WHERE h.dead_since < clock_timestamp() - make_interval(secs => 60 + 0 * ($1 + $2)) LIMIT 1000)",
    "DELETE FROM redial.session h WHERE dead_since < clock_timestamp() \
     - make_interval(secs => 60 + 0 * ($1 + $2)) \
     AND NOT EXISTS (SELECT FROM redial.slot s WHERE s.session = h.id)",
    "DELETE FROM redial.plain WHERE id IN (SELECT id FROM redial.plain \
     WHERE since < clock_timestamp() - make_interval(secs => $2 + 0 * $1) \
     AND (state <> 0 OR since < clock_timestamp() - interval '1 day') LIMIT 1000)",
    "DELETE FROM redial.server \
     WHERE expires < clock_timestamp() - make_interval(secs => 3600 + 0 * ($1 + $2))",
];

/// Keeps the store until it is closed, which cuts off what is being done, and then ends what is open. `workers` do
/// what needs the connections of the calls.
pub(crate) async fn run(shared: &Arc<Shared>, workers: &Handle) {
    let mut tending = workers.spawn(tend(Arc::clone(shared)));
    tokio::select! {
        () = shared.closing.cancelled() => {
            tending.abort();
            // If a handler blocks, it may go on for a while.
            drop(timeout(END, tending).await);
        }
        // It has panicked.
        _ = &mut tending => {}
        () = renew(shared) => {}
    }
    shared.steps.close();
    // What takes longer ends uncertain, as its answer says.
    drop(timeout(END, shared.steps.wait()).await);
    shared.batches.close();
    if shared.is_orderly.load(Relaxed) {
        drop(timeout(END, shared.finish_late()).await);
        // Lost, it costs memory for a while, or a lease.
        drop(timeout(END, shared.save_all(false)).await);
        drop(timeout(END, shared.leave()).await);
    }
    shared.pools.close();
}

async fn tend(shared: Arc<Shared>) {
    tokio::join!(save(&shared), finish_late(&shared), sweep(&shared));
}

async fn renew(shared: &Shared) {
    let every = shared.options.server_lease / 3;
    loop {
        sleep(every).await;
        while let Err(trouble) = shared.renew().await {
            shared.set_problem(Some(trouble.into_error()));
            sleep(AGAIN).await;
        }
        shared.set_problem(None);
    }
}

async fn save(shared: &Shared) {
    let mut ticks = interval(SAVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_urgent = tokio::select! {
            _ = ticks.tick() => false,
            () = shared.sessions.urgent.notified() => true,
        };
        if !shared.save_all(is_urgent).await {
            sleep(SAVE_EVERY).await;
        }
    }
}

async fn finish_late(shared: &Shared) {
    loop {
        sleep(SAVE_EVERY).await;
        shared.finish_late().await;
    }
}

async fn sweep(shared: &Shared) {
    loop {
        sleep(SWEEP_EVERY).await;
        // The next one may work.
        drop(shared.sweep().await);
    }
}

impl Shared {
    async fn renew(&self) -> Result<(), Trouble> {
        let mut connection = self.lease_connection().await?;
        let lease = self.options.server_lease.as_secs_f64();
        let epoch = self.epoch();
        let renewed: [Typed<'_>; 2] = [(&epoch, Type::INT8), (&lease, Type::FLOAT8)];
        if connection.change(RENEW, &renewed).await? == 0 {
            // It was lost, and so is what this server had started in it.
            connection.enter();
            let epoch = new_epoch(&connection, &self.style, lease).await;
            self.set_epoch(epoch.map_err(|error| Trouble::of(&error))?);
            connection.left();
        }
        let held = self.sessions.held();
        let age = self.touched_every();
        let touched: [Typed<'_>; 2] = [(&held, Type::INT8_ARRAY), (&age, Type::FLOAT8)];
        connection.change(RENEW_SESSIONS, &touched).await?;
        Ok(())
    }

    /// The epoch ends with the server.
    async fn leave(&self) -> Result<(), Trouble> {
        let connection = self.lease_connection().await?;
        let leave = "DELETE FROM redial.server WHERE epoch = $1";
        let epoch = self.epoch();
        connection.change(leave, &[(&epoch, Type::INT8)]).await?;
        Ok(())
    }

    /// True if all is saved, or all that is urgent.
    async fn save_all(&self, is_urgent: bool) -> bool {
        let mut is_saved = true;
        for (id, known) in self.sessions.unsaved(is_urgent) {
            if self.save_session(id, &known).await.is_ok() {
                self.sessions.note_saved(id, &known);
            } else {
                is_saved = false;
            }
        }
        is_saved
    }

    async fn save_session(&self, id: SessionId, known: &Acknowledged) -> Result<(), Trouble> {
        let mut connection = self.connection().await?;
        self.save_in(&mut connection, id, known, false).await
    }

    /// Together with what other servers have saved. Slots of their own go with their calls. A session that is
    /// over dies, unless a call of it has an outcome that is not acknowledged.
    async fn save_in(
        &self,
        connection: &mut Connection,
        id: SessionId,
        known: &Acknowledged,
        is_over: bool,
    ) -> Result<(), Trouble> {
        connection.enter();
        let session = session(id);
        let lock = "SELECT below, open FROM redial.session WHERE id = $1 FOR UPDATE";
        let lock_params: [Typed<'_>; 1] = [(&session, Type::INT8)];
        let lock = connection.prepared(lock, &lock_params).await?;
        let (begun, rows) = tokio::join!(
            connection.batch_execute(&self.style.begin),
            connection.ready_rows(&lock, &lock_params),
        );
        begun.map_err(|error| Trouble::of(&error))?;
        let Some(row) = rows?.pop() else {
            return connection.roll_back().await;
        };
        let mut merged = acknowledged(row.get(0), &row.get::<_, Vec<i64>>(1));
        merge(&mut merged, known);
        let below = merged.below.cast_signed();
        let open: Vec<i64> = merged
            .open
            .iter()
            .map(|number| number.cast_signed())
            .collect();
        let slots = SLOTS.cast_signed();
        let delete_params: [Typed<'_>; 4] = [
            (&session, Type::INT8),
            (&slots, Type::INT8),
            (&below, Type::INT8),
            (&open, Type::INT8_ARRAY),
        ];
        let update_params: [Typed<'_>; 4] = [
            (&session, Type::INT8),
            (&below, Type::INT8),
            (&open, Type::INT8_ARRAY),
            (&is_over, Type::BOOL),
        ];
        connection.change(DELETE_SPARES, &delete_params).await?;
        connection.commit_with(&[(SAVE, &update_params)]).await?;
        Ok(())
    }

    /// Does what is left of a goodbye, if there was one.
    pub(crate) async fn end_session(
        &self,
        connection: &mut Connection,
        id: SessionId,
    ) -> Result<(), Trouble> {
        if let Some(goodbye) = self.sessions.over(id) {
            let known = &goodbye.acknowledged;
            self.save_in(connection, id, known, true).await?;
            self.sessions.forget(id, &goodbye);
        }
        Ok(())
    }

    /// If it fails, the sweep does it again.
    pub(crate) async fn forget_session(&self, id: SessionId) -> Result<(), StoreError> {
        self.forget(id).await.map_err(Trouble::into_error)
    }

    async fn forget(&self, id: SessionId) -> Result<(), Trouble> {
        let mut connection = self.connection().await?;
        self.end_session(&mut connection, id).await
    }

    /// Its lease begins. If it fails, what its client has acknowledged is saved with the next.
    pub(crate) async fn leave_session(&self, id: SessionId) -> Result<(), StoreError> {
        let known = self.sessions.leave(id);
        let saved = self.save_session(id, &known).await;
        saved.map_err(Trouble::into_error)?;
        self.sessions.note_saved(id, &known);
        Ok(())
    }

    pub(crate) async fn find_session(
        &self,
        id: SessionId,
        owner: Option<Principal>,
    ) -> Result<Option<Acknowledged>, StoreError> {
        let mut patience = Patience::new(&self.options);
        loop {
            match self.try_find_session(id, owner.as_ref()).await {
                Ok(found) => return Ok(found),
                Err(trouble) => patience.pause(trouble).await?,
            }
        }
    }

    /// It is touched first, so that it does not die before this server has said that it holds it.
    async fn try_find_session(
        &self,
        id: SessionId,
        owner: Option<&Principal>,
    ) -> Result<Option<Acknowledged>, Trouble> {
        let mut connection = self.connection().await?;
        self.end_session(&mut connection, id).await?;
        let (session, owner) = (session(id), owner.map(Principal::as_str));
        let age = self.touched_every();
        let ids = vec![session];
        let touched: [Typed<'_>; 2] = [(&ids, Type::INT8_ARRAY), (&age, Type::FLOAT8)];
        let asked: [Typed<'_>; 2] = [(&session, Type::INT8), (&owner, Type::TEXT)];
        let renewing = connection.prepared(RENEW_SESSIONS, &touched).await?;
        let find = connection.prepared(FIND, &asked).await?;
        let (touched, found) = tokio::join!(
            connection.ready_rows(&renewing, &touched),
            connection.ready_rows(&find, &asked),
        );
        touched?;
        let Some(row) = found?.pop() else {
            return Ok(None);
        };
        let stored = acknowledged(row.get(0), &row.get::<_, Vec<i64>>(1));
        self.sessions.hold(id);
        Ok(Some(self.sessions.merge(id, &stored)))
    }

    /// How old the stamp of a session that is held may become, in seconds.
    fn touched_every(&self) -> f64 {
        self.options.session_lease.as_secs_f64() / 4.0
    }

    async fn sweep(&self) -> Result<(), Trouble> {
        let connection = self.connection().await?;
        let session = self.options.session_lease.as_secs_f64() * 1.5;
        let plain = self.options.ttl.as_secs_f64() + 60.0;
        let params: [Typed<'_>; 2] = [(&session, Type::FLOAT8), (&plain, Type::FLOAT8)];
        for sweep in SWEEPS {
            connection.change(sweep, &params).await?;
        }
        drop(connection);
        // Goodbyes that could not be saved when they came.
        for id in self.sessions.all_over() {
            // One whose row another transaction holds does not keep the others waiting.
            if let Err(trouble @ Trouble::Away(_)) = self.forget(id).await {
                return Err(trouble);
            }
        }
        Ok(())
    }

    pub(crate) async fn open_session(
        &self,
        id: SessionId,
        owner: Option<Principal>,
    ) -> Result<(), StoreError> {
        let mut patience = Patience::new(&self.options);
        // It is there if the commit had no answer, and may be at this primary alone: its standby has it when it has this.
        let insert = "INSERT INTO redial.session (id, owner) VALUES ($1, $2) \
            ON CONFLICT (id) DO UPDATE SET touched = clock_timestamp()";
        let owner = owner.as_ref().map(Principal::as_str);
        loop {
            let inserted = async {
                let mut connection = self.connection().await?;
                connection.enter();
                let begun = connection.batch_execute(&self.style.begin).await;
                begun.map_err(|error| Trouble::of(&error))?;
                let session = session(id);
                let params: [Typed<'_>; 2] = [(&session, Type::INT8), (&owner, Type::TEXT)];
                connection.commit_with(&[(insert, &params)]).await?;
                Ok::<_, Trouble>(())
            };
            match inserted.await {
                Ok(()) => break,
                Err(trouble) => patience.pause(trouble).await?,
            }
        }
        self.sessions.hold(id);
        Ok(())
    }
}
