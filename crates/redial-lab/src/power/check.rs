//! Opens what a power cut has left with the store, and looks for each call.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
    time::Duration,
};

use redial_store_sqlite::{
    SqliteStore,
    rusqlite::{self, Connection},
};

use super::{
    outside::Outside,
    record::{Acknowledged, STORE},
};

/// A promise that was broken.
pub(crate) enum Broken {
    /// The store does not open, or can't be read.
    Unreadable(String),
    /// `PRAGMA integrity_check` says this.
    Damaged(String),
    /// An acknowledged call, with this value, has no effect, or another one.
    Lost(String, Option<i64>),
    /// A call has more than one effect, or its counter says so.
    Doubled(String, i64),
    /// A call has an effect and no record: sent again, it would run again.
    Unrecorded(String),
    /// A call is on record as finished and has no effect.
    Empty(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the store can't be used: {why}"),
            Self::Damaged(why) => write!(f, "the file is damaged: {why}"),
            Self::Lost(id, None) => write!(f, "call {id} was acknowledged, and is lost"),
            Self::Lost(id, Some(value)) => {
                write!(
                    f,
                    "call {id} was acknowledged with another value than {value}"
                )
            }
            Self::Doubled(id, count) => write!(f, "call {id} was executed {count} times"),
            Self::Unrecorded(id) => write!(f, "call {id} has an effect and no record"),
            Self::Empty(id) => write!(f, "call {id} is on record as finished, without effect"),
        }
    }
}

/// What a file says.
#[derive(Default)]
pub(crate) struct Found {
    integrity: String,
    /// The id, the key and the value of each effect.
    effects: Vec<(String, String, i64)>,
    counters: Vec<(String, i64)>,
    /// The calls whose outcome, a result, is on record, each with its value.
    pub(crate) finished: HashMap<String, i64>,
    /// Those of which anything is.
    pub(crate) recorded: HashSet<String>,
    sessions: HashMap<u64, Session>,
}

struct Session {
    below: u64,
    open: Vec<u64>,
}

/// What is broken about the store in this folder, if these calls were acknowledged, and others later.
pub(crate) fn broken(
    folder: &Path,
    outside: Option<&[Outside]>,
    acknowledged: &[Acknowledged],
    later: &[Acknowledged],
) -> Vec<Broken> {
    match (look(&folder.join(STORE)), outside) {
        (Ok(found), None) => found.broken(acknowledged, later),
        (Ok(found), Some(effects)) => found.broken_outside(effects, acknowledged, later),
        (Err(why), _) => vec![Broken::Unreadable(why)],
    }
}

fn look(path: &Path) -> Result<Found, String> {
    let store = SqliteStore::options()
        .ttl(Duration::from_secs(3600))
        .open(path);
    let store = store.map_err(|error| error.to_string())?;
    store.read(read).map_err(|error| error.to_string())
}

fn read(connection: &Connection) -> rusqlite::Result<Found> {
    let integrity = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let mut found = Found {
        integrity,
        ..Found::default()
    };
    // The power may have been cut before the program's own tables were there.
    let is_there = "SELECT 1 FROM sqlite_schema WHERE name = 'effects'";
    if connection.prepare(is_there)?.exists([])? {
        let mut effects = connection.prepare("SELECT id, key, value FROM effects")?;
        let rows = effects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        found.effects = rows.collect::<Result<_, _>>()?;
        let mut counters = connection.prepare("SELECT key, value FROM counters")?;
        let rows = counters.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.counters = rows.collect::<Result<_, _>>()?;
    }
    let mut finished = connection.prepare(
        "SELECT id, json_extract('{' || outcome || '}', '$.result.value') FROM redial_calls
         WHERE state = 'finished' AND outcome LIKE '\"result\"%'",
    )?;
    let rows = finished.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.finished = rows.collect::<Result<_, _>>()?;
    let mut recorded = connection.prepare("SELECT id FROM redial_calls")?;
    let rows = recorded.query_map([], |row| row.get(0))?;
    found.recorded = rows.collect::<Result<_, _>>()?;
    let mut sessions = connection.prepare("SELECT id, below, open FROM redial_session")?;
    let rows = sessions.query_map([], |row| {
        let open: String = row.get(2)?;
        let session = Session {
            below: row.get::<_, i64>(1)?.cast_unsigned(),
            open: serde_json::from_str(&open).unwrap_or_default(),
        };
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), session))
    })?;
    found.sessions = rows.collect::<Result<_, _>>()?;
    Ok(found)
}

impl Found {
    fn broken(&self, acknowledged: &[Acknowledged], later: &[Acknowledged]) -> Vec<Broken> {
        let in_use = Self::sessions_of(later);
        let mut broken = self.damage();
        let mut values: HashMap<&str, Vec<i64>> = HashMap::new();
        for (id, _, value) in &self.effects {
            values.entry(id).or_default().push(*value);
        }
        for Acknowledged { id, value, .. } in acknowledged {
            match values.get(&**id).map(Vec::as_slice) {
                Some([found, ..]) if found == value => {}
                found => broken.push(Broken::Lost(id.clone(), found.map(|_| *value))),
            }
        }
        for (id, values) in &values {
            if values.len() > 1 {
                broken.push(Broken::Doubled((*id).to_owned(), values.len() as i64));
            }
            if !self.finished.contains_key(*id) && !self.is_over(id, &in_use) {
                broken.push(Broken::Unrecorded((*id).to_owned()));
            }
        }
        // Each call has a counter of its own.
        for (key, value) in &self.counters {
            if *value != 1 {
                broken.push(Broken::Doubled(key.clone(), *value));
            }
        }
        let empty = self
            .finished
            .keys()
            .filter(|id| !values.contains_key(&***id));
        broken.extend(empty.map(|id| Broken::Empty(id.clone())));
        broken
    }

    pub(crate) fn damage(&self) -> Vec<Broken> {
        let is_damaged = self.integrity != "ok";
        let damage = is_damaged.then(|| Broken::Damaged(self.integrity.clone()));
        damage.into_iter().collect()
    }

    /// The sessions of these calls.
    pub(crate) fn sessions_of(calls: &[Acknowledged]) -> HashSet<u64> {
        let session = |reply: &Acknowledged| Some(numbered(&reply.id)?.0);
        calls.iter().filter_map(session).collect()
    }

    /// Whether this call's client will never send it again, and the session knows; or the session ended, as
    /// it may unless it is in use later.
    pub(crate) fn is_over(&self, id: &str, in_use: &HashSet<u64>) -> bool {
        let Some((session, number)) = numbered(id) else {
            return false;
        };
        match self.sessions.get(&session) {
            Some(known) => number < known.below && !known.open.contains(&number),
            None => !in_use.contains(&session),
        }
    }
}

/// The session and the number in the id of a session's call, a UUID of version 8.
fn numbered(id: &str) -> Option<(u64, u64)> {
    let digits: String = id.split('-').collect();
    let bits = u128::from_str_radix(&digits, 16).ok()?;
    let is_numbered = digits.len() == 32 && digits.as_bytes()[12] == b'8';
    // 48 bits of the session, the version, 12 more of the session, 2 bits of the variant, the number.
    let session = (bits >> 80) << 12 | bits >> 64 & 0xfff;
    let number = bits & 0x3fff_ffff_ffff_ffff;
    is_numbered.then_some((session as u64, number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "96723e76-d859-8dba-8000-000000000003";

    fn found() -> Found {
        let session = Session {
            below: 3,
            open: vec![1],
        };
        Found {
            integrity: "ok".to_owned(),
            effects: vec![(ID.to_owned(), "s-3".to_owned(), 1)],
            counters: vec![("s-3".to_owned(), 1)],
            finished: HashMap::from([(ID.to_owned(), 1)]),
            recorded: HashSet::from([ID.to_owned()]),
            sessions: HashMap::from([(0x0967_23e7_6d85_9dba, session)]),
        }
    }

    fn is_broken(found: &Found) -> String {
        let acknowledged = Acknowledged {
            at: 0,
            id: ID.to_owned(),
            value: 1,
        };
        let later = Acknowledged {
            at: 9,
            id: ID.to_owned(),
            value: 1,
        };
        let broken = found.broken(&[acknowledged], &[later]);
        broken
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn each_broken_promise_is_found() {
        assert_eq!(is_broken(&found()), "");
        let mut lost = found();
        lost.effects.clear();
        assert!(is_broken(&lost).contains("lost"), "{}", is_broken(&lost));
        assert!(is_broken(&lost).contains("without effect"));
        let mut doubled = found();
        doubled.effects.push(doubled.effects[0].clone());
        doubled.counters[0].1 = 2;
        assert!(is_broken(&doubled).contains("executed 2 times"));
        let mut unrecorded = found();
        unrecorded.finished.clear();
        assert!(is_broken(&unrecorded).contains("no record"));
        for session in unrecorded.sessions.values_mut() {
            session.below = 4;
        }
        assert_eq!(is_broken(&unrecorded), "");
        unrecorded.sessions.clear();
        assert!(is_broken(&unrecorded).contains("no record"));
        let mut damaged = found();
        damaged.integrity = "row 1 missing".to_owned();
        assert!(is_broken(&damaged).contains("damaged"));
    }

    #[test]
    fn each_broken_promise_about_effects_outside_is_found() {
        let effect = || Outside {
            at: 0,
            id: ID.to_owned(),
        };
        let acknowledged = |at| Acknowledged {
            at,
            id: ID.to_owned(),
            value: 1,
        };
        let is_broken = |found: &Found, effects: &[Outside]| {
            let broken = found.broken_outside(effects, &[acknowledged(0)], &[acknowledged(9)]);
            let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
            broken.join("; ")
        };
        assert_eq!(is_broken(&found(), &[effect()]), "");
        let doubled = is_broken(&found(), &[effect(), effect()]);
        assert!(doubled.contains("executed 2 times"), "{doubled}");
        let empty = is_broken(&found(), &[]);
        assert!(empty.contains("without effect"), "{empty}");
        let mut lost = found();
        lost.finished.clear();
        let started = is_broken(&lost, &[effect()]);
        assert!(
            started.contains("is lost") && !started.contains("no record"),
            "{started}"
        );
        lost.recorded.clear();
        let forgotten = is_broken(&lost, &[effect()]);
        assert!(forgotten.contains("no record"), "{forgotten}");
        let mut other = found();
        other.finished.insert(ID.to_owned(), 2);
        let other = is_broken(&other, &[effect()]);
        assert!(other.contains("another value"), "{other}");
    }

    #[test]
    fn an_id_of_a_session_has_its_number() {
        assert_eq!(numbered(ID), Some((0x0967_23e7_6d85_9dba, 3)));
        assert_eq!(numbered("96723e76-d859-4dba-8000-000000000003"), None);
        assert_eq!(numbered("one"), None);
    }
}
