//! One document to the predictor, one back.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nearcast_predictor::experiments::Deed;
use nearcast_proto::{ControlClient, wire::ExperimentRequest};
use serde_json::Value;
use tonic::{Code, transport::Channel};

use crate::load::{Access, Cluster, Http, To};

/// The predictor that is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    http: Http,
    control: ControlClient<Channel>,
}

impl Asked {
    /// Finds the predictor: by its address, or in a `cluster.json`.
    pub(crate) async fn find(place: Option<&str>, predictor: Option<String>, access: &Access) -> anyhow::Result<Self> {
        let http = Http::new(access)?;
        let address = match (predictor, place) {
            (Some(address), _) => address,
            (None, Some(place)) => {
                let to = To { places: vec![place.to_owned()], ..To::default() };
                let cluster = Cluster::find(&to, &http).await?;
                cluster.predictor.ok_or_else(|| anyhow!("{place} names no predictor: name it with --predictor"))?
            }
            (None, None) => bail!("which predictor? name its address with --predictor, or a cluster.json with --to"),
        };
        let control = http.control(&address).await?;
        Ok(Self { http, control })
    }

    /// Asks one thing.
    pub(crate) async fn ask(&mut self, action: &str, deed: &Deed) -> anyhow::Result<Value> {
        let json = serde_json::to_string(deed)?;
        let request = self.http.order(ExperimentRequest { action: action.to_owned(), json })?;
        let reply = self.control.experiment(request).await.map_err(|status| match status.code() {
            Code::Unauthenticated => anyhow!("{}: name its file with --token-file", status.message()),
            Code::Unimplemented => anyhow!("the predictor is too old to know of experiments"),
            Code::OutOfRange => anyhow!("{}: give fewer nodes or a shorter --history", status.message()),
            _ => anyhow!("{}", status.message()),
        })?;
        serde_json::from_str(&reply.into_inner().json).context("the predictor's answer is no document")
    }

    /// Waits until every node has confirmed what it was told; how long that took, or `None` when some had not in time.
    pub(crate) async fn await_confirmed(
        &mut self,
        deed: &Deed,
        since: Instant,
        within: Duration,
    ) -> anyhow::Result<(Value, Option<Duration>)> {
        loop {
            let report = self.ask("report", deed).await?;
            let is_settled = report["pending"].as_array().is_none_or(Vec::is_empty);
            let elapsed = since.elapsed();
            if is_settled || elapsed >= within {
                return Ok((report, is_settled.then_some(elapsed)));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(10);
