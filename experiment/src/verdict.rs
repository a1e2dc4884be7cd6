//! From intervals to a word.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Interval, quality::Flaw};

/// What an experiment has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Every goal is reached, every guardrail holds.
    Pass,
    /// A guardrail is breached, or a goal cannot be reached.
    Fail,
    /// Neither yet.
    Inconclusive,
    /// The numbers must not be believed, whatever they say.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Invalid => "INVALID",
        })
    }
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// As for a hit ratio.
    Higher,
    /// As for a latency.
    Lower,
}

impl Better {
    /// The interval of how much better treated is than control.
    fn gain(self, effect: &Interval) -> Interval {
        match self {
            Self::Higher => *effect,
            Self::Lower => effect.negated(),
        }
    }
}

/// How far a guardrail may be worse: non-inferiority, not "no significant harm", which little data always shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// In the metric's unit.
    Absolute(f64),
    /// As a share of control's mean.
    Relative(f64),
}

impl Margin {
    fn value(self, control: f64) -> f64 {
        match self {
            Self::Absolute(value) => value,
            Self::Relative(share) => share * control.abs(),
        }
    }
}

/// What a metric is for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To be improved by more than this, in the metric's unit.
    Goal {
        /// The least improvement that is worth a switch; 0 for any.
        least: f64,
    },
    /// Not to become worse by more than the margin.
    Guardrail(Margin),
    /// Only to be looked at.
    Watched,
}

/// One metric of an experiment as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Which way is better.
    pub better: Better,
    /// Treated less control, in the metric's unit, valid at every look.
    pub effect: Interval,
    /// Control's mean.
    pub control: f64,
}

/// What one metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The goal is reached, or the guardrail is known to hold.
    Good,
    /// A guardrail is known to be breached: roll back.
    Breached,
    /// Treated is known to be worse where it should have been better.
    Worse,
    /// The goal is known to be out of reach: more data cannot help.
    Futile,
    /// Not known yet.
    Open,
}

impl Metric {
    /// What the interval says. An interval without any number, as when nothing was logged, says nothing.
    pub fn finding(&self) -> Finding {
        let gain = self.better.gain(&self.effect);
        match self.role {
            Role::Goal { .. } if gain.high < 0.0 => Finding::Worse,
            Role::Goal { least } if gain.low > least.max(0.0) => Finding::Good,
            Role::Goal { least } if gain.high < least => Finding::Futile,
            Role::Guardrail(margin) if gain.low >= -margin.value(self.control) => Finding::Good,
            Role::Guardrail(margin) if gain.high < -margin.value(self.control) => Finding::Breached,
            Role::Goal { .. } | Role::Guardrail(_) | Role::Watched => Finding::Open,
        }
    }
}

/// A verdict with what led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The word.
    pub verdict: Verdict,
    /// Every metric's finding by name, in the order given.
    pub findings: Vec<(String, Finding)>,
    /// Why the numbers must not be believed; empty unless the verdict is INVALID.
    pub flaws: Vec<Flaw>,
}

impl Judgement {
    /// Whether treated must be taken off at once: a breached guardrail counts even where the numbers are flawed,
    /// because rolling back is cheap and harm is not.
    pub fn must_roll_back(&self) -> bool {
        self.findings.iter().any(|(_, finding)| *finding == Finding::Breached)
    }
}

/// Judges an experiment. A flaw outranks everything; a breach or a lost goal outranks other goals reached. Intervals of
/// several goals must have shared their α before.
pub fn judge(metrics: &[Metric], flaws: Vec<Flaw>) -> Judgement {
    let findings: Vec<_> = metrics.iter().map(|metric| (metric.name.clone(), metric.finding())).collect();
    let has = |wanted: Finding| findings.iter().any(|(_, finding)| *finding == wanted);
    let of = |metric: &&Metric| !matches!(metric.role, Role::Watched);
    let has_goal = metrics.iter().any(|metric| matches!(metric.role, Role::Goal { .. }));
    let verdict = if !flaws.is_empty() {
        Verdict::Invalid
    } else if has(Finding::Breached) || has(Finding::Worse) || has(Finding::Futile) {
        Verdict::Fail
    } else if has_goal && metrics.iter().filter(of).all(|metric| metric.finding() == Finding::Good) {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    };
    Judgement { verdict, findings, flaws }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(role: Role, better: Better, low: f64, high: f64) -> Metric {
        let effect = Interval { estimate: (low + high) / 2.0, low, high };
        Metric { name: "m".to_owned(), role, better, effect, control: 10.0 }
    }

    fn check(metrics: &[Metric], expected: Verdict) {
        let found = judge(metrics, Vec::new());
        assert_eq!(found.verdict, expected, "{found:?}");
    }

    #[test]
    fn a_goal_must_clear_its_least_effect_and_guardrails_their_margin() {
        let goal = |low, high| metric(Role::Goal { least: 0.5 }, Better::Higher, low, high);
        let rail = |low, high| metric(Role::Guardrail(Margin::Relative(0.03)), Better::Lower, low, high);
        check(&[goal(0.6, 1.0), rail(-0.1, 0.3)], Verdict::Pass);
        check(&[goal(0.5, 1.0), rail(-0.1, 0.3)], Verdict::Inconclusive);
        check(&[goal(0.6, 1.0), rail(-0.1, 0.31)], Verdict::Inconclusive);
        check(&[goal(0.6, 1.0), rail(0.31, 0.5)], Verdict::Fail);
        check(&[goal(0.1, 0.4)], Verdict::Fail);
        check(&[goal(-0.4, -0.1)], Verdict::Fail);
        check(&[rail(-0.1, 0.1)], Verdict::Inconclusive);
        check(&[], Verdict::Inconclusive);
        check(&[goal(f64::NEG_INFINITY, f64::INFINITY)], Verdict::Inconclusive);
        check(&[goal(0.6, 1.0), metric(Role::Watched, Better::Lower, 5.0, 9.0)], Verdict::Pass);
    }

    #[test]
    fn numbers_that_are_none_say_nothing() {
        for role in [Role::Goal { least: 0.0 }, Role::Guardrail(Margin::Absolute(1.0)), Role::Watched] {
            assert_eq!(metric(role, Better::Higher, f64::NAN, f64::NAN).finding(), Finding::Open);
        }
    }

    #[test]
    fn a_flaw_outranks_a_success_but_not_a_rollback() {
        let goal = metric(Role::Goal { least: 0.0 }, Better::Higher, 0.6, 1.0);
        let rail = metric(Role::Guardrail(Margin::Absolute(0.1)), Better::Lower, 0.2, 0.5);
        let flaw = Flaw::Exposure { p_value: 1e-6 };
        let found = judge(&[goal, rail], vec![flaw]);
        assert_eq!((found.verdict, found.must_roll_back()), (Verdict::Invalid, true));
        assert_eq!(format!("{:<12}|", found.verdict), "INVALID     |");
    }
}
