//! Experiment tracking: what a training tells TensorBoard and MLflow while it runs and when it ends.

mod client;
mod crc32c;
mod mlflow;
mod tensorboard;

use std::{path::PathBuf, str::FromStr};

use anyhow::Context;
use nearcast_trainer::{MetricRow, Progress, RawTrainConfig, TrainMetrics};

use self::{mlflow::Mlflow, tensorboard::EventFile};
use crate::{commands::now, output::note};

/// Where a training is tracked: `tb:DIR` or `mlflow+http://HOST:PORT[/EXPERIMENT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server that speaks MLflow's REST API, and the experiment's name.
    Mlflow { server: String, experiment: String },
    /// The folder of a TensorBoard event file.
    TensorBoard(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("tb:").filter(|dir| !dir.is_empty()) {
            return Ok(Self::TensorBoard(dir.into()));
        }
        let url = text.strip_prefix("mlflow+").filter(|url| url.starts_with("http://") || url.starts_with("https://"));
        let url = url.ok_or_else(|| format!("`{text}` is neither tb:DIR nor mlflow+http://HOST:PORT[/EXPERIMENT]"))?;
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (host, experiment) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains(['?', '#', '@']) {
            return Err(format!("`{text}` names no server"));
        }
        let experiment = if experiment.is_empty() { "nearcast" } else { experiment };
        Ok(Self::Mlflow { server: format!("{scheme}://{host}"), experiment: experiment.to_owned() })
    }
}

/// Everything a training is tracked with. A tracker that fails is reported and never stops the training.
#[derive(Debug, Default)]
pub(crate) struct Trackers {
    events: Vec<EventFile>,
    servers: Vec<Mlflow>,
    epochs: usize,
    /// Requests learned from in the passes that ended.
    steps: u64,
    /// When the running loss is told next, in requests learned from.
    next_loss: u64,
}

impl Trackers {
    /// Begins a run with every target.
    ///
    /// # Errors
    /// When an event file cannot be made; a server that is away is no error.
    pub(crate) fn begin(targets: &[Target], config: &RawTrainConfig, logs: &[String]) -> anyhow::Result<Self> {
        let (mut trackers, params) = (Self::default(), params(config)?);
        for target in targets {
            match target {
                Target::Mlflow { server, experiment } => {
                    trackers.servers.push(Mlflow::begin(server, experiment, &params, logs));
                }
                Target::TensorBoard(dir) => {
                    let begin = || {
                        let mut events = EventFile::create(dir, now())?;
                        let text = params.iter().map(|(name, value)| format!("    {name} = {value}\n"));
                        events.text(now(), "config", &text.collect::<String>())?;
                        Ok::<_, std::io::Error>(events)
                    };
                    let failed = || format!("cannot write TensorBoard events to {}", dir.display());
                    trackers.events.push(begin().with_context(failed)?);
                }
            }
        }
        Ok(trackers)
    }

    /// Tells every tracker what there is to tell of one step.
    pub(crate) fn hear(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Epoch(report) => {
                self.steps += report.requests;
                self.epochs = report.epoch;
                self.tell(&report.rows(self.steps));
            }
            // The last fit, on the whole training range, begins again with pass 1.
            Progress::Fitting { epoch, requests, total, loss } if epoch == self.epochs + 1 => {
                let step = self.steps + requests;
                if step >= self.next_loss {
                    self.next_loss = step + (total / LOSSES_PER_EPOCH).max(1);
                    let epoch = u32::try_from(self.epochs).unwrap_or(u32::MAX);
                    self.tell(&[MetricRow { epoch, step, name: "train/running_loss".to_owned(), value: loss }]);
                }
            }
            _ => {}
        }
    }

    /// Ends the run well, with the finished model's numbers and the version's files.
    pub(crate) fn finish(mut self, metrics: &TrainMetrics, version: &str, files: &[(&'static str, Vec<u8>)]) {
        self.tell(&metrics.final_rows());
        let events: Vec<_> = self.events.iter().map(|events| events.path().display().to_string()).collect();
        events.iter().for_each(|path| note(&format!("tracked in {path}")));
        for server in self.servers {
            note(&server.finish(Ok(version.to_owned()), files.to_vec()));
        }
    }

    /// Ends the run as failed.
    pub(crate) fn fail(self, reason: &str) {
        for server in self.servers {
            note(&server.finish(Err(reason.to_owned()), Vec::new()));
        }
    }

    fn tell(&mut self, rows: &[MetricRow]) {
        self.events.retain_mut(|events| match events.scalars(now(), rows) {
            Ok(()) => true,
            Err(error) => {
                note(&format!("warning: {} takes no more events: {error}", events.path().display()));
                false
            }
        });
        self.servers.iter_mut().for_each(|server| server.tell(now(), rows));
    }
}

/// Every value of the configuration by its dotted name.
fn params(config: &RawTrainConfig) -> anyhow::Result<Vec<(String, String)>> {
    let mut params = Vec::new();
    flatten("", &serde_json::to_value(config)?, &mut params);
    Ok(params)
}

fn flatten(name: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(field, value)| {
            let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
            flatten(&name, value, into);
        }),
        serde_json::Value::String(text) => into.push((name.to_owned(), text.clone())),
        serde_json::Value::Null => {}
        value => into.push((name.to_owned(), value.to_string())),
    }
}

/// How often the running loss is told within a pass.
const LOSSES_PER_EPOCH: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_folders_or_servers() {
        assert_eq!("tb:runs/a".parse(), Ok(Target::TensorBoard("runs/a".into())));
        let server = |server: &str, experiment: &str| {
            Ok(Target::Mlflow { server: server.to_owned(), experiment: experiment.to_owned() })
        };
        assert_eq!("mlflow+http://h:5000".parse(), server("http://h:5000", "nearcast"));
        assert_eq!("mlflow+https://h/team/x".parse(), server("https://h", "team/x"));
        for text in ["", "tb:", "runs", "mlflow+ftp://h", "mlflow+http://", "http://h", "mlflow+http:///x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_value_of_the_configuration_is_a_parameter() {
        let params = params(&RawTrainConfig::default()).unwrap();
        let of = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((of("fit.epochs_max"), of("model.sequence.lanes")), (Some("10"), Some("128")));
    }
}
