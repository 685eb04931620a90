//! The flags that make requests and replies of a server go wrong.

use std::{ops::RangeInclusive, time::Duration};

use redial_server::{CutPoint, Delay, Fault, FaultRule, Faults};

use crate::{
    events::unix_us,
    flags::{SEEDS, Whole, number, pareto, whole},
};

/// How long a fault rule may make something wait, in milliseconds: 10 minutes at most.
const DELAY_MS: Whole = 0..=redial_server::MAX_DELAY.as_millis() as i128;

const PROBABILITY: RangeInclusive<f64> = 0.0..=1.0;

/// What goes wrong on purpose.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultFlags {
    /// Probability that a request is lost: nothing is executed
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    pub drop_request: f64,
    /// Probability that a reply is lost: the call was executed
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    pub drop_reply: f64,
    /// Wait before each execution, in milliseconds; a waiting call counts as running
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(DELAY_MS))]
    pub delay_ms: u64,
    /// Wait before each reply, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(DELAY_MS))]
    pub reply_delay_ms: u64,
    /// Wait before each reply for a heavy-tailed time of at least MS milliseconds: longer than x
    /// with probability (MS/x)^SHAPE
    #[arg(long, value_name = "MS:SHAPE", value_parser = pareto, conflicts_with = "reply_delay_ms", help_heading = "Faults")]
    pub reply_delay_pareto: Option<Delay>,
    /// Probability that a reply waits, with --reply-delay-ms or --reply-delay-pareto [default: 1]
    #[arg(long, value_name = "P", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    pub reply_delay_p: Option<f64>,
    /// Probability that the connection breaks: before the execution, before the reply, or in the
    /// middle of it, a third each, of those whose request or reply is not lost
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    pub cut: f64,
    /// Probability that a request arrives twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    pub duplicate: f64,
    /// Seed of the faults: the same seed faults the same requests [default: from the clock, and
    /// printed]
    #[arg(long, value_name = "N", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(SEEDS))]
    pub seed: Option<u64>,
    /// Let callers on this machine change the faults while it runs, with `redial faults`
    #[arg(long, help_heading = "Faults")]
    pub fault_control: bool,
}

impl FaultFlags {
    /// The rules, seeded, and the seed if there are any.
    ///
    /// # Errors
    ///
    /// Names the flags that make no sense together.
    pub fn faults(&self) -> anyhow::Result<(Faults, Option<u64>)> {
        let rules = self.rules()?;
        let seed = self.seed.unwrap_or_else(unix_us);
        let is_on = !rules.is_empty();
        let faults = Faults::new(seed);
        faults.set(rules);
        Ok((faults, is_on.then_some(seed)))
    }

    /// What each flag takes alone, and all of them together don't mean.
    fn check(&self) -> anyhow::Result<()> {
        let lost = self.drop_request + self.drop_reply + self.cut;
        // Tenths add up to a little more than they should.
        anyhow::ensure!(
            lost <= 1.0 + 1e-9,
            "--drop-request, --drop-reply and --cut are {lost} together; expected at most 1, since \
             a call is lost in one way"
        );
        let has_delay = self.reply_delay_ms > 0 || self.reply_delay_pareto.is_some();
        anyhow::ensure!(
            has_delay || self.reply_delay_p.is_none(),
            "--reply-delay-p says how often a reply waits, and nothing says how long; expected \
             --reply-delay-ms or --reply-delay-pareto beside it"
        );
        Ok(())
    }

    /// The rules.
    ///
    /// # Errors
    ///
    /// Names the flags that make no sense together.
    pub fn rules(&self) -> anyhow::Result<Vec<FaultRule>> {
        self.check()?;
        let fixed = |ms| Delay::Fixed(Duration::from_millis(ms));
        let some = |delay| f64::from(u8::from(delay != fixed(0)));
        let delay = fixed(self.delay_ms);
        let reply_delay = self
            .reply_delay_pareto
            .unwrap_or(fixed(self.reply_delay_ms));
        // A third of the cuts each, although a rule only sees what the rules before it let pass.
        let third = self.cut / 3.0;
        let second = third / (1.0 - third);
        let last = if self.cut > 0.0 {
            third / (1.0 - 2.0 * third)
        } else {
            0.0
        };
        let rules = [
            (Fault::Cut(CutPoint::BeforeExecution), third),
            (Fault::DropRequest, self.drop_request),
            (Fault::Cut(CutPoint::BeforeReply), second),
            (Fault::Cut(CutPoint::MidReply), last),
            (Fault::DropReply, self.drop_reply),
            (Fault::Duplicate, self.duplicate),
            (Fault::DelayExecution(delay), some(delay)),
            (
                Fault::DelayReply(reply_delay),
                some(reply_delay) * self.reply_delay_p.unwrap_or(1.0),
            ),
        ];
        let active = rules.into_iter().filter(|(_, p)| *p > 0.0);
        Ok(active
            .map(|(fault, p)| FaultRule::new(fault, p))
            .collect::<Result<_, _>>()?)
    }
}
