//! The one answer to a batch: gathered as the entries end, sent when the last one has. It fits into
//! one frame: the largest answers give way to an error that says what was executed.

use std::sync::{Arc, Mutex, PoisonError};

use redial_protocol::{Dialect, Reply, encode_error, write_frame, write_reply};

use crate::{outbox::Outbox, refusal};

/// What the answer to one entry takes at most once it has given way, beside its id.
pub(crate) const LEAST_ANSWER_BYTES: usize = 512;

/// A batch that is being answered.
#[derive(Debug)]
pub(crate) struct BatchAnswer {
    outbox: Arc<Outbox>,
    max_frame_bytes: usize,
    inner: Mutex<BatchState>,
}

#[derive(Debug)]
struct BatchState {
    answers: Vec<Option<Vec<u8>>>,
    /// Entries that may still be answered, and one for the batch while it is being read.
    open: usize,
}

impl BatchAnswer {
    pub(crate) fn new(entries: usize, outbox: &Arc<Outbox>, max_frame_bytes: usize) -> Arc<Self> {
        let inner = BatchState {
            answers: vec![None; entries],
            open: entries + 1,
        };
        let (outbox, inner) = (Arc::clone(outbox), Mutex::new(inner));
        Arc::new(Self {
            outbox,
            max_frame_bytes,
            inner,
        })
    }

    pub(crate) fn slot(self: &Arc<Self>, index: usize) -> BatchSlot {
        BatchSlot {
            batch: Arc::clone(self),
            index,
        }
    }

    /// All entries have been read.
    pub(crate) fn all_read(&self) {
        self.close(None);
    }

    fn close(&self, answer: Option<(usize, Vec<u8>)>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((index, answer)) = answer {
            self.outbox.gather(answer.len());
            inner.answers[index] = Some(answer);
        }
        inner.open -= 1;
        if inner.open > 0 {
            return;
        }
        let answers: Vec<Vec<u8>> = std::mem::take(&mut inner.answers)
            .into_iter()
            .flatten()
            .collect();
        drop(inner);
        self.outbox.gathered(answers.iter().map(Vec::len).sum());
        // Nothing for a batch of notifications (JSON-RPC 2.0, section 6).
        if !answers.is_empty() {
            let answers = fitted(answers, self.max_frame_bytes);
            self.outbox.send(|out| write_array(out, &answers));
        }
    }
}

fn write_array(out: &mut Vec<u8>, answers: &[Vec<u8>]) {
    let array = |out: &mut Vec<u8>| {
        out.push(b'[');
        out.extend_from_slice(&answers.join(&b','));
        out.push(b']');
    };
    write_frame(out, u32::MAX as usize, array).expect("the answers fit into a frame");
}

/// Makes the answers fit into one frame, the largest first. The outcomes stay on record.
fn fitted(mut answers: Vec<Vec<u8>>, max_frame_bytes: usize) -> Vec<Vec<u8>> {
    let mut bytes = 1 + answers.iter().map(|answer| answer.len() + 1).sum::<usize>();
    if bytes <= max_frame_bytes {
        return answers;
    }
    let mut largest_first: Vec<usize> = (0..answers.len()).collect();
    largest_first.sort_by_key(|index| std::cmp::Reverse(answers[*index].len()));
    for index in largest_first {
        let answer = &mut answers[index];
        if bytes <= max_frame_bytes {
            break;
        }
        if let Some(short) = shortened(answer, max_frame_bytes)
            && short.len() < answer.len()
        {
            bytes -= answer.len() - short.len();
            *answer = short;
        }
    }
    answers
}

/// The same answer without what makes it large, and with what was executed.
fn shortened(answer: &[u8], max_frame_bytes: usize) -> Option<Vec<u8>> {
    let reply = Reply::parse(answer).ok()?;
    let dialect = if answer.starts_with(br#"{"jsonrpc""#) {
        Dialect::JsonRpc2
    } else {
        Dialect::Notebook
    };
    let error = match &reply.outcome {
        Ok(result) => refusal::result_too_large_for_batch(result.len(), max_frame_bytes),
        Err(error) => refusal::error_too_large_for_batch(error),
    };
    let (mut outcome, mut out) = (Vec::new(), Vec::new());
    encode_error(&mut outcome, &error);
    write_reply(&mut out, dialect, reply.id.raw(), &outcome, reply.meta);
    Some(out)
}

/// One entry's slot in the answer, to be filled or skipped: all of the batch waits for it.
#[derive(Debug)]
pub(crate) struct BatchSlot {
    batch: Arc<BatchAnswer>,
    index: usize,
}

impl BatchSlot {
    pub(crate) fn fill(self, answer: Vec<u8>) {
        self.batch.close(Some((self.index, answer)));
    }

    /// The entry is not answered: it is a notification, or its answer was lost.
    pub(crate) fn skip(self) {
        self.batch.close(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_buffer::SendBuffer;
    use proptest::prelude::*;
    use redial_protocol::{ErrorObject, Executed, ReplyMeta, encode_result};

    /// Whatever the outcomes are, what is left of them is no more than was reckoned with.
    #[test]
    fn answers_leave_as_one_array_that_fits_into_a_frame() {
        let id = format!("\"{}\"", "\\u0001".repeat(128));
        let meta = ReplyMeta {
            replayed: Some(true),
            attempt: Some(u32::MAX),
        };
        let long = "\u{1}".repeat(9_000);
        let error = ErrorObject::raised(i32::MIN.into(), &long)
            .with_executed(Executed::Unknown)
            .with_retry_after_ms(u64::MAX)
            .with_unknown_session("123456789abcdef".parse().unwrap());
        let handlers = ErrorObject::by_handler(7.into(), long.clone(), None);
        let mut outcomes = [Vec::new(), Vec::new(), Vec::new()];
        encode_result(&mut outcomes[0], &long).unwrap();
        encode_error(&mut outcomes[1], &error);
        encode_error(&mut outcomes[2], &handlers);
        let answers = outcomes.map(|outcome| {
            let mut out = Vec::new();
            write_reply(&mut out, Dialect::JsonRpc2, &id, &outcome, meta);
            out
        });
        let max = 3 * (id.len() + LEAST_ANSWER_BYTES);
        let fitted = fitted(answers.to_vec(), max);
        let replies: Vec<_> = fitted
            .iter()
            .map(|answer| Reply::parse(answer).unwrap())
            .collect();
        let said: Vec<_> = replies
            .iter()
            .map(|reply| {
                let error = reply.outcome.as_ref().unwrap_err();
                (
                    i32::from(error.code),
                    error.executed(),
                    error.retry_after_ms(),
                )
            })
            .collect();
        let expected = [
            (-32603, Executed::Yes, None),
            (i32::MIN, Executed::Unknown, Some(u64::MAX)),
            (7, Executed::Yes, None),
        ];
        assert_eq!(said, expected);
        assert!(
            fitted
                .iter()
                .all(|answer| answer.len() <= id.len() + LEAST_ANSWER_BYTES)
        );
    }

    #[test]
    fn only_as_many_answers_give_way_as_have_to_and_the_largest_first() {
        let answer = |id: u32, bytes: usize| {
            format!(r#"{{"id":{id},"result":"{}"}}"#, "x".repeat(bytes)).into_bytes()
        };
        let answers = vec![answer(1, 900), answer(2, 2_000), answer(3, 900)];
        let exact = 1 + answers.iter().map(|answer| answer.len() + 1).sum::<usize>();
        assert_eq!(fitted(answers.clone(), exact), answers);
        let fitted = fitted(answers.clone(), exact - 1);
        assert_eq!((&fitted[0], &fitted[2]), (&answers[0], &answers[2]));
        assert!(Reply::parse(&fitted[1]).unwrap().outcome.is_err());
    }

    /// How one entry ends.
    #[derive(Clone, Copy, Debug)]
    enum End {
        /// It is answered with so many bytes.
        Fill(usize),
        Skip,
    }

    fn ends() -> impl Strategy<Value = Vec<(usize, End)>> {
        let end = prop_oneof![3 => (1usize..30).prop_map(End::Fill), 1 => Just(End::Skip)];
        let ends = prop::collection::vec(end, 0..12);
        ends.prop_map(|ends| ends.into_iter().enumerate().collect::<Vec<_>>())
            .prop_shuffle()
    }

    fn expected(lengths: &[(usize, usize)]) -> String {
        let answers: Vec<_> = lengths
            .iter()
            .map(|(at, length)| answer(*at, *length))
            .collect();
        if answers.is_empty() {
            String::new()
        } else {
            format!("[{}]\n", answers.join(","))
        }
    }

    fn answer(index: usize, length: usize) -> String {
        format!("{index:x}").repeat(length)
    }

    fn collect(outbox: &Outbox) -> String {
        let mut out = SendBuffer::default();
        outbox.collect(&mut out, std::task::Waker::noop());
        let (mut decoder, mut input) = (redial_protocol::FrameDecoder::new(1024), out.front());
        let mut text = String::new();
        while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
            text += &format!("{}\n", std::str::from_utf8(frame).unwrap());
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Against a list: nothing leaves before every entry has ended and all of the batch was read,
        /// in whatever order; then everything does, in the order of the requests.
        #[test]
        fn a_batch_is_answered_when_its_last_entry_has_ended(
            ends in ends(),
            read_at in 0usize..12,
        ) {
            let outbox = Arc::new(Outbox::default());
            let batch = BatchAnswer::new(ends.len(), &outbox, 1024);
            let mut answered = Vec::new();
            let slots: Vec<_> = ends.iter().map(|(index, _)| batch.slot(*index)).collect();
            let read_at = read_at.min(ends.len());
            for (step, (slot, (index, end))) in slots.into_iter().zip(ends.iter()).enumerate() {
                if step == read_at {
                    batch.all_read();
                }
                prop_assert_eq!(collect(&outbox), "");
                match end {
                    End::Fill(length) => {
                        answered.push((*index, *length));
                        slot.fill(answer(*index, *length).into_bytes());
                    }
                    End::Skip => slot.skip(),
                }
                let is_last = step + 1 == ends.len() && read_at <= step;
                let bytes: usize = answered.iter().map(|(_, length)| length).sum();
                prop_assert_eq!(outbox.gathering(), if is_last { 0 } else { bytes });
            }
            if read_at == ends.len() {
                prop_assert_eq!(collect(&outbox), "");
                batch.all_read();
            }
            answered.sort_unstable();
            prop_assert_eq!(collect(&outbox), expected(&answered));
            prop_assert_eq!(outbox.gathering(), 0);
        }
    }
}
