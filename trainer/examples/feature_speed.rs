//! Prints how fast features are built from a log: events per second by stage, and the most memory held.
//!
//! `feature_speed [--json] [--no-sessions] [--memory-mib N] [--partitions N] [--engine ENGINE] [--shared FOLDER] LOG…`

use std::{
    error::Error,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use nearcast_datasets::LogSource;
use nearcast_trainer::{FeatureSpeed, RawTrainConfig, TrainConfig, measure_features};

struct Arguments {
    json: bool,
    sessions: bool,
    raw: RawTrainConfig,
    logs: Vec<LogSource>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut found = Arguments { json: false, sessions: true, raw: RawTrainConfig::default(), logs: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number =
            || -> Result<usize, Box<dyn Error>> { Ok(words.next().ok_or("a number is missing")?.parse()?) };
        match word.as_str() {
            "--json" => found.json = true,
            "--no-sessions" => found.sessions = false,
            "--memory-mib" => found.raw.features.memory_mib = number()?,
            "--partitions" => found.raw.features.partitions = number()?,
            "--engine" => found.raw.features.engine = words.next().ok_or("an engine is missing")?,
            "--shared" => found.raw.features.shared = Some(words.next().ok_or("a folder is missing")?),
            log => found.logs.push(LogSource::parse(log)?),
        }
    }
    if found.logs.is_empty() { Err("name a log".into()) } else { Ok(found) }
}

/// The most memory that this process ever held, in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

/// The processor time that this process took so far; zero where the system does not tell.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|tick| tick.parse::<u64>().ok());
    // Linux counts processor time in hundredths of a second.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn text(speed: &FeatureSpeed) {
    let events = speed.events as f64;
    println!(
        "{} events, {} keys in the vocabulary, {:?} sessions",
        speed.events, speed.vocabulary_rows, speed.sessions
    );
    println!("{} keys followed by clients, {} in regions", speed.client_keys, speed.region_keys);
    let line = |name: &str, seconds: f64, processor_seconds: f64| {
        let rate = events / seconds / 1e6;
        println!(
            "{name:<12} {seconds:>8.2} s {rate:>9.2} million events/s {processor_seconds:>8.2} s of processor time"
        );
    };
    for stage in &speed.stages {
        line(stage.name, stage.seconds, stage.processor_seconds);
    }
    let (seconds, processor_seconds) = totals(speed);
    line("all", seconds, processor_seconds);
    if let Some(peak_kib) = peak_memory() {
        println!("{} MiB held at most", peak_kib / 1_024);
    }
}

fn totals(speed: &FeatureSpeed) -> (f64, f64) {
    let stages = speed.stages.iter();
    stages.fold((0.0, 0.0), |sum, stage| (sum.0 + stage.seconds, sum.1 + stage.processor_seconds))
}

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn run() -> Result<(), Box<dyn Error>> {
    let Arguments { json, sessions, raw, logs } = arguments()?;
    let config = TrainConfig::try_from(raw)?;
    #[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
    let start = Instant::now();
    let speed = measure_features(&logs, &config, sessions, &|| (start.elapsed(), processor_time()))?;
    if !json {
        text(&speed);
        return Ok(());
    }
    let (seconds, processor_seconds) = totals(&speed);
    let mut report = serde_json::to_value(&speed)?;
    report["schema"] = "nearcast.feature-speed/1".into();
    report["events_per_second"] = (speed.events as f64 / seconds).into();
    report["processor_seconds"] = processor_seconds.into();
    report["peak_memory_bytes"] = peak_memory().map(|kib| kib * 1_024).into();
    println!("{report:#}");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "an example says why it fails")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("feature_speed: {error}");
            ExitCode::FAILURE
        }
    }
}
