//! Whether what was measured may be believed: complete logs in both arms, and clocks that agree.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Alpha, ShareCheck, design::Arm};

/// Why the numbers of an experiment must not be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "flaw")]
pub enum Flaw {
    /// Requests did not fall to the arms in the shares that the assignment gives.
    Exposure {
        /// How likely that is by chance, at any look.
        p_value: f64,
    },
    /// A cell served requests in an arm that its log does not have.
    LogGap {
        /// Which cell.
        cell: String,
        /// In which arm.
        arm: Arm,
        /// Share of the requests served or expected that is missing.
        missing: f64,
    },
    /// A cell's clock is so wrong that requests fall into the wrong block.
    ClockSkew {
        /// Which cell.
        cell: String,
        /// How far its clock is from the predictor's.
        skew: Duration,
    },
    /// A cell served another arm than it was assigned.
    WrongArm {
        /// Which cell.
        cell: String,
        /// The block.
        block: usize,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposure { p_value } => {
                write!(formatter, "requests did not fall to the arms as assigned (p = {p_value:.1e})")
            }
            Self::LogGap { cell, arm, missing } => {
                write!(formatter, "{cell} did not log {:.1} % of its requests under {arm}", missing * 100.0)
            }
            Self::ClockSkew { cell, skew } => write!(formatter, "the clock of {cell} is wrong by {skew:?}"),
            Self::WrongArm { cell, block } => {
                write!(formatter, "{cell} served another arm than assigned in block {block}")
            }
        }
    }
}

/// What may be missing or wrong before an experiment is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityLimits {
    /// The largest share of a cell's requests in one arm that may be missing from the log.
    pub missing_max: f64,
    /// The largest clock skew; requests so near to a block's edge are to be left out.
    pub skew_max: Duration,
    /// The false alarms to bear from the exposure check.
    pub exposure: Alpha,
}

impl Default for QualityLimits {
    fn default() -> Self {
        Self { missing_max: 0.02, skew_max: Duration::from_secs(5), exposure: Alpha::EXPOSURE }
    }
}

/// What a cell reported of one finished block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockLog {
    /// The arm assigned.
    pub arm: Arm,
    /// The arm that the rows name; none when there is no row.
    pub served: Option<Arm>,
    /// Rows received.
    pub logged: u64,
    /// Requests that the node says it served; none when it said nothing.
    pub served_count: Option<u64>,
    /// Requests that history lets expect: what a silent node is measured by.
    pub expected_count: f64,
    /// The node's clock less the predictor's, in microseconds, where it was heard of.
    pub skew_micros: Option<i64>,
}

/// Watches the logs of an experiment's cells, block by block.
#[derive(Clone, Debug, Default)]
pub struct LogWatch {
    limits: QualityLimits,
    /// Requests owed and received, by cell and arm.
    tallies: BTreeMap<(String, Arm), Tally>,
    skews: BTreeMap<String, Duration>,
    wrong: Vec<Flaw>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    owed: f64,
    logged: f64,
}

impl LogWatch {
    /// A watch with limits.
    pub fn new(limits: QualityLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes in a finished block of a cell.
    pub fn handle_block(&mut self, cell: &str, block: usize, log: &BlockLog) {
        let tally = self.tallies.entry((cell.to_owned(), log.arm)).or_default();
        // A node that says nothing owes what it usually serves; one that speaks is believed.
        tally.owed += log.served_count.map_or(log.expected_count, |count| count as f64).max(log.logged as f64);
        tally.logged += log.logged as f64;
        let skew = Duration::from_micros(log.skew_micros.unwrap_or_default().unsigned_abs());
        if skew > self.limits.skew_max {
            let worst = self.skews.entry(cell.to_owned()).or_default();
            *worst = skew.max(*worst);
        }
        if log.served.is_some_and(|served| served != log.arm) && self.wrong.len() < FLAWS_MAX {
            self.wrong.push(Flaw::WrongArm { cell: cell.to_owned(), block });
        }
    }

    /// Every flaw found so far, the exposure check's included.
    pub fn flaws(&self, exposure: &ShareCheck) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if exposure.is_refuted(self.limits.exposure) {
            flaws.push(Flaw::Exposure { p_value: exposure.p_value() });
        }
        for ((cell, arm), tally) in &self.tallies {
            let missing = if tally.owed > 0.0 { 1.0 - tally.logged / tally.owed } else { 0.0 };
            if missing > self.limits.missing_max {
                flaws.push(Flaw::LogGap { cell: cell.clone(), arm: *arm, missing });
            }
        }
        let skews = self.skews.iter();
        flaws.extend(skews.map(|(cell, skew)| Flaw::ClockSkew { cell: cell.clone(), skew: *skew }));
        flaws.extend(self.wrong.iter().cloned());
        flaws
    }
}

/// Most blocks of a wrong arm that are named.
const FLAWS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CONCENTRATION, Interval,
        verdict::{Better, Metric, Role, Verdict, judge},
    };

    fn log(arm: Arm, logged: u64, served_count: Option<u64>) -> BlockLog {
        let served = (logged > 0).then_some(arm);
        BlockLog { arm, served, logged, served_count, expected_count: 1_000.0, skew_micros: Some(0) }
    }

    fn check(logs: &[(&str, BlockLog)], expected: &str) {
        let mut watch = LogWatch::new(QualityLimits::default());
        logs.iter().enumerate().for_each(|(block, (cell, log))| watch.handle_block(cell, block, log));
        let even = ShareCheck::new(&[1.0, 1.0], CONCENTRATION).unwrap();
        let flaws = watch.flaws(&even);
        let found: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected);
        // However good the numbers look.
        let effect = Interval { estimate: 2.0, low: 1.0, high: 3.0 };
        let goal = Metric {
            name: "hits".to_owned(),
            role: Role::Goal { least: 0.0 },
            better: Better::Higher,
            effect,
            control: 1.0,
        };
        let verdict = judge(&[goal], flaws).verdict;
        assert_eq!(verdict, if expected.is_empty() { Verdict::Pass } else { Verdict::Invalid });
    }

    #[test]
    fn complete_logs_have_no_flaw_however_traffic_differs_from_history() {
        check(&[("a", log(Arm::Control, 900, Some(900))), ("a", log(Arm::Treated, 100, Some(101)))], "");
    }

    #[test]
    fn a_cell_that_stops_logging_in_one_arm_is_invalid() {
        let good = log(Arm::Control, 1_000, Some(1_000));
        let gap = "a did not log 100.0 % of its requests under treated";
        check(&[("a", good), ("a", log(Arm::Treated, 0, None))], gap);
        check(&[("a", good), ("a", log(Arm::Treated, 0, Some(1_200)))], gap);
        let most = [("a", good), ("a", log(Arm::Treated, 950, Some(1_000)))];
        check(&most, "a did not log 5.0 % of its requests under treated");
    }

    #[test]
    fn a_wrong_clock_and_a_wrong_arm_are_invalid() {
        let good = log(Arm::Control, 1_000, Some(1_000));
        let skewed = BlockLog { skew_micros: Some(-7_000_000), ..good };
        check(&[("b", good), ("b", skewed)], "the clock of b is wrong by 7s");
        let wrong = BlockLog { served: Some(Arm::Treated), ..good };
        check(&[("b", good), ("b", wrong)], "b served another arm than assigned in block 1");
    }
}
