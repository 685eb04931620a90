//! Faults as part of the product: a seeded list of rules that decides, for each request that
//! arrives, what a bad network would have done to it.
//!
//! A rule names one fault, its probability and, if wanted, one method. For each kind of fault the
//! first rule that fires wins. The verdict on the n-th request depends on the seed, n and the
//! rules alone, so the same seed gives the same verdicts for the same requests.

mod control;
mod delay;
mod verdict;
mod wire;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::rpc;
use thiserror::Error;

pub use control::FaultControl;
pub use delay::{Delay, MAX_DELAY};
pub(crate) use verdict::{ReplyFault, RequestFault, Verdict};

/// One thing that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The request is lost on its way in: nothing is executed or answered.
    DropRequest,
    /// The reply is lost on its way out: the effect has happened and the caller can't know.
    DropReply,
    /// Time passes before the execution, while the call holds its run permit.
    DelayExecution(Delay),
    /// Time passes between the execution and the reply.
    DelayReply(Delay),
    /// The connection is cut.
    Cut(CutPoint),
    /// The request arrives twice. (Not for an entry of a batch, whose answer has one slot for it.)
    Duplicate,
}

/// When the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPoint {
    /// Before the request is read: nothing is executed.
    BeforeExecution,
    /// After the execution, before the first byte of the reply.
    BeforeReply,
    /// In the middle of the reply's frame.
    MidReply,
    /// After the reply.
    AfterReply,
}

/// Why a [`FaultRule`] is not possible.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FaultRuleError {
    /// The probability is not a number from 0 to 1.
    #[error("probability {0}; expected a number from 0 to 1")]
    Probability(f64),
    /// The range of a uniform delay is upside down.
    #[error("uniform delay from {min:?} to {max:?}; expected min <= max")]
    Range {
        /// The shortest that was asked for.
        min: Duration,
        /// The longest that was asked for.
        max: Duration,
    },
    /// The shape of a Pareto delay is not a positive number.
    #[error("Pareto shape {0}; expected a number above 0")]
    Shape(f64),
}

/// One fault, how likely it is, and which requests it is for.
///
/// ```
/// use std::time::Duration;
/// use redial_server::{Delay, Fault, FaultRule};
///
/// let slow = FaultRule::new(Fault::DelayReply(Delay::Fixed(Duration::from_millis(120))), 1.0)?;
/// let lossy = FaultRule::new(Fault::DropReply, 0.2)?.for_method("inc");
/// assert!(FaultRule::new(Fault::DropReply, 1.2).is_err());
/// # Ok::<(), redial_server::FaultRuleError>(())
/// ```
///
/// As JSON, for `rpc.faults` and for configurations:
/// `{"fault":"delay_reply","probability":0.1,"method":"inc","delay":{"fixed_ms":120}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    fault: Fault,
    probability: f64,
    method: Option<String>,
}

impl FaultRule {
    /// A rule for all methods.
    ///
    /// # Errors
    ///
    /// [`FaultRuleError`] if the probability is not from 0 to 1, or the delay's numbers make no
    /// distribution.
    pub fn new(fault: Fault, probability: f64) -> Result<Self, FaultRuleError> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(FaultRuleError::Probability(probability));
        }
        if let Fault::DelayExecution(delay) | Fault::DelayReply(delay) = fault {
            delay.check()?;
        }
        Ok(Self {
            fault,
            probability,
            method: None,
        })
    }

    /// The same rule, for requests of one method only.
    #[must_use]
    pub fn for_method(self, method: impl Into<String>) -> Self {
        Self {
            method: Some(method.into()),
            ..self
        }
    }

    fn fires(&self, method: &str, rng: &mut impl Rng) -> bool {
        // Drawn in any case, so that a rule's draw doesn't depend on the rules before it.
        let draw = rng.random::<f64>();
        self.method.as_deref().is_none_or(|only| only == method) && draw < self.probability
    }
}

/// The rules in force on a server. Cheap to clone; all clones are the same list.
///
/// ```
/// use redial_server::{Fault, FaultRule, Faults};
///
/// let faults = Faults::new(7);
/// assert!(faults.rules().is_empty());
/// faults.set([FaultRule::new(Fault::DropRequest, 0.5)?]);
/// faults.clear();
/// # Ok::<(), redial_server::FaultRuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Faults(Arc<FaultState>);

#[derive(Debug)]
struct FaultState {
    seed: u64,
    /// Spares servers without rules, which is nearly all, the lock and the draw.
    any: AtomicBool,
    arrivals: AtomicU64,
    rules: RwLock<Arc<[FaultRule]>>,
}

impl Faults {
    /// No rules yet. The seed decides what those that come will do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(FaultState {
            seed,
            any: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            rules: RwLock::new(Arc::new([])),
        }))
    }

    /// Replaces the rules in force, from the next request on.
    pub fn set(&self, rules: impl IntoIterator<Item = FaultRule>) {
        let rules: Arc<[FaultRule]> = rules.into_iter().collect();
        let mut in_force = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        self.0.any.store(!rules.is_empty(), Ordering::Release);
        *in_force = rules;
    }

    /// Adds rules behind those in force, from the next request on.
    pub fn add(&self, rules: impl IntoIterator<Item = FaultRule>) {
        let mut in_force = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        let rules: Arc<[FaultRule]> = in_force.iter().cloned().chain(rules).collect();
        self.0.any.store(!rules.is_empty(), Ordering::Release);
        *in_force = rules;
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.set([]);
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<[FaultRule]> {
        self.0
            .rules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The verdict on the next request; `None` if there are no rules, and for the request that can
    /// remove them.
    #[inline]
    pub(crate) fn judge(&self, method: &str) -> Option<Verdict> {
        let any = self.0.any.load(Ordering::Acquire);
        (any && method != rpc::FAULTS).then(|| self.judge_by_rules(method))
    }

    #[cold]
    fn judge_by_rules(&self, method: &str) -> Verdict {
        let arrival = self.0.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.seed);
        rng.set_stream(arrival);
        Verdict::of(&self.rules(), method, &mut rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(fault: Fault, probability: f64) -> FaultRule {
        FaultRule::new(fault, probability).unwrap()
    }

    fn verdicts(seed: u64, rules: &[FaultRule], count: usize) -> Vec<Verdict> {
        let faults = Faults::new(seed);
        faults.set(rules.to_vec());
        (0..count).filter_map(|_| faults.judge("inc")).collect()
    }

    fn request(faults: &Faults, method: &str) -> RequestFault {
        faults.judge(method).unwrap().request
    }

    #[test]
    fn without_rules_everything_passes() {
        let faults = Faults::new(1);
        assert_eq!(faults.judge("inc"), None);
        faults.set([rule(Fault::DropRequest, 1.0)]);
        assert_eq!(request(&faults, "inc"), RequestFault::Drop);
        faults.clear();
        assert_eq!(faults.judge("inc"), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_verdicts() {
        let exponential = Delay::Exponential {
            mean: Duration::from_millis(5),
        };
        let rules = [
            rule(Fault::DropRequest, 0.3),
            rule(Fault::DropReply, 0.3),
            rule(Fault::DelayReply(exponential), 0.5),
        ];
        assert_eq!(verdicts(7, &rules, 200), verdicts(7, &rules, 200));
        assert_ne!(verdicts(7, &rules, 200), verdicts(8, &rules, 200));
    }

    #[test]
    fn a_rule_fires_as_often_as_it_says() {
        let drops = verdicts(11, &[rule(Fault::DropRequest, 0.2)], 20_000)
            .iter()
            .filter(|verdict| verdict.request == RequestFault::Drop)
            .count();
        assert!((3_800..4_200).contains(&drops), "{drops} of 20000, seed 11");
    }

    #[test]
    fn the_first_of_a_kind_wins_and_kinds_do_not_hide_each_other() {
        let fixed = |ms| Delay::Fixed(Duration::from_millis(ms));
        let rules = [
            rule(Fault::Cut(CutPoint::MidReply), 1.0),
            rule(Fault::DropReply, 1.0),
            rule(Fault::DelayExecution(fixed(1)), 1.0),
            rule(Fault::DelayExecution(fixed(2)), 1.0),
            rule(Fault::DelayReply(fixed(3)), 1.0),
            rule(Fault::Duplicate, 1.0),
        ];
        let verdict = verdicts(1, &rules, 1)[0];
        assert_eq!(verdict.reply, ReplyFault::CutMid);
        assert_eq!(verdict.delay_execution, Some(Duration::from_millis(1)));
        assert_eq!(verdict.delay_reply, Some(Duration::from_millis(3)));
        assert!(verdict.duplicate);
    }

    #[test]
    fn a_rule_for_one_method_leaves_the_others_alone() {
        let faults = Faults::new(1);
        faults.set([rule(Fault::DropRequest, 1.0).for_method("inc")]);
        assert_eq!(request(&faults, "get"), RequestFault::None);
        assert_eq!(request(&faults, "inc"), RequestFault::Drop);
    }

    #[test]
    fn impossible_rules_are_refused() {
        for probability in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(
                FaultRule::new(Fault::DropReply, probability),
                Err(FaultRuleError::Probability(_))
            ));
        }
        let ms = Duration::from_millis;
        let upside_down = Delay::Uniform {
            min: ms(2),
            max: ms(1),
        };
        assert!(FaultRule::new(Fault::DelayReply(upside_down), 0.5).is_err());
        let flat = Delay::Pareto {
            scale: ms(1),
            shape: 0.0,
        };
        assert!(FaultRule::new(Fault::DelayExecution(flat), 0.5).is_err());
    }

    fn any_fault() -> impl Strategy<Value = Fault> {
        let fixed = |ms| Delay::Fixed(Duration::from_millis(ms));
        let point = prop::sample::select(vec![
            CutPoint::BeforeExecution,
            CutPoint::BeforeReply,
            CutPoint::MidReply,
            CutPoint::AfterReply,
        ]);
        prop_oneof![
            Just(Fault::DropRequest),
            Just(Fault::DropReply),
            Just(Fault::Duplicate),
            point.prop_map(Fault::Cut),
            (1u64..9).prop_map(move |ms| Fault::DelayExecution(fixed(ms))),
            (1u64..9).prop_map(move |ms| Fault::DelayReply(fixed(ms))),
        ]
    }

    /// The first of the faults that `of` finds something in.
    fn first<T>(faults: &[Fault], of: impl Fn(Fault) -> Option<T>) -> Option<T> {
        faults.iter().copied().find_map(of)
    }

    fn arrival(fault: Fault) -> Option<RequestFault> {
        match fault {
            Fault::DropRequest => Some(RequestFault::Drop),
            Fault::Cut(CutPoint::BeforeExecution) => Some(RequestFault::Cut),
            _ => None,
        }
    }

    fn departure(fault: Fault) -> Option<ReplyFault> {
        match fault {
            Fault::DropReply => Some(ReplyFault::Drop),
            Fault::Cut(CutPoint::BeforeReply) => Some(ReplyFault::CutBefore),
            Fault::Cut(CutPoint::MidReply) => Some(ReplyFault::CutMid),
            Fault::Cut(CutPoint::AfterReply) => Some(ReplyFault::CutAfter),
            _ => None,
        }
    }

    proptest! {
        /// Rules that fire always or never, for this method or for another: what is decided about
        /// each side is the first of its kind among those that fire.
        #[test]
        fn a_verdict_is_the_first_of_each_kind_that_fires(
            rules in prop::collection::vec((any_fault(), any::<bool>(), any::<bool>()), 0..12),
            seed: u64,
        ) {
            let list = rules.iter().map(|(fault, fires, is_for_all)| {
                let rule = rule(*fault, f64::from(u8::from(*fires)));
                if *is_for_all { rule } else { rule.for_method("get") }
            });
            let list: Vec<_> = list.collect();
            let firing = rules.iter().filter(|(_, fires, is_for_all)| *fires && *is_for_all);
            let firing: Vec<Fault> = firing.map(|(fault, ..)| *fault).collect();
            let expected = Verdict {
                request: first(&firing, arrival).unwrap_or_default(),
                duplicate: firing.contains(&Fault::Duplicate),
                delay_execution: first(&firing, |fault| match fault {
                    Fault::DelayExecution(Delay::Fixed(delay)) => Some(delay),
                    _ => None,
                }),
                reply: first(&firing, departure).unwrap_or_default(),
                delay_reply: first(&firing, |fault| match fault {
                    Fault::DelayReply(Delay::Fixed(delay)) => Some(delay),
                    _ => None,
                }),
            };
            let verdict = verdicts(seed, &list, 1).first().copied();
            prop_assert_eq!(verdict.unwrap_or_default(), expected);
        }
    }
}
