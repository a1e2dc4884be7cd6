//! The service's metrics, in Prometheus form.
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `nearcast_build_info` | version | always 1 |
//! | `nearcast_log_records_total` | node | request events received |
//! | `nearcast_log_dropped_total` | node | request events that a node dropped before sending, as it says |
//! | `nearcast_log_sequence_gaps_total` | node | batches whose number did not follow the last one's |
//! | `nearcast_log_repeated_total` | node | batches that a node sent again although they had been taken |
//! | `nearcast_log_stream_lag_seconds` | node | age of the newest request event when it arrived |
//! | `nearcast_predictor_sessions` | | nodes connected |
//! | `nearcast_predictor_streams_refused_total` | reason | streams ended for what the node sent |
//! | `nearcast_predictor_inputs_total` | | messages that the engine has taken |
//! | `nearcast_predictor_input_duration_seconds` | | time the engine spends on one message, orders included |
//! | `nearcast_predictor_commands_sent_total` | node | commands queued for a node |
//! | `nearcast_predictor_commands_dropped_total` | node | commands dropped, the node's queue being full or gone |
//! | `nearcast_predictor_command_results_total` | status | commands that nodes say have ended |
//! | `nearcast_predictor_foreign_commands_total` | | results and outcomes of commands of an earlier life |
//! | `nearcast_prefetch_outcomes_total` | outcome | outcomes that nodes reported: used, late, evicted_unused, expired |
//! | `nearcast_predictor_events_dropped_total` | | events that the event log's queue could not take |
//! | `nearcast_predictor_model_info` | version, alias | 1 for the version in service |
//! | `nearcast_predictor_model_swaps_total` | | versions put into service |
//! | `nearcast_predictor_model_refusals_total` | | attempts to load a version that failed |
//! | `nearcast_shadow_hit_ratio`, `…_hit_ratio_error` | arm | what miniatures say the arm's hit ratio is, and how far off that may be |
//! | `nearcast_shadow_hit_ratio_over_none`, `…_over_none_error` | arm | the same less that of *none* |
//! | `nearcast_shadow_wait_seconds` | arm | what a request waits for peers and origin, on average |
//! | `nearcast_shadow_origin_ratio`, `…_wasted_ratio` | arm | bytes from the origin, and fetched ahead in vain, per byte asked for |
//! | `nearcast_shadow_sample_ratio` | | share of the keys that miniatures follow |
//! | `nearcast_arm_nodes` | arm | nodes at which the arm is in force |
//! | `nearcast_experiment_info` | experiment, stage, verdict | 1 for each experiment |
//! | `nearcast_experiment_effect` | experiment, metric, bound | treated less control: `estimate`, `low`, `high` |
//! | `nearcast_placement` | quantity | placement's state, as `/status` names it |
//! | `nearcast_placement_planned_bytes` | node | bytes that the last plan has at a node |
//! | `nearcast_predictor_account` | quantity | the engine's account, as `/status` names it; its budget with `budget_` in front |
//! | `nearcast_predictor_arm_requests` | arm | requests under an arm; for *none*, all requests |
//! | `nearcast_predictor_arm_hits` | arm | of those, answered by the node itself; for *none*, as the ghosts say |
//! | `nearcast_predictor_arm_latency_seconds` | arm | their latency added up |
//! | `nearcast_predictor_node_up` | node | whether a node that ever joined is connected |

mod fleet;

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use nearcast_proto::message::{CommandStatus, OutcomeKind};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use serde_json::Value;

use self::fleet::FleetMetrics;
use crate::{
    arms::{ArmShadow, ArmsStatus},
    experiments::TrialReport,
    placing::PlacementStatus,
};

/// A node's name as label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NodeLabel {
    pub(crate) node: String,
}

/// One word as label, under a name that differs by metric.
macro_rules! word_label {
    ($type:ident, $name:ident) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(crate) struct $type {
            $name: String,
        }

        impl From<&str> for $type {
            fn from(word: &str) -> Self {
                Self { $name: word.to_owned() }
            }
        }
    };
}

word_label!(ArmLabel, arm);
word_label!(OutcomeLabel, outcome);
word_label!(QuantityLabel, quantity);
word_label!(ReasonLabel, reason);
word_label!(StatusLabel, status);

/// A model in service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ModelLabel {
    pub(crate) version: String,
    pub(crate) alias: String,
}

/// An experiment as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExperimentLabel {
    experiment: String,
    stage: String,
    verdict: String,
}

/// One number of one metric of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    experiment: String,
    metric: String,
    bound: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric; see the module's table. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) log_records: Family<NodeLabel, Counter>,
    pub(crate) log_dropped: Family<NodeLabel, Counter>,
    pub(crate) log_sequence_gaps: Family<NodeLabel, Counter>,
    pub(crate) log_repeated: Family<NodeLabel, Counter>,
    pub(crate) log_lag_seconds: Family<NodeLabel, FloatGauge>,
    pub(crate) sessions: Gauge,
    pub(crate) streams_refused: Family<ReasonLabel, Counter>,
    pub(crate) inputs: Counter,
    pub(crate) input_duration_seconds: Histogram,
    pub(crate) commands_sent: Family<NodeLabel, Counter>,
    pub(crate) commands_dropped: Family<NodeLabel, Counter>,
    pub(crate) command_results: Family<StatusLabel, Counter>,
    pub(crate) foreign_commands: Counter,
    pub(crate) outcomes: Family<OutcomeLabel, Counter>,
    pub(crate) events_dropped: Counter,
    pub(crate) model_info: Family<ModelLabel, Gauge>,
    pub(crate) model_swaps: Counter,
    pub(crate) model_refusals: Counter,
    account: Family<QuantityLabel, FloatGauge>,
    placement: Family<QuantityLabel, FloatGauge>,
    placement_planned_bytes: Family<NodeLabel, FloatGauge>,
    shadow: Shadow,
    arm_nodes: Family<ArmLabel, Gauge>,
    experiment_info: Family<ExperimentLabel, Gauge>,
    experiment_effect: Family<EffectLabel, FloatGauge>,
    arm_requests: Family<ArmLabel, FloatGauge>,
    arm_hits: Family<ArmLabel, FloatGauge>,
    arm_latency_seconds: Family<ArmLabel, FloatGauge>,
    node_up: Family<NodeLabel, Gauge>,
    pub(crate) fleet: FleetMetrics,
    registry: Arc<Mutex<Registry>>,
}

/// What miniatures say, by arm.
#[derive(Clone, Debug, Default)]
struct Shadow {
    /// As [`SHADOW`] names them.
    by_arm: [Family<ArmLabel, FloatGauge>; SHADOW.len()],
    sample_ratio: FloatGauge,
}

/// A metric of an arm's miniatures: its name, its help and where its value comes from.
type ShadowMetric = (&'static str, &'static str, fn(&ArmShadow) -> f64);

/// What is shown of them.
const SHADOW: [ShadowMetric; 7] = [
    ("hit_ratio", "Hit ratio by miniatures", |arm| arm.account.hit_ratio.estimate),
    ("hit_ratio_error", "How far off it may be", |arm| arm.account.hit_ratio.error),
    ("hit_ratio_over_none", "Hit ratio more than none has", |arm| arm.hit_ratio_over_none.estimate),
    ("hit_ratio_over_none_error", "How far off it may be", |arm| arm.hit_ratio_over_none.error),
    ("wait_seconds", "Mean wait for peers and origin", |arm| arm.account.wait_ms.estimate / 1e3),
    ("origin_ratio", "Origin bytes per byte asked for", |arm| arm.account.origin_ratio.estimate),
    ("wasted_ratio", "Bytes fetched ahead in vain per byte asked for", |arm| arm.account.wasted_ratio),
];

impl Metrics {
    /// Every metric at zero.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            log_records: Family::default(),
            log_dropped: Family::default(),
            log_sequence_gaps: Family::default(),
            log_repeated: Family::default(),
            log_lag_seconds: Family::default(),
            sessions: Gauge::default(),
            streams_refused: Family::default(),
            inputs: Counter::default(),
            // From 10 µs to 2.6 s.
            input_duration_seconds: Histogram::new(exponential_buckets(1e-5, 4.0, 10)),
            commands_sent: Family::default(),
            commands_dropped: Family::default(),
            command_results: Family::default(),
            foreign_commands: Counter::default(),
            outcomes: Family::default(),
            events_dropped: Counter::default(),
            model_info: Family::default(),
            model_swaps: Counter::default(),
            model_refusals: Counter::default(),
            account: Family::default(),
            placement: Family::default(),
            placement_planned_bytes: Family::default(),
            shadow: Shadow::default(),
            arm_nodes: Family::default(),
            experiment_info: Family::default(),
            experiment_effect: Family::default(),
            arm_requests: Family::default(),
            arm_hits: Family::default(),
            arm_latency_seconds: Family::default(),
            node_up: Family::default(),
            fleet: FleetMetrics::default(),
            registry: Arc::new(Mutex::new(Registry::with_prefix("nearcast"))),
        };
        metrics.register();
        // What is zero is there, so that a first event is a rise and not an appearance.
        for kind in [OutcomeKind::EvictedUnused, OutcomeKind::Expired, OutcomeKind::Late, OutcomeKind::Used] {
            drop(metrics.outcomes.get_or_create(&outcome_label(kind)));
        }
        for status in STATUSES {
            drop(metrics.command_results.get_or_create(&status_word(status).into()));
        }
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("build", "Version of the code", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register(
            "prefetch_outcomes",
            "What became of prefetched segments, as nodes reported",
            self.outcomes.clone(),
        );
        registry.register("placement", "The state of placement", self.placement.clone());
        let planned = self.placement_planned_bytes.clone();
        registry.register("placement_planned_bytes", "Bytes that the last plan has at a node", planned);
        self.register_arms(&mut registry);
        self.fleet.register(&mut registry);
        let log = registry.sub_registry_with_prefix("log");
        log.register("records", "Request events received", self.log_records.clone());
        log.register("dropped", "Request events that nodes dropped", self.log_dropped.clone());
        log.register("sequence_gaps", "Batches out of sequence", self.log_sequence_gaps.clone());
        log.register("repeated", "Batches that were sent again in vain", self.log_repeated.clone());
        log.register("stream_lag_seconds", "Age of the newest event on arrival", self.log_lag_seconds.clone());
        let service = registry.sub_registry_with_prefix("predictor");
        service.register("sessions", "Nodes connected", self.sessions.clone());
        service.register("streams_refused", "Streams ended for what was sent", self.streams_refused.clone());
        service.register("inputs", "Messages that the engine has taken", self.inputs.clone());
        service.register(
            "input_duration_seconds",
            "Time the engine spends on one message",
            self.input_duration_seconds.clone(),
        );
        service.register("commands_sent", "Commands queued for a node", self.commands_sent.clone());
        service.register("commands_dropped", "Commands that no queue took", self.commands_dropped.clone());
        service.register("command_results", "Commands that have ended", self.command_results.clone());
        service.register("foreign_commands", "Reports about an earlier life", self.foreign_commands.clone());
        service.register("events_dropped", "Events that were not logged", self.events_dropped.clone());
        service.register("model_info", "The version in service", self.model_info.clone());
        service.register("model_swaps", "Versions put into service", self.model_swaps.clone());
        service.register("model_refusals", "Versions that could not be loaded", self.model_refusals.clone());
        service.register("account", "The engine's account", self.account.clone());
        service.register(
            "arm_requests",
            "Requests under an arm, or that none would have met",
            self.arm_requests.clone(),
        );
        service.register("arm_hits", "Of those, answered by the node itself", self.arm_hits.clone());
        service.register("arm_latency_seconds", "Their latency added up", self.arm_latency_seconds.clone());
        service.register("node_up", "Whether a node that ever joined is connected", self.node_up.clone());
    }

    fn register_arms(&self, registry: &mut Registry) {
        registry.register("arm_nodes", "Nodes by arm in force", self.arm_nodes.clone());
        let experiment = registry.sub_registry_with_prefix("experiment");
        experiment.register("info", "Experiments", self.experiment_info.clone());
        experiment.register("effect", "Treated less control", self.experiment_effect.clone());
        let shadow = registry.sub_registry_with_prefix("shadow");
        for ((name, help, _), family) in SHADOW.into_iter().zip(&self.shadow.by_arm) {
            shadow.register(name, help, family.clone());
        }
        shadow.register("sample_ratio", "Share of the keys followed", self.shadow.sample_ratio.clone());
    }

    /// Shows arms and experiments as they stand; what has gone is no longer shown.
    pub(crate) fn show_arms(&self, arms: &ArmsStatus, experiments: &[TrialReport]) {
        self.shadow.sample_ratio.set(arms.shadow.sample_share);
        for ((_, _, value), family) in SHADOW.into_iter().zip(&self.shadow.by_arm) {
            family.clear();
            for arm in &arms.shadow.arms {
                family.get_or_create(&ArmLabel::from(&*arm.arm)).set(value(arm));
            }
        }
        self.arm_nodes.clear();
        for arm in arms.in_force.values() {
            self.arm_nodes.get_or_create(&ArmLabel::from(&**arm)).inc();
        }
        self.experiment_info.clear();
        self.experiment_effect.clear();
        experiments.iter().for_each(|trial| self.show_experiment(trial));
    }

    fn show_experiment(&self, trial: &TrialReport) {
        let label = ExperimentLabel {
            experiment: trial.name.clone(),
            stage: trial.stage.to_string(),
            verdict: trial.verdict.to_string(),
        };
        self.experiment_info.get_or_create(&label).set(1);
        for metric in &trial.metrics {
            let effect = metric.effect;
            for (bound, value) in [("estimate", effect.estimate), ("high", effect.high), ("low", effect.low)] {
                let (experiment, metric) = (trial.name.clone(), metric.name.clone());
                self.experiment_effect.get_or_create(&EffectLabel { experiment, metric, bound }).set(value);
            }
        }
    }

    /// Makes the counters of a node that has joined.
    pub(crate) fn add_node(&self, node: &NodeLabel) {
        for family in [
            &self.log_records,
            &self.log_dropped,
            &self.log_sequence_gaps,
            &self.log_repeated,
            &self.commands_sent,
            &self.commands_dropped,
        ] {
            drop(family.get_or_create(node));
        }
    }

    /// Mirrors the numbers of the engine's account, whatever they are called, and of its budget.
    pub(crate) fn show_account(&self, account: &Value) {
        let budget = account.get("budget").and_then(Value::as_object).into_iter().flatten();
        let budget = budget.map(|(quantity, value)| (format!("budget_{quantity}"), value));
        let top = account.as_object().into_iter().flatten().map(|(quantity, value)| (quantity.clone(), value));
        for (quantity, value) in top.chain(budget) {
            if let Some(value) = value.as_f64() {
                self.account.get_or_create(&quantity.as_str().into()).set(value);
            }
        }
    }

    /// Mirrors the numbers of placement's state.
    pub(crate) fn show_placement(&self, status: &PlacementStatus) {
        for (quantity, value) in status.quantities() {
            self.placement.get_or_create(&quantity.into()).set(value);
        }
        for (node, bytes) in status.planned_bytes() {
            self.placement_planned_bytes.get_or_create(&NodeLabel { node: node.to_owned() }).set(bytes as f64);
        }
    }

    /// Mirrors what an arm has met: requests, hits and latency. Gauges, because a ghost's estimate may fall a little.
    pub(crate) fn show_arm(&self, arm: &str, requests: f64, hits: f64, latency_seconds: f64) {
        self.arm_requests.get_or_create(&arm.into()).set(requests);
        self.arm_hits.get_or_create(&arm.into()).set(hits);
        self.arm_latency_seconds.get_or_create(&arm.into()).set(latency_seconds);
    }

    /// Says whether a node that ever joined is connected.
    pub(crate) fn show_node(&self, node: &str, is_up: bool) {
        self.node_up.get_or_create(&NodeLabel { node: node.to_owned() }).set(i64::from(is_up));
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self) -> String {
        let mut rendered = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail.
        let _ = text::encode(&mut rendered, &registry);
        rendered
    }
}

const STATUSES: [CommandStatus; 5] = [
    CommandStatus::AlreadyPresent,
    CommandStatus::Done,
    CommandStatus::Expired,
    CommandStatus::Failed,
    CommandStatus::Rejected,
];

/// The label of an outcome.
pub(crate) fn outcome_label(kind: OutcomeKind) -> OutcomeLabel {
    OutcomeLabel::from(match kind {
        OutcomeKind::EvictedUnused => "evicted_unused",
        OutcomeKind::Expired => "expired",
        OutcomeKind::Late => "late",
        OutcomeKind::Used => "used",
    })
}

/// The word for a command's end.
pub(crate) fn status_word(status: CommandStatus) -> &'static str {
    match status {
        CommandStatus::AlreadyPresent => "already_present",
        CommandStatus::Done => "done",
        CommandStatus::Expired => "expired",
        CommandStatus::Failed => "failed",
        CommandStatus::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_registered_under_its_name() {
        let metrics = Metrics::new();
        // A family shows up with its first label.
        let node = NodeLabel { node: "eu-1".to_owned() };
        metrics.add_node(&node);
        drop(metrics.log_lag_seconds.get_or_create(&node));
        drop(metrics.placement_planned_bytes.get_or_create(&node));
        drop(metrics.placement.get_or_create(&"epoch".into()));
        drop(metrics.streams_refused.get_or_create(&"malformed".into()));
        let model = ModelLabel { version: "v0001".to_owned(), alias: "champion".to_owned() };
        drop(metrics.model_info.get_or_create(&model));
        let arm = ArmLabel::from("none");
        metrics.shadow.by_arm.iter().for_each(|family| drop(family.get_or_create(&arm)));
        drop(metrics.arm_nodes.get_or_create(&arm));
        let word = || "x".to_owned();
        let label = ExperimentLabel { experiment: word(), stage: word(), verdict: word() };
        drop(metrics.experiment_info.get_or_create(&label));
        let label = EffectLabel { experiment: word(), metric: word(), bound: "low" };
        drop(metrics.experiment_effect.get_or_create(&label));
        metrics
            .show_account(&serde_json::json!({ "issued": 3, "not a number": "x", "budget": { "extra_bytes": 0.5 } }));
        metrics.show_arm("none", 2.0, 1.0, 0.25);
        metrics.show_node("eu-1", true);
        let rendered = metrics.render();
        let documented = include_str!("metrics.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let names: Vec<&str> = documented.filter_map(|rest| rest.split('`').next()).collect();
        assert_eq!(names.len(), 34);
        for name in names {
            let family = format!("# TYPE {} ", name.trim_end_matches("_total").trim_end_matches("_info"));
            let exact = format!("# TYPE {name} ");
            assert!(rendered.contains(&family) || rendered.contains(&exact), "{name} is not in:\n{rendered}");
        }
        for line in [
            "account{quantity=\"issued\"} 3",
            "account{quantity=\"budget_extra_bytes\"} 0.5",
            "arm_hits{arm=\"none\"} 1",
            "node_up{node=\"eu-1\"} 1",
        ] {
            assert!(rendered.contains(&format!("nearcast_predictor_{line}")), "{line} is not in:\n{rendered}");
        }
    }
}
