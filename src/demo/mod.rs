//! The first minute: a bundled real log is profiled, trained on, and its later part evaluated and replayed.

mod findings;
mod page;
mod place;
mod text;

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::Context;
use nearcast_datasets::{LogSource, Profile};
use nearcast_models::{Model, Registry};
use nearcast_trainer::{
    EvaluateOptions, Evaluation, PublishOptions, Published, RawTrainConfig, TrainConfig, evaluate,
    replay::{LogColumns, PrefetchKind, ReplayConfig, ReplayReport, replay_columns, write_document},
    train,
};
use serde::Serialize;

use self::findings::Finding;
pub(crate) use self::{place::Place, text::text};
use crate::{
    commands::{measure_profile, now},
    output::note,
    progress::{ReplayBar, TrainingBar},
};

/// Everything that a demo found. The field names are a contract.
#[derive(Debug, Serialize)]
pub(crate) struct DemoReport {
    /// `nearcast.demo/1`.
    schema: &'static str,
    /// The folder that holds log, models and report, when it was kept.
    dir: Option<PathBuf>,
    /// The report's page.
    report: PathBuf,
    /// What the log is like.
    profile: Profile,
    /// How the model was trained and published.
    training: Published,
    /// The published version, loaded again, on the later part.
    evaluation: Evaluation,
    /// The later part: without prefetching, learning online only, and with the trained version.
    replay: ReplayReport,
    /// What is better and what is worse than which baseline.
    findings: Vec<Finding>,
    /// How long each stage took; differs from run to run.
    seconds: StageSeconds,
}

/// Seconds of real time by stage.
#[derive(Debug, Default, Serialize)]
struct StageSeconds {
    profile: f64,
    train: f64,
    evaluate: f64,
    replay: f64,
}

impl StageSeconds {
    fn total(&self) -> f64 {
        self.profile + self.train + self.evaluate + self.replay
    }
}

/// Runs all stages and writes the report.
pub(crate) fn play(place: &Place) -> anyhow::Result<DemoReport> {
    let log = place.write_log()?;
    let mut seconds = StageSeconds::default();
    note("[1/4] profile: half a day of requests to a web server, 1 August 1995");
    let profile = timed(&mut seconds.profile, || measure_profile(&log))?;
    note(&text::profile_line(&profile));

    note("[2/4] train: on the first 70 % of the time span, at most 4 passes to stay within a minute");
    let registry = Registry::open(&place.registry().to_string_lossy())?;
    let training = timed(&mut seconds.train, || run_training(&log, &registry))?;
    note(&text::training_line(&training));

    note("[3/4] evaluate: which key comes next, in the part that training has not seen");
    let (_, model) = registry.load(&training.version.to_string())?;
    let model = Arc::new(model);
    let mut evaluation = timed(&mut seconds.evaluate, || run_evaluation(&log, &model))?;
    evaluation.model = Some(training.version.to_string());
    note(&text::evaluation_line(&evaluation));

    note("[4/4] replay: the same part, one cache node per region, with real sizes and transfer times");
    let replay = timed(&mut seconds.replay, || run_replays(&log, &training, &model))?;
    note(&text::replay_line(&replay));

    let (dir, report) = (place.kept().map(Into::into), place.report().to_path_buf());
    let findings = findings::of(&replay, &evaluation);
    let demo = DemoReport { schema: SCHEMA, dir, report, profile, training, evaluation, replay, findings, seconds };
    write_document(&page::page(&demo)?, &demo.report)?;
    Ok(demo)
}

fn run_training(log: &LogSource, registry: &Registry) -> anyhow::Result<Published> {
    let options = PublishOptions { now: now(), alias: Some(ALIAS.to_owned()), checkpoints: None };
    let mut bar = TrainingBar::new();
    let published = train(&config()?, std::slice::from_ref(log), registry, &options, &mut |step| bar.show(step));
    bar.finish();
    published.context("nothing was published")
}

fn run_evaluation(log: &LogSource, model: &Model) -> anyhow::Result<Evaluation> {
    let options = EvaluateOptions { config: config()?, allow_leakage: false };
    let mut bar = TrainingBar::new();
    let evaluation = evaluate(model, std::slice::from_ref(log), &options, &mut |step| bar.show(step));
    bar.finish();
    Ok(evaluation?)
}

/// Replays without prefetching, with prefetching that starts from nothing, and with the trained model. All that was
/// trained on is warm-up.
fn run_replays(log: &LogSource, training: &Published, model: &Arc<Model>) -> anyhow::Result<ReplayReport> {
    let data = &training.metrics.data;
    // Half a request more, so that rounding cannot let the last one trained on be counted.
    let warmup = (data.train_requests as f64 + 0.5) / data.requests as f64;
    let cold = ReplayConfig {
        prefetchers: vec![PrefetchKind::None, PrefetchKind::Nearcast],
        warmup,
        with_timing: false,
        ..ReplayConfig::default()
    };
    let version = Arc::from(training.version.to_string());
    let warm = ReplayConfig {
        prefetchers: vec![PrefetchKind::Nearcast],
        model: Some((version, Arc::clone(model))),
        ..cold.clone()
    };
    let bar = ReplayBar::new();
    let columns = LogColumns::read(log, cold.read, |_| ())?;
    let play = |config| replay_columns(place::LOG_NAME, &columns, config, &|step| bar.show(step));
    let (without_model, with_model) = std::thread::scope(|scope| {
        let other = scope.spawn(|| play(&warm));
        let without_model = play(&cold);
        (without_model, other.join())
    });
    bar.finish();
    let mut report = without_model?;
    let with_model = with_model.map_err(|_| anyhow::anyhow!("the replay with the trained model panicked"))??;
    report.model_version = with_model.model_version;
    report.cells.extend(with_model.cells);
    Ok(report)
}

/// The default configuration, but for the number of passes: a stranger waits a minute, not two.
fn config() -> anyhow::Result<TrainConfig> {
    let mut raw = RawTrainConfig::default();
    raw.fit.epochs_max = EPOCHS_MAX;
    Ok(raw.try_into()?)
}

/// Adds what `work` took to `seconds`.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: it only tells the user how long a stage took")]
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}

/// Most passes of the demo's training; `nearcast train` makes up to ten.
const EPOCHS_MAX: usize = 4;
const SCHEMA: &str = "nearcast.demo/1";
/// The alias that a cluster serves.
const ALIAS: &str = "champion";
