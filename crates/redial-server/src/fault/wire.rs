//! Fault rules as JSON: what `rpc.faults` takes and answers, and what a configuration may hold.

use std::time::Duration;

use redial_protocol::deserialize_object;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{CutPoint, Delay, Fault, FaultRule, FaultRuleError};

/// A rule as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    fault: FaultName,
    #[serde(default = "always")]
    probability: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Of a delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<DelayText>,
    /// Of a cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<CutName>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FaultName {
    DropRequest,
    DropReply,
    DelayExecution,
    DelayReply,
    Cut,
    Duplicate,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CutName {
    BeforeExecution,
    BeforeReply,
    MidReply,
    AfterReply,
}

/// Times are in milliseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum DelayText {
    #[serde(rename = "fixed_ms")]
    Fixed(f64),
    #[serde(rename = "uniform_ms")]
    Uniform(f64, f64),
    #[serde(rename = "exponential_ms")]
    Exponential(f64),
    /// The shortest, and the shape.
    #[serde(rename = "pareto_ms")]
    Pareto(f64, f64),
}

impl Serialize for FaultRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RuleText::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FaultRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: RuleText = deserialize_object(deserializer)?;
        text.try_into().map_err(D::Error::custom)
    }
}

fn always() -> f64 {
    1.0
}

/// Why a text is no rule.
#[derive(Debug, thiserror::Error)]
enum RuleTextError {
    #[error(transparent)]
    Rule(#[from] FaultRuleError),
    #[error("a delay of {0} ms; expected a number from 0 to 600000")]
    Delay(f64),
    #[error("{0}")]
    Members(&'static str),
}

fn duration(ms: f64) -> Result<Duration, RuleTextError> {
    let is_in_range = (0.0..=super::MAX_DELAY.as_secs_f64() * 1e3).contains(&ms);
    is_in_range
        .then(|| Duration::from_secs_f64(ms / 1e3))
        .ok_or(RuleTextError::Delay(ms))
}

fn ms(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

impl TryFrom<RuleText> for FaultRule {
    type Error = RuleTextError;

    fn try_from(text: RuleText) -> Result<Self, RuleTextError> {
        let is_delay = matches!(
            text.fault,
            FaultName::DelayExecution | FaultName::DelayReply
        );
        if is_delay != text.delay.is_some() {
            let expected =
                "expected \"delay\" with delay_execution and delay_reply, and with no other fault";
            return Err(RuleTextError::Members(expected));
        }
        if text.at.is_some() && text.fault != FaultName::Cut {
            return Err(RuleTextError::Members("expected \"at\" with cut alone"));
        }
        let delay = text.delay.map(Delay::try_from).transpose()?;
        let fault = match (text.fault, delay) {
            (FaultName::DropRequest, _) => Fault::DropRequest,
            (FaultName::DropReply, _) => Fault::DropReply,
            (FaultName::Duplicate, _) => Fault::Duplicate,
            (FaultName::DelayExecution, Some(delay)) => Fault::DelayExecution(delay),
            (FaultName::DelayReply, Some(delay)) => Fault::DelayReply(delay),
            _ => Fault::Cut(text.at.map_or(CutPoint::BeforeReply, CutPoint::from)),
        };
        let rule = Self::new(fault, text.probability)?;
        Ok(match text.method {
            Some(method) => rule.for_method(method),
            None => rule,
        })
    }
}

impl From<FaultRule> for RuleText {
    fn from(rule: FaultRule) -> Self {
        let (mut delay, mut at) = (None, None);
        let fault = match rule.fault {
            Fault::DropRequest => FaultName::DropRequest,
            Fault::DropReply => FaultName::DropReply,
            Fault::Duplicate => FaultName::Duplicate,
            Fault::DelayExecution(found) => {
                delay = Some(found.into());
                FaultName::DelayExecution
            }
            Fault::DelayReply(found) => {
                delay = Some(found.into());
                FaultName::DelayReply
            }
            Fault::Cut(point) => {
                at = Some(point.into());
                FaultName::Cut
            }
        };
        let FaultRule {
            probability,
            method,
            ..
        } = rule;
        Self {
            fault,
            probability,
            method,
            delay,
            at,
        }
    }
}

impl TryFrom<DelayText> for Delay {
    type Error = RuleTextError;

    fn try_from(text: DelayText) -> Result<Self, RuleTextError> {
        Ok(match text {
            DelayText::Fixed(ms) => Self::Fixed(duration(ms)?),
            DelayText::Uniform(min, max) => Self::Uniform {
                min: duration(min)?,
                max: duration(max)?,
            },
            DelayText::Exponential(mean) => Self::Exponential {
                mean: duration(mean)?,
            },
            DelayText::Pareto(scale, shape) => Self::Pareto {
                scale: duration(scale)?,
                shape,
            },
        })
    }
}

impl From<Delay> for DelayText {
    fn from(delay: Delay) -> Self {
        match delay {
            Delay::Fixed(delay) => Self::Fixed(ms(delay)),
            Delay::Uniform { min, max } => Self::Uniform(ms(min), ms(max)),
            Delay::Exponential { mean } => Self::Exponential(ms(mean)),
            Delay::Pareto { scale, shape } => Self::Pareto(ms(scale), shape),
        }
    }
}

impl From<CutName> for CutPoint {
    fn from(name: CutName) -> Self {
        match name {
            CutName::BeforeExecution => Self::BeforeExecution,
            CutName::BeforeReply => Self::BeforeReply,
            CutName::MidReply => Self::MidReply,
            CutName::AfterReply => Self::AfterReply,
        }
    }
}

impl From<CutPoint> for CutName {
    fn from(point: CutPoint) -> Self {
        match point {
            CutPoint::BeforeExecution => Self::BeforeExecution,
            CutPoint::BeforeReply => Self::BeforeReply,
            CutPoint::MidReply => Self::MidReply,
            CutPoint::AfterReply => Self::AfterReply,
        }
    }
}
