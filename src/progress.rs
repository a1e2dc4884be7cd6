//! Progress bars for training, evaluating and replaying: on terminals only, always on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearcast_trainer::{Progress, replay::ReplayProgress};

/// Shows each [`Progress`] as one bar at a time; on anything but a terminal it shows nothing.
#[derive(Debug)]
pub(crate) struct TrainingBar {
    bar: ProgressBar,
    stage: String,
}

impl TrainingBar {
    /// A bar that appears with the first progress.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        bar.enable_steady_tick(TICK);
        Self { bar, stage: String::new() }
    }

    /// Shows one step.
    pub(crate) fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Reading { rows, total } => {
                self.counted("reading", rows, total, "rows");
            }
            Progress::Stage(name) => {
                self.begin(name, None, "");
            }
            Progress::Counting { parts, total } => {
                // Where no bar is shown, `-v` tells the same.
                tracing::info!(parts, total, "the cluster counts co-access");
                self.counted("counting co-access on the cluster", parts, Some(total), "parts");
            }
            Progress::Fitting { epoch, requests, total, loss } => {
                self.counted(&format!("epoch {epoch}"), requests, Some(total), "requests");
                self.bar.set_message(format!("loss {loss:.4}"));
            }
            Progress::Epoch(report) => {
                let metrics = report.validation.without_repeats;
                // Where no bar is shown, `-v` tells the same.
                tracing::info!(
                    epoch = report.epoch,
                    loss = report.loss,
                    hit_rate_20 = metrics.hit_rate_20,
                    mrr_20 = metrics.mrr_20,
                    "a pass ended"
                );
                self.bar.println(format!(
                    "epoch {:>2}  loss {:.4}  validation hit rate@20 {:.4}  MRR@20 {:.4}",
                    report.epoch, report.loss, metrics.hit_rate_20, metrics.mrr_20
                ));
            }
            Progress::Ranking { predictions, total } => {
                self.counted("ranking", predictions, Some(total), "predictions");
            }
            // Newer kinds of progress are not worth failing for.
            _ => {}
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn counted(&mut self, stage: &str, done: u64, total: Option<u64>, unit: &str) {
        if self.stage != stage {
            self.begin(stage, total, unit);
        }
        self.bar.set_position(done);
    }

    fn begin(&mut self, stage: &str, total: Option<u64>, unit: &str) {
        stage.clone_into(&mut self.stage);
        let template = match (total, unit) {
            (_, "") => "{spinner} {prefix}".to_owned(),
            (None, unit) => format!("{{spinner}} {{prefix}} {{human_pos}} {unit} {{per_sec}} {{msg}}"),
            (Some(_), unit) => {
                format!("{{prefix}} {{bar:30}} {{percent:>3}} % {{human_pos}} {unit} {{per_sec}} eta {{eta}} {{msg}}")
            }
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        self.bar.set_message("");
        self.bar.set_prefix(self.stage.clone());
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }
}

/// A bar that counts what is done of what is known so far; on anything but a terminal it shows nothing.
pub(crate) fn counting_bar(unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), target());
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}, {{eta}} left"))
    {
        bar.set_style(style);
    }
    bar
}

/// Shows how far a replay is, over all its cells; on anything but a terminal it shows nothing.
#[derive(Debug)]
pub(crate) struct ReplayBar(ProgressBar);

impl ReplayBar {
    /// A bar that appears with the first progress.
    pub(crate) fn new() -> Self {
        Self(ProgressBar::with_draw_target(None, target()))
    }

    /// Shows one step.
    pub(crate) fn show(&self, progress: ReplayProgress) {
        match progress {
            ReplayProgress::Reading(rows) => self.0.set_message(format!("{rows} requests read")),
            ReplayProgress::Total(rows) => {
                self.0.set_length(rows);
                let template = "{bar:30} {human_pos}/{human_len} requests, {per_sec}, {eta} left";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.0.set_style(style);
                }
            }
            ReplayProgress::Played(rows) => self.0.inc(rows),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Stderr, which hides bars itself when it is no terminal; in continuous integration there is nobody to watch them.
fn target() -> ProgressDrawTarget {
    if std::env::var_os("CI").is_some() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}

/// How often the bar moves without news.
const TICK: Duration = Duration::from_millis(120);
