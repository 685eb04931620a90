//! The one answer to a batch: gathered as the entries end, sent when the last one has.

use std::sync::{Arc, Mutex, PoisonError};

use redial_protocol::write_frame;

use crate::outbox::Outbox;

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
            self.outbox
                .send(|out| write_arrays(out, &answers, self.max_frame_bytes));
        }
    }
}

/// Writes the answers as one array or, where that would be larger than any peer takes, as several:
/// a client that matches by id loses nothing.
fn write_arrays(out: &mut Vec<u8>, answers: &[Vec<u8>], max_frame_bytes: usize) {
    let mut rest = answers;
    while !rest.is_empty() {
        let mut bytes = 1;
        let fits = |answer: &&Vec<u8>| {
            bytes += answer.len() + 1;
            bytes <= max_frame_bytes
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        let array = |out: &mut Vec<u8>| {
            out.push(b'[');
            out.extend_from_slice(&now.join(&b','));
            out.push(b']');
        };
        write_frame(out, u32::MAX as usize, array).expect("outcomes are made to fit into a frame");
        rest = later;
    }
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
    use proptest::prelude::*;

    fn sent(answers: &[&str], max_frame_bytes: usize) -> Vec<String> {
        let answers: Vec<Vec<u8>> = answers
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
        let mut out = Vec::new();
        write_arrays(&mut out, &answers, max_frame_bytes);
        let mut decoder = redial_protocol::FrameDecoder::new(1024);
        let mut input = out.as_slice();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
            frames.push(String::from_utf8(frame.to_vec()).unwrap());
        }
        frames
    }

    #[test]
    fn answers_leave_as_one_array_unless_no_peer_would_take_it() {
        assert_eq!(sent(&["{1}", "{2}", "{3}"], 13), ["[{1},{2},{3}]"]);
        assert_eq!(sent(&["{1}", "{2}", "{3}"], 12), ["[{1},{2}]", "[{3}]"]);
        assert_eq!(sent(&["{1}", "{2}"], 2), ["[{1}]", "[{2}]"]);
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

    /// Answers of these lengths, in as few arrays as they can be put into one after the other.
    fn expected(lengths: &[(usize, usize)], max_frame_bytes: usize) -> String {
        let mut arrays: Vec<String> = Vec::new();
        for (index, length) in lengths {
            let answer = answer(*index, *length);
            match arrays.last_mut() {
                Some(array) if array.len() + 1 + answer.len() < max_frame_bytes => {
                    *array += &format!(",{answer}");
                }
                _ => arrays.push(format!("[{answer}")),
            }
        }
        arrays.iter().map(|array| format!("{array}]\n")).collect()
    }

    fn answer(index: usize, length: usize) -> String {
        format!("{index:x}").repeat(length)
    }

    fn collect(outbox: &Outbox) -> String {
        let mut out = Vec::new();
        outbox.collect(&mut out, std::task::Waker::noop());
        let (mut decoder, mut input) = (redial_protocol::FrameDecoder::new(1024), &*out);
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
            max_frame_bytes in 2usize..120,
        ) {
            let outbox = Arc::new(Outbox::default());
            let batch = BatchAnswer::new(ends.len(), &outbox, max_frame_bytes);
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
            prop_assert_eq!(collect(&outbox), expected(&answered, max_frame_bytes));
            prop_assert_eq!(outbox.gathering(), 0);
        }
    }
}
