//! The report of an evaluation: `nearcast.evaluate/2`.

use serde::{Deserialize, Serialize};

use super::{
    cold::ColdReport,
    demand::{DemandReport, HorizonReport, forecast},
    next_key::{NextKeyReport, method},
    rank::MethodMetrics,
};
use crate::{features::TimeRange, time::rfc3339};

/// How a model did on later traffic. The field names are a contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// `nearcast.evaluate/2`.
    pub schema: String,
    /// The version measured, when it has a name.
    pub model: Option<String>,
    /// The log measured on.
    pub log: String,
    /// Start of the range measured on.
    pub start: String,
    /// End of the range measured on.
    pub end: String,
    /// Requests in the range.
    pub requests: u64,
    /// Whether the range overlaps what the model was trained on, so that the numbers flatter.
    pub leaks: bool,
    /// Next-key prediction.
    pub next_key: NextKeyReport,
    /// Demand forecasts.
    pub demand: DemandReport,
    /// The model against the best baseline, metric by metric.
    pub verdicts: Vec<Verdict>,
}

/// One comparison of the model with the best baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is compared.
    pub metric: String,
    /// Which form of the model.
    pub model: String,
    /// The model's value.
    pub value: f64,
    /// The baseline that does best.
    pub baseline: String,
    /// Its value.
    pub baseline_value: f64,
    /// Whether the model does better.
    pub wins: bool,
}

impl Verdict {
    /// The comparison in one line.
    pub fn sentence(&self) -> String {
        let Self { metric, model, value, baseline, baseline_value, wins } = self;
        let verb = if *wins { "beats" } else { "LOSES to" };
        format!("{model} {verb} {baseline} on {metric}: {value:.4} against {baseline_value:.4}")
    }
}

impl Evaluation {
    /// Compares and assembles.
    pub(crate) fn new(
        log: String,
        range: TimeRange,
        requests: u64,
        next_key: NextKeyReport,
        demand: DemandReport,
    ) -> Self {
        let verdicts = verdicts(&next_key, &demand);
        Self {
            schema: SCHEMA.to_owned(),
            model: None,
            log,
            start: rfc3339(range.start),
            end: rfc3339(range.end),
            requests,
            leaks: false,
            next_key,
            demand,
            verdicts,
        }
    }

    /// What a reader must know before trusting the numbers; empty when all is as it should be.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.leaks {
            warnings.push("the range overlaps what the model was trained on: the numbers flatter".to_owned());
        }
        if self.next_key.ranked == 0 {
            let why = "no request follows another of the same client within a session";
            warnings.push(format!("next keys were not measured: {why}"));
        } else if self.next_key.known_share == 0.0 {
            warnings.push("the model knows none of the keys asked for next: all of them are new".to_owned());
        }
        if self.demand.samples == 0 {
            warnings.push("demand was not measured: the range is too short for its horizons".to_owned());
        }
        for HorizonReport { horizon_seconds, left_out, .. } in &self.demand.horizons {
            if let Some(why) = left_out {
                warnings.push(format!("demand in the next {horizon_seconds} s was not measured: {why}"));
            }
        }
        warnings
    }
}

fn verdicts(next_key: &NextKeyReport, demand: &DemandReport) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    type Pick = fn(&MethodMetrics) -> f64;
    let metrics: [(&str, Pick); 4] = [
        ("hit_rate_20 without repeats", |metrics| metrics.without_repeats.hit_rate_20),
        ("mrr_20 without repeats", |metrics| metrics.without_repeats.mrr_20),
        ("hit_rate_20", |metrics| metrics.all.hit_rate_20),
        ("mrr_20", |metrics| metrics.all.mrr_20),
    ];
    let online = method::BASELINES.map(|name| format!("{name}_online"));
    let online: Vec<&str> = online.iter().map(String::as_str).collect();
    let rivals = [(method::MODEL, &method::BASELINES[..]), (method::MODEL_ONLINE, &online)];
    for (model, baselines) in rivals.into_iter().filter(|_| next_key.ranked > 0) {
        for (metric, pick) in metrics {
            let value = |name: &str| next_key.methods.get(name).map(pick);
            verdicts.extend(verdict(metric, model, baselines, value, |model, baseline| model > baseline));
        }
    }
    let ColdReport { tokens, tokens_and_popularity, popularity, .. } = &next_key.cold;
    if popularity.predictions > 0 {
        for (name, by_tokens) in [(TOKENS, tokens), (TOKENS_AND_POPULARITY, tokens_and_popularity)] {
            let value = |other: &str| Some(if other == name { by_tokens.hit_rate_20 } else { popularity.hit_rate_20 });
            let metric = "hit_rate_20 among keys unseen in training";
            verdicts.extend(verdict(metric, name, &[method::POPULARITY], value, |model, baseline| model > baseline));
        }
    }
    for horizon in &demand.horizons {
        let minutes = horizon.horizon_seconds as f64 / 60.0;
        for (whose, group) in [("", &horizon.all), (" for newborn keys", &horizon.newborn)] {
            let value = |name: &str| group.deviance.get(name).copied();
            let metric = format!("demand deviance in the next {minutes} min{whose} (lower is better)");
            let better = |model, baseline| model < baseline;
            for model in [forecast::MODEL, forecast::MODEL_ONLINE] {
                verdicts.extend(verdict(&metric, model, &forecast::BASELINES, value, better));
            }
        }
    }
    verdicts
}

fn verdict(
    metric: &str,
    model: &str,
    baselines: &[&str],
    value: impl Fn(&str) -> Option<f64>,
    better: fn(f64, f64) -> bool,
) -> Option<Verdict> {
    let mut best: Option<(&str, f64)> = None;
    for name in baselines {
        if let Some(found) = value(name).filter(|found| best.is_none_or(|(_, held)| better(*found, held))) {
            best = Some((name, found));
        }
    }
    let ((baseline, baseline_value), value) = (best?, value(model)?);
    Some(Verdict {
        metric: metric.to_owned(),
        model: model.to_owned(),
        value,
        baseline: baseline.to_owned(),
        baseline_value,
        wins: better(value, baseline_value),
    })
}

const SCHEMA: &str = "nearcast.evaluate/2";
/// What ranks keys that training never saw.
const TOKENS: &str = "likeness by path tokens";
const TOKENS_AND_POPULARITY: &str = "likeness by path tokens times popularity";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_names_the_best_baseline_and_says_when_the_model_loses() {
        let value = |name: &str| match name {
            "model" => Some(0.3),
            "markov" => Some(0.4),
            "popularity" => Some(0.1),
            _ => None,
        };
        let found = verdict("mrr", "model", &["popularity", "markov", "absent"], value, |a, b| a > b).unwrap();
        assert_eq!((found.baseline.as_str(), found.wins), ("markov", false));
        assert_eq!(found.sentence(), "model LOSES to markov on mrr: 0.3000 against 0.4000");
        let lower = verdict("deviance", "model", &["popularity", "markov"], value, |a, b| a < b).unwrap();
        assert_eq!((lower.baseline.as_str(), lower.wins), ("popularity", false));
    }
}
