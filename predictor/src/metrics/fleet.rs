//! What a predictor shares with others, in numbers; all zero for one by itself.
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `nearcast_fleet_members` | | predictors that take part, as far as this one knows |
//! | `nearcast_fleet_partitions` | | partitions that this one learns from |
//! | `nearcast_fleet_is_member` | | 1 while this one's membership holds: the bus answers |
//! | `nearcast_fleet_learnt_total` | | requests learnt from |
//! | `nearcast_fleet_repeated_total` | | batches that were there twice, and count once |
//! | `nearcast_fleet_unreadable_total` | | records that could not be read and were skipped |
//! | `nearcast_fleet_lag_seconds` | | age of the batch that was learnt from last |
//! | `nearcast_fleet_lost_records_total` | | records that were gone before they were read |
//! | `nearcast_fleet_orders_relayed_total` | | commands given to nodes of other predictors |
//! | `nearcast_fleet_orders_refused_total` | | commands of who owns its partition or office no more |
//! | `nearcast_fleet_orders_late_total` | | commands of others that came too late |
//! | `nearcast_fleet_arms_lacking` | | challengers that members lack, each member's counted: no block of theirs counts |
//! | `nearcast_fleet_waiting_bytes` | stream | what waits here for the bus |
//! | `nearcast_fleet_waiting_bytes_max` | stream | how much of it there may be |
//! | `nearcast_fleet_retries_total` | stream | attempts at publishing that failed and were made again |

use std::sync::atomic::AtomicU64;

use nearcast_bus::SpoolCounts;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// One of the streams.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StreamLabel {
    stream: &'static str,
}

/// The metrics of this table.
#[derive(Clone, Debug, Default)]
pub(crate) struct FleetMetrics {
    pub(crate) members: Gauge,
    pub(crate) partitions: Gauge,
    pub(crate) is_member: Gauge,
    pub(crate) learnt: Counter,
    pub(crate) repeated: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) lag_seconds: Gauge<f64, AtomicU64>,
    pub(crate) lost_records: Counter,
    pub(crate) orders_relayed: Counter,
    pub(crate) orders_refused: Counter,
    pub(crate) orders_late: Counter,
    pub(crate) arms_lacking: Gauge,
    waiting_bytes: Family<StreamLabel, Gauge>,
    waiting_bytes_max: Family<StreamLabel, Gauge>,
    retries: Family<StreamLabel, Counter>,
}

impl FleetMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let fleet = registry.sub_registry_with_prefix("fleet");
        fleet.register("members", "Predictors that take part", self.members.clone());
        fleet.register("partitions", "Partitions that this one learns from", self.partitions.clone());
        fleet.register("is_member", "Whether the membership holds", self.is_member.clone());
        fleet.register("learnt", "Requests learnt from", self.learnt.clone());
        fleet.register("repeated", "Batches that were there twice", self.repeated.clone());
        fleet.register("unreadable", "Records that were skipped", self.unreadable.clone());
        fleet.register("lag_seconds", "Age of the batch learnt from last", self.lag_seconds.clone());
        fleet.register("lost_records", "Records gone before they were read", self.lost_records.clone());
        fleet.register("orders_relayed", "Commands to nodes of others", self.orders_relayed.clone());
        fleet.register("orders_refused", "Commands under an old token", self.orders_refused.clone());
        fleet.register("orders_late", "Commands that came too late", self.orders_late.clone());
        fleet.register("arms_lacking", "Challengers that members lack", self.arms_lacking.clone());
        fleet.register("waiting_bytes", "What waits for the bus", self.waiting_bytes.clone());
        fleet.register("waiting_bytes_max", "The bound of what waits", self.waiting_bytes_max.clone());
        fleet.register("retries", "Attempts at publishing made again", self.retries.clone());
    }

    /// Mirrors what a spool has met.
    pub(crate) fn show_spool(&self, stream: &'static str, counts: SpoolCounts, bytes_max: usize) {
        let label = StreamLabel { stream };
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.waiting_bytes.get_or_create(&label).set(bytes(counts.waiting_bytes));
        self.waiting_bytes_max.get_or_create(&label).set(bytes(bytes_max as u64));
        let retries = self.retries.get_or_create(&label);
        retries.inc_by(counts.retries.saturating_sub(retries.get()));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn every_metric_of_the_table_is_registered_under_its_name() {
        let (metrics, mut registry) = (FleetMetrics::default(), Registry::with_prefix("nearcast"));
        metrics.register(&mut registry);
        let counts = SpoolCounts { waiting_bytes: 7, retries: 2, ..SpoolCounts::default() };
        // What is shown again does not count again.
        (0..2).for_each(|_| metrics.show_spool("log", counts, 10));
        let mut rendered = String::new();
        text::encode(&mut rendered, &registry).unwrap();
        let documented = include_str!("fleet.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let names: Vec<&str> = documented.filter_map(|rest| rest.split('`').next()).collect();
        assert_eq!(names.len(), 15);
        for name in names {
            assert!(
                rendered.contains(&format!("# TYPE {} ", name.trim_end_matches("_total"))),
                "{name} is not in:\n{rendered}"
            );
        }
        assert!(rendered.contains("nearcast_fleet_retries_total{stream=\"log\"} 2"), "{rendered}");
    }
}
