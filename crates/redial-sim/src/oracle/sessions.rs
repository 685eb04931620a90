//! A client that wants sessions has them: no server here says that there are none, whatever else it
//! may say, or not say.

use super::{Violation, history::History, violation};
use crate::journal::Way;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    for (tag, call) in &history.calls {
        let mut waits = call.waits.iter();
        let is_of_session = waits.any(|wait| wait.what.way == Way::Call && wait.what.sessions);
        if is_of_session && call.is_plain && !call.is_query() {
            let detail = format!("it was sent under {:?}", call.ids);
            found.push(violation("a client with sessions stays one", *tag, detail));
        }
    }
}
