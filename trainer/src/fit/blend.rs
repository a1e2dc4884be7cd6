//! Fitting the blend: counts in one pass over the requests, then its network on examples taken from that pass.

use nearcast_datasets::{ClientId, KeyId, Map, Timestamp};
use nearcast_models::{Blend, BlendConfig, BlendExample, BlendLearning, BlendSession, TrainedBlend};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    config::BlendFitConfig,
    features::{Features, Request, TimeRange},
};

/// How the blend was fitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlendReport {
    /// Requests that its network learned from.
    pub examples: u64,
    /// Share of them whose key was among the candidates.
    pub covered_share: f64,
    /// Later requests that decided when to stop.
    pub held_out: u64,
    /// Mean loss on those after each pass over the examples, in nats.
    pub held_out_loss: Vec<f64>,
    /// The pass whose weights were kept, from 1; 0 for none.
    pub best_epoch: usize,
}

/// What the blend is fitted with.
#[derive(Debug)]
pub(crate) struct BlendPlan<'a> {
    /// Shape and bounds.
    pub(crate) config: &'a BlendConfig,
    /// Examples and passes.
    pub(crate) fit: &'a BlendFitConfig,
    /// Decides the first weights and the order of examples.
    pub(crate) seed: u64,
}

impl BlendPlan<'_> {
    /// Counts the requests of `range`, and fits the network on some of them as they looked before they came.
    pub(crate) fn fit(&self, features: &Features, range: TimeRange) -> Result<(TrainedBlend, BlendReport)> {
        let mut blend = Blend::new(self.config, self.seed)?;
        features.log.keys.iter().for_each(|(key, name)| blend.introduce(KeyId(key), name));
        let examples = self.count(features, range, &mut blend)?;
        let report = self.fit_network(&mut blend, examples)?;
        let name = |key: KeyId| features.log.keys.name(key.0).map(|name| &**name);
        Ok((blend.export(range.end, name), report))
    }

    /// Learns the counts of `range` and returns examples evenly spaced over its later part, in time order.
    fn count(&self, features: &Features, range: TimeRange, blend: &mut Blend) -> Result<Vec<BlendExample>> {
        let counts = BlendLearning { weights: false, ..BlendLearning::ALL };
        let from = range.start.after(range.end.since(range.start).mul_f64(self.fit.skipped_share));
        let later = features.count(TimeRange { start: from, end: range.end })?;
        let stride = later.div_ceil(self.fit.examples_max as u64).max(1);
        let (mut examples, mut requests) = (Vec::new(), 0_u64);
        let mut clients = Clients::new(features);
        features.for_each_request(range, |Request { at, client, region, key }| {
            let session = clients.session(client, at);
            if at >= from && session.current().is_some() {
                if requests.is_multiple_of(stride) {
                    examples.extend(blend.example(at, region, session, key));
                }
                requests += 1;
            }
            blend.learn(at, region, session, key, counts);
            session.push(key);
            Ok(())
        })?;
        Ok(examples)
    }

    /// Passes over the earlier examples until the loss on the latest ones stops falling.
    fn fit_network(&self, blend: &mut Blend, mut examples: Vec<BlendExample>) -> Result<BlendReport> {
        let kept = examples.len() - examples.len() / HELD_OUT;
        let held_out = examples.split_off(kept);
        let covered = examples.iter().filter(|example| example.is_covered()).count();
        let mut report = BlendReport {
            examples: examples.len() as u64,
            covered_share: covered as f64 / examples.len().max(1) as f64,
            held_out: held_out.len() as u64,
            ..BlendReport::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut best, mut best_loss) = (blend.ranker(), f64::INFINITY);
        for epoch in 1..=self.fit.epochs_max {
            examples.shuffle(&mut rng);
            for example in &examples {
                blend.fit(example);
            }
            let losses: f64 = held_out.iter().map(|example| f64::from(blend.loss(example))).sum();
            let loss = losses / held_out.len().max(1) as f64;
            report.held_out_loss.push(loss);
            if loss < best_loss {
                (best, best_loss, report.best_epoch) = (blend.ranker(), loss, epoch);
            } else {
                break;
            }
        }
        blend.set_ranker(&best)?;
        Ok(report)
    }
}

/// The sessions of all clients while requests are played in time order.
#[derive(Debug)]
struct Clients {
    gap: std::time::Duration,
    sessions: Map<ClientId, (Timestamp, BlendSession)>,
}

impl Clients {
    fn new(features: &Features) -> Self {
        Self { gap: features.session_gap(), sessions: Map::default() }
    }

    /// The session in which `client` asks at `at`.
    fn session(&mut self, client: ClientId, at: Timestamp) -> &mut BlendSession {
        let (last_at, session) = self.sessions.entry(client).or_insert_with(|| (at, BlendSession::default()));
        if at.since(*last_at) > self.gap {
            session.pause();
        }
        *last_at = at;
        session
    }
}

/// One of so many examples, the latest, decides when to stop.
const HELD_OUT: usize = 10;
