//! What happened, in CloudEvents form, for subscribers in the process and in a bounded file.

mod file;

use chrono::{DateTime, SecondsFormat};
use nearcast_datasets::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};

pub(crate) use self::file::EventFile;

/// One event in the JSON form of CloudEvents 1.0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Event {
    specversion: &'static str,
    /// Unique within the source.
    pub(crate) id: String,
    source: &'static str,
    /// What happened, such as `dev.nearcast.node.joined`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// What it happened to: a node, a key or a version.
    pub(crate) subject: String,
    /// When, RFC 3339 with microseconds, UTC.
    pub(crate) time: String,
    datacontenttype: &'static str,
    /// Particulars.
    pub(crate) data: Value,
}

/// The kinds of events.
pub(crate) mod kind {
    pub(crate) const ARM_ASSIGNED: &str = "dev.nearcast.arm.assigned";
    pub(crate) const ARM_SET: &str = "dev.nearcast.arm.set";
    pub(crate) const COMMAND_ENDED: &str = "dev.nearcast.command.ended";
    pub(crate) const COMMAND_ISSUED: &str = "dev.nearcast.command.issued";
    pub(crate) const EXPERIMENT_CHANGED: &str = "dev.nearcast.experiment.changed";
    pub(crate) const MODEL_INSTALLED: &str = "dev.nearcast.model.installed";
    pub(crate) const MODEL_REFUSED: &str = "dev.nearcast.model.refused";
    pub(crate) const NODE_JOINED: &str = "dev.nearcast.node.joined";
    pub(crate) const NODE_DRAINING: &str = "dev.nearcast.node.draining";
    pub(crate) const NODE_LEAVING: &str = "dev.nearcast.node.leaving";
    pub(crate) const NODE_LEFT: &str = "dev.nearcast.node.left";
    pub(crate) const PLACEMENT_PLANNED: &str = "dev.nearcast.placement.planned";
    pub(crate) const SEGMENTS_EVICTED: &str = "dev.nearcast.segments.evicted";
}

/// Where events are published. Publishing never waits: what a full queue cannot take is dropped and counted.
#[derive(Debug)]
pub(crate) struct EventBus {
    id_prefix: String,
    published: u64,
    subscribers: broadcast::Sender<Event>,
    file: mpsc::Sender<Event>,
    dropped: Counter,
}

impl EventBus {
    /// A bus and the queue of its file. `id_prefix` keeps identifiers apart across restarts; `dropped` counts the events
    /// that the file's queue could not take.
    pub(crate) fn new(id_prefix: String, queue_max: usize, dropped: Counter) -> (Self, mpsc::Receiver<Event>) {
        let (file, queue) = mpsc::channel(queue_max);
        let (subscribers, _) = broadcast::channel(queue_max);
        (Self { id_prefix, published: 0, subscribers, file, dropped }, queue)
    }

    /// Publishes an event.
    pub(crate) fn publish(&mut self, now: Timestamp, kind: &'static str, subject: &str, data: Value) {
        self.published += 1;
        let event = Event {
            specversion: "1.0",
            id: format!("{}-{}", self.id_prefix, self.published),
            source: "/nearcast/predictor",
            kind,
            subject: subject.to_owned(),
            time: rfc3339(now),
            datacontenttype: "application/json",
            data,
        };
        if self.subscribers.receiver_count() > 0 {
            // Only fails when the last subscriber has just left.
            let _ = self.subscribers.send(event.clone());
        }
        if self.file.try_send(event).is_err() {
            self.dropped.inc();
        }
    }

    /// A view of what is published from now on; a subscriber that lags loses the oldest events and is told how many.
    #[cfg(test)]
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.subscribers.subscribe()
    }
}

/// An instant as RFC 3339 says it.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    DateTime::from_timestamp_micros(at.micros())
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn events_have_the_cloudevents_form() {
        let (mut bus, mut queue) = EventBus::new("3".to_owned(), 4, Counter::default());
        bus.publish(Timestamp::from_micros(1), kind::NODE_JOINED, "eu-1", json!({"region": "eu"}));
        let event = serde_json::to_value(queue.recv().await.unwrap()).unwrap();
        assert_eq!(
            event,
            json!({
                "specversion": "1.0", "id": "3-1", "source": "/nearcast/predictor", "type": "dev.nearcast.node.joined",
                "subject": "eu-1", "time": "1970-01-01T00:00:00.000001Z", "datacontenttype": "application/json",
                "data": {"region": "eu"},
            })
        );
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_but_subscribers_still_see() {
        let (mut bus, _queue) = EventBus::new("1".to_owned(), 1, Counter::default());
        let mut subscriber = bus.subscribe();
        bus.publish(Timestamp::MIN, kind::NODE_LEFT, "a", Value::Null);
        assert_eq!(bus.dropped.get(), 0);
        subscriber.recv().await.unwrap();
        bus.publish(Timestamp::MIN, kind::NODE_LEFT, "b", Value::Null);
        assert_eq!(bus.dropped.get(), 1);
        assert_eq!(subscriber.recv().await.unwrap().subject, "b");
    }
}
