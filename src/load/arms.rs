//! Switches the predictor's arm between plays, and reads what nodes and origin counted.

use std::time::Duration;

use anyhow::{Context, bail};
use nearcast_proto::wire::SetArmRequest;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{cluster::Cluster, http::Http};
use crate::origin;

/// The cluster, seen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch<'a> {
    pub(super) http: &'a Http,
    pub(super) cluster: &'a Cluster,
}

/// What the cluster counted since its processes started. What could not be asked is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) origin: Option<OriginCounts>,
    pub(super) prefetch: Option<PrefetchCounts>,
}

/// What the origin served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct OriginCounts {
    /// Requests, conditional ones included.
    pub(crate) requests: u64,
    /// Body bytes.
    pub(crate) bytes: u64,
}

/// What became of prefetched segments, over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PrefetchCounts {
    /// Segments that the predictor ordered.
    #[serde(rename(deserialize = "ordered"))]
    pub(crate) issued: u64,
    /// Of those, fetched and stored.
    pub(crate) landed: u64,
    /// Bytes of the landed.
    pub(crate) landed_bytes: u64,
    /// Of the landed, asked for by somebody.
    pub(crate) used: u64,
    /// Bytes of the used.
    pub(crate) used_bytes: u64,
    /// Of the issued, overtaken by demand.
    pub(crate) late: u64,
    /// Of the landed, not asked for until the end of the play.
    #[serde(skip_deserializing)]
    pub(crate) unused: u64,
}

/// The parts of a node's status that matter here.
#[derive(Clone, Debug, Deserialize)]
struct NodeStatus {
    segments: Segments,
    under_way: UnderWay,
    link: Link,
}

#[derive(Clone, Debug, Deserialize)]
struct Segments {
    prefetch: PrefetchCounts,
}

#[derive(Clone, Debug, Deserialize)]
struct UnderWay {
    prefetches_queued: u64,
    transfers: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Link {
    connected: bool,
}

impl Switch<'_> {
    /// Brings all nodes to empty caches and the predictor to an arm that has learned nothing yet.
    pub(super) async fn to(self, arm: &str) -> anyhow::Result<()> {
        let Some(predictor) = &self.cluster.predictor else {
            bail!("arms need a predictor: play against a cluster.json, or name it with --predictor");
        };
        let mut control = self.http.control(predictor).await?;
        // Nothing may be on its way into a cache that is to be empty.
        for (arm, reset) in [("none", false), (arm, true)] {
            self.settle().await;
            for node in &self.cluster.nodes {
                self.http.post(&format!("{}/_nearcast/clear", node.url)).await?;
            }
            let request = self.http.order(SetArmRequest { arm: arm.to_owned(), reset })?;
            let reply =
                control.set_arm(request).await.with_context(|| format!("the predictor refuses arm \"{arm}\""))?;
            let in_force = reply.into_inner().arm;
            anyhow::ensure!(in_force == arm, "asked for arm \"{arm}\", the predictor put \"{in_force}\" in force");
        }
        self.wait_for_links().await
    }

    /// What nodes and origin have counted so far.
    pub(super) async fn counters(self) -> Counters {
        let mut prefetch = Some(PrefetchCounts::default());
        for node in &self.cluster.nodes {
            let status = self.node(&node.url).await.ok();
            prefetch = prefetch.zip(status).map(|(sum, status)| sum.plus(status.segments.prefetch));
        }
        let origin = match &self.cluster.origin {
            Some(url) => self.http.json::<origin::Status>(&format!("{url}/_nearcast/status")).await.ok(),
            None => None,
        };
        let origin = origin.map(|origin| OriginCounts { requests: origin.served.requests, bytes: origin.served.bytes });
        Counters { origin, prefetch }
    }

    /// Waits until no node transfers anything, within reason.
    pub(super) async fn settle(self) {
        for _ in 0..SETTLE_TRIES {
            let mut is_busy = false;
            for node in &self.cluster.nodes {
                let status = self.node(&node.url).await.ok();
                is_busy |= status.is_some_and(|node| node.under_way.prefetches_queued + node.under_way.transfers > 0);
            }
            if !is_busy {
                return;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!("nodes are still transferring; the arms' counts may mix");
    }

    /// Without a link a node would be measured without prediction, whatever the arm.
    async fn wait_for_links(self) -> anyhow::Result<()> {
        for node in &self.cluster.nodes {
            let mut tries = 0;
            while !self.node(&node.url).await?.link.connected {
                tries += 1;
                if tries == LINK_TRIES {
                    bail!("node {} is not connected to the predictor", node.name);
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn node(self, url: &str) -> anyhow::Result<NodeStatus> {
        self.http.json(&format!("{url}/_nearcast/status")).await
    }
}

impl Counters {
    /// What was counted since `before`.
    pub(super) fn since(self, before: &Self) -> Self {
        let origin = self.origin.zip(before.origin).map(|(now, before)| OriginCounts {
            requests: now.requests.saturating_sub(before.requests),
            bytes: now.bytes.saturating_sub(before.bytes),
        });
        let prefetch = self.prefetch.zip(before.prefetch).map(|(now, before)| {
            let landed = now.landed.saturating_sub(before.landed);
            let used = now.used.saturating_sub(before.used);
            PrefetchCounts {
                issued: now.issued.saturating_sub(before.issued),
                landed,
                landed_bytes: now.landed_bytes.saturating_sub(before.landed_bytes),
                used,
                used_bytes: now.used_bytes.saturating_sub(before.used_bytes),
                late: now.late.saturating_sub(before.late),
                unused: landed.saturating_sub(used),
            }
        });
        Self { origin, prefetch }
    }
}

impl PrefetchCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            issued: self.issued + other.issued,
            landed: self.landed + other.landed,
            landed_bytes: self.landed_bytes + other.landed_bytes,
            used: self.used + other.used,
            used_bytes: self.used_bytes + other.used_bytes,
            late: self.late + other.late,
            unused: self.unused + other.unused,
        }
    }
}

/// Between two looks at a node.
const PAUSE: Duration = Duration::from_millis(100);
const SETTLE_TRIES: u32 = 100;
const LINK_TRIES: u32 = 100;
