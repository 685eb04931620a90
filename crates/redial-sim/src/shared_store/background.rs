//! Sessions, and what is done beside the calls: the epoch is renewed, acknowledgements are saved, and
//! sessions that no server holds go.

use super::*;
use crate::database::{SessionRow, Tables};

/// How often acknowledgements are saved.
const SAVE_EVERY: Duration = Duration::from_millis(50);

/// How soon a database that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a session is dead before its records go: longer than any transaction takes.
const GRAVE: Duration = Duration::from_secs(60);

impl SharedTableStore {
    pub(super) fn start_background(&self) {
        let frost = &self.0.frost;
        let tasks = [
            tokio::spawn(frost.clone().around(self.clone().renew())),
            tokio::spawn(frost.clone().around(self.clone().save_often())),
            tokio::spawn(frost.clone().around(self.clone().sweep())),
        ];
        self.lock().background = tasks.iter().map(|task| task.abort_handle()).collect();
    }

    async fn renew(self) {
        let (database, lease) = (self.0.database.clone(), self.0.leases.server);
        loop {
            sleep(lease / 3).await;
            loop {
                let (epoch, held) = {
                    let state = self.lock();
                    let held = state.known.iter().filter(|(_, known)| !known.is_left);
                    let held: Vec<_> = held.map(|(session, _)| *session).collect();
                    (state.epoch, held)
                };
                let renewed = database.ask(move |tables| {
                    held.iter()
                        .for_each(|session| tables.renew_session(*session));
                    // If it was lost, so is what this server had started in it.
                    let is_renewed = tables.renew(epoch, lease);
                    (!is_renewed).then(|| tables.enter(lease))
                });
                let renewed = renewed.await;
                if self.has_renewed(renewed, epoch) {
                    break;
                }
                sleep(AGAIN).await;
            }
        }
    }

    /// The database has said this of an epoch, and which is the next if it was lost.
    fn has_renewed(&self, said: Result<Option<u64>, Trouble>, epoch: u64) -> bool {
        let mut state = self.lock();
        let failed = || StoreError::nothing_done("the database can't be reached");
        state.problem = said.is_err().then(failed);
        if let Ok(new) = said {
            state.epoch = new.unwrap_or(epoch);
        }
        state.problem.is_none()
    }

    async fn save_often(self) {
        loop {
            sleep(SAVE_EVERY).await;
            self.finish_late().await;
            for (session, known) in self.unsaved() {
                if self.save(session, known.clone(), false).await.is_ok() {
                    self.lock().note_saved(session, &known);
                }
            }
        }
    }

    fn unsaved(&self) -> Vec<(SessionId, Acknowledged)> {
        let state = self.lock();
        let unsaved = state.known.iter().filter(|(_, known)| known.is_unsaved);
        let unsaved = unsaved.map(|(session, known)| (*session, known.acknowledged.clone()));
        unsaved.collect()
    }

    pub(super) async fn save(
        &self,
        session: SessionId,
        known: Acknowledged,
        is_over: bool,
    ) -> Result<(), Trouble> {
        let save = move |tables: &mut Tables| tables.save(session, &known, is_over);
        self.0.database.ask(save).await
    }

    /// Sessions die first, and their records go later, so that what comes late finds one of the two.
    async fn sweep(self) {
        let lease = self.0.leases.session;
        let is_reversed = self.has(Bug::RecordsBeforeSession);
        loop {
            sleep(lease / 4).await;
            let sweep = move |tables: &mut Tables| tables.sweep(lease, is_reversed);
            // The next one may work.
            drop(self.0.database.ask(sweep).await);
        }
    }

    /// Ends in good order.
    pub(super) fn save_all_and_leave(&self) {
        let mut state = self.lock();
        if state.is_dead || mem::replace(&mut state.is_closed, true) {
            return;
        }
        state.background.iter().for_each(AbortHandle::abort);
        let (epoch, over) = (state.epoch, mem::take(&mut state.over));
        drop(state);
        let unsaved = self.unsaved();
        self.0.database.at_once(|tables| {
            for (session, known) in unsaved {
                tables.save(session, &known, false);
            }
            for (session, known) in over {
                tables.save(session, &known, true);
            }
            tables.leave(epoch);
        });
    }

    /// Does what is left of a goodbye, if there was one.
    pub(super) async fn end_session(&self, session: SessionId) -> Result<(), Trouble> {
        let over = self.lock().over.get(&session).cloned();
        if let Some(known) = over {
            self.save(session, known.clone(), true).await?;
            let mut state = self.lock();
            // There may have been another goodbye since.
            if state.over.get(&session) == Some(&known) {
                state.over.remove(&session);
            }
        }
        Ok(())
    }

    pub(super) async fn enter_session(self, session: SessionId) -> Result<(), StoreError> {
        let mut patience = self.patience();
        while let Err(trouble) = self.try_enter(session).await {
            self.pause(&mut patience, trouble).await?;
        }
        self.lock().known.entry(session).or_default().is_left = false;
        Ok(())
    }

    async fn try_enter(&self, session: SessionId) -> Result<(), Trouble> {
        let enter = move |tables: &mut Tables| {
            tables
                .sessions
                .entry(session)
                .or_insert_with(|| SessionRow {
                    acknowledged: Acknowledged::default(),
                    touched: clock::now(),
                    dead_since: None,
                });
        };
        self.0.database.ask(enter).await
    }

    pub(super) async fn look_for(
        self,
        session: SessionId,
    ) -> Result<Option<Acknowledged>, StoreError> {
        let mut patience = self.patience();
        loop {
            match self.try_find(session).await {
                Ok(found) => return Ok(found),
                // Nothing was to be changed.
                Err(Trouble::Unanswered) => self.pause(&mut patience, Trouble::Away).await?,
                Err(trouble) => self.pause(&mut patience, trouble).await?,
            }
        }
    }

    /// It is touched, so that it does not die before this server has said that it holds it.
    async fn try_find(&self, session: SessionId) -> Result<Option<Acknowledged>, Trouble> {
        self.end_session(session).await?;
        let find = move |tables: &mut Tables| {
            tables.renew_session(session);
            tables
                .living(session)
                .map(|session| session.acknowledged.clone())
        };
        let Some(stored) = self.0.database.ask(find).await? else {
            return Ok(None);
        };
        let mut state = self.lock();
        state.known.entry(session).or_default().is_left = false;
        Ok(Some(state.merge(session, &stored)))
    }
}

impl Tables {
    fn renew_session(&mut self, session: SessionId) {
        if let Some(row) = self.living(session) {
            row.touched = clock::now();
        }
    }

    fn sweep(&mut self, lease: Duration, is_reversed: bool) {
        let now = clock::now();
        let has_passed = |since: Instant, time: Duration| now.duration_since(since) >= time;
        let mut gone = Vec::new();
        self.sessions.retain(|session, row| {
            let is_left = has_passed(row.touched, lease.mul_f64(1.5));
            if is_reversed {
                if is_left || row.dead_since.take().is_some() {
                    gone.push(*session);
                }
                return !has_passed(row.touched, lease.mul_f64(1.5) + GRAVE);
            }
            if is_left {
                row.dead_since.get_or_insert(now);
            }
            let is_gone = row.dead_since.is_some_and(|since| has_passed(since, GRAVE));
            if is_gone {
                gone.push(*session);
            }
            !is_gone
        });
        self.calls.retain(|_, call| {
            let session = call.session.map(|call| call.session);
            session.is_none_or(|session| !gone.contains(&session))
        });
    }
}
