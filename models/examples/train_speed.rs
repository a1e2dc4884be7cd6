//! How fast the sequence model trains, by size of vocabulary.
//!
//! ```text
//! cargo run --release -p nearcast-models --example train_speed -- [--json] [--seconds S] [--rounds R] [--keys K,K]
//!     [--tokens yes|no|both] [--device cpu|cuda] [--width W] [--lanes L] [--dump FOLDER]
//! ```
//!
//! Every vocabulary is trained in turn, S seconds (1) at a time, R rounds (5); the figures are medians over rounds, and
//! the lowest step time of a round and the processor time of a step, which others on the same machine disturb less. Keys
//! are requested by Zipf's law with exponent 0.8, in sessions of 8 requests on average; with tokens, a key has six path
//! tokens besides its own row, without it is its row alone, as in GRU4Rec. `--dump` writes the batches instead of
//! training, for bench/train/pytorch.py. The network is the default one, or W wide in embedding and state, or trains L
//! sessions side by side. Threads are rayon's: `RAYON_NUM_THREADS`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use nearcast_models::{
    Error, ItemCatalogue, ItemRef, SequenceBatch, SequenceConfig, SequenceTrainer, SessionLanes, TrainingDevice,
    Vocabulary, VocabularyConfig,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const EXPONENT: f64 = 0.8;
/// Requests that counts are stated for.
const REQUESTS: f64 = 1e8;
const SESSION_MEAN: f64 = 8.0;
const BATCHES: usize = 400;
const WARM_UP: usize = 20;
/// Path tokens of the keys that have any.
const TOKENS: usize = 6;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

struct Arguments {
    json: bool,
    seconds: f64,
    rounds: usize,
    keys: Vec<u32>,
    tokens: Vec<bool>,
    dump: Option<String>,
    config: SequenceConfig,
}

/// A vocabulary and batches to learn from.
struct World {
    keys: u32,
    tokens: bool,
    vocabulary: Vocabulary,
    catalogue: ItemCatalogue,
    batches: Vec<SequenceBatch>,
}

/// A world under training.
struct Run {
    world: World,
    trainer: SequenceTrainer,
    next: usize,
    /// Per round: milliseconds a step.
    step_times: Vec<f64>,
    steps: f64,
    /// Processor time of all steps, in milliseconds.
    processor_time: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let mut worlds = Vec::new();
    for tokens in &arguments.tokens {
        for keys in &arguments.keys {
            worlds.push(World::new(*keys, *tokens, &arguments.config)?);
        }
    }
    match &arguments.dump {
        Some(folder) => worlds.iter().try_for_each(|world| world.dump(Path::new(folder), &arguments.config)),
        None => measure(&arguments, worlds),
    }
}

fn measure(arguments: &Arguments, worlds: Vec<World>) -> Result<()> {
    let mut runs = worlds.into_iter().map(|world| Run::start(world, &arguments.config)).collect::<Result<Vec<_>>>()?;
    for _ in 0..arguments.rounds {
        for run in &mut runs {
            run.round(Duration::from_secs_f64(arguments.seconds))?;
        }
    }
    let events = (arguments.config.lanes * arguments.config.steps) as f64;
    let mut out = io::stdout().lock();
    let mut rows = Vec::new();
    for run in &mut runs {
        run.step_times.sort_by(f64::total_cmp);
        let step = run.step_times[run.step_times.len() / 2];
        rows.push((
            run.world.keys,
            run.world.tokens,
            1e3 * events / step,
            step,
            run.step_times[0],
            run.processor_time / run.steps,
        ));
    }
    if arguments.json {
        let rows = rows.iter().map(|(keys, tokens, rate, step, lowest, processor)| {
            json!({
                "keys": keys, "tokens": tokens, "events_per_second": rate.round(), "step_ms": step,
                "step_ms_lowest": lowest, "step_processor_ms": processor,
            })
        });
        writeln!(out, "{}", json!({ "rows": rows.collect::<Vec<_>>() }))?;
        return Ok(());
    }
    writeln!(
        out,
        "{:>9}  {:>6}  {:>9}  {:>7}  {:>6}  {:>9}  to the first",
        "keys", "tokens", "events/s", "ms/step", "lowest", "processor"
    )?;
    for (keys, tokens, rate, step, lowest, processor) in &rows {
        let first = rows.iter().find(|row| row.1 == *tokens).map_or(*step, |row| row.3);
        let tokens = if *tokens { TOKENS } else { 0 };
        writeln!(
            out,
            "{keys:>9}  {tokens:>6}  {rate:>9.0}  {step:>7.2}  {lowest:>6.2}  {processor:>9.2}  {:.2}",
            step / first
        )?;
    }
    Ok(())
}

impl Run {
    fn start(world: World, config: &SequenceConfig) -> Result<Self> {
        let trainer = SequenceTrainer::new(config, &world.vocabulary, world.catalogue.clone(), 1)?;
        let mut run = Self { world, trainer, next: 0, step_times: Vec::new(), steps: 0.0, processor_time: 0.0 };
        for _ in 0..WARM_UP {
            run.step()?;
        }
        Ok(run)
    }

    #[expect(clippy::disallowed_methods, reason = "measures speed")]
    fn round(&mut self, time: Duration) -> Result<()> {
        let (start, start_processor, mut steps) = (Instant::now(), processor_time(), 0.0);
        while start.elapsed() < time {
            self.step()?;
            steps += 1.0;
        }
        self.step_times.push(start.elapsed().as_secs_f64() * 1e3 / steps);
        self.steps += steps;
        self.processor_time += processor_time() - start_processor;
        Ok(())
    }

    fn step(&mut self) -> Result<f32, Error> {
        self.next = (self.next + 1) % self.world.batches.len();
        self.trainer.train_batch(&self.world.batches[self.next])
    }
}

/// The processor time of this process so far, in milliseconds; zero where there is no Linux to ask.
fn processor_time() -> f64 {
    const MS_PER_TICK: f64 = 10.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: user and system time are the 12th and 13th of the words.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    words.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * MS_PER_TICK
}

impl World {
    fn new(keys: u32, tokens: bool, config: &SequenceConfig) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sum = 0.0;
        let weights: Vec<f64> = (0..keys).map(|key| f64::from(key + 1).powf(-EXPONENT)).collect();
        let cumulative: Vec<f64> = weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let counts: Vec<u64> = weights.iter().map(|weight| 2 + (REQUESTS * weight / sum) as u64).collect();
        let names: Vec<String> =
            (0..keys).map(|key| format!("/part-{}/topic-{}/page-{key}.html", key % 31, key % 997)).collect();
        let named = names.iter().map(String::as_str).zip(counts.iter().copied());
        let vocabulary = Vocabulary::build(named, &VocabularyConfig::default())?;
        let item = |name: &String| match tokens {
            true => vocabulary.item(name),
            false => ItemRef { row: vocabulary.row(name), ..ItemRef::default() },
        };
        let items = names.iter().map(item).collect();
        let (mut events, mut starts) = (Vec::new(), Vec::new());
        while events.len() < (BATCHES + 2) * config.lanes * config.steps * 5 / 4 {
            starts.push(events.len());
            loop {
                let point = rng.random::<f64>() * sum;
                let key = cumulative.partition_point(|sum| *sum <= point).min(cumulative.len() - 1);
                events.push(u32::try_from(key)?);
                if rng.random_bool(1.0 / SESSION_MEAN) {
                    break;
                }
            }
        }
        let mut lanes = SessionLanes::new(&events, &starts, config.lanes, config.steps);
        let (mut batches, mut batch) = (Vec::new(), SequenceBatch::default());
        while batches.len() < BATCHES && lanes.next_batch(&mut batch) && batch.event_count() == batch.cells.len() {
            batches.push(batch.clone());
        }
        Ok(Self { keys, tokens, vocabulary, catalogue: ItemCatalogue { items, counts }, batches })
    }

    /// Writes a line of JSON, then numbers of 32 bits: counts, tokens of each key, and per batch the inputs, the targets
    /// and whether sessions start.
    fn dump(&self, folder: &Path, config: &SequenceConfig) -> Result<()> {
        let token_count = if self.tokens { TOKENS } else { 0 };
        let head = json!({
            "keys": self.keys, "tokens": token_count, "token_buckets": self.vocabulary.token_buckets(),
            "lanes": config.lanes, "steps": config.steps, "negatives": config.negatives,
            "negative_power": config.negative_power, "embedding_width": config.embedding_width,
            "hidden_width": config.hidden_width,
        });
        let mut bytes = format!("{head}\n").into_bytes();
        let mut write = |number: u32| bytes.extend_from_slice(&number.to_le_bytes());
        for count in &self.catalogue.counts {
            write(u32::try_from(*count)?);
        }
        for item in &self.catalogue.items {
            // Two tokens of a key may share a bucket; its first then stands in for the second.
            let tokens = item.tokens.as_slice();
            (0..token_count).for_each(|place| write(*tokens.get(place).unwrap_or(&tokens[0])));
        }
        for batch in &self.batches {
            batch.cells.iter().flatten().for_each(|cell| write(cell.input));
            batch.cells.iter().flatten().for_each(|cell| write(cell.target));
            batch.cells.iter().flatten().for_each(|cell| write(u32::from(cell.starts_session)));
        }
        let name = format!("{}-{token_count}.batches", self.keys);
        Ok(fs::write(folder.join(name), bytes)?)
    }
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            json: false,
            seconds: 1.0,
            rounds: 5,
            keys: vec![10_000, 1_000_000],
            tokens: vec![false, true],
            dump: None,
            config: SequenceConfig::default(),
        };
        while let Some(word) = words.next() {
            if word == "--json" {
                arguments.json = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--seconds" => arguments.seconds = value.parse()?,
                "--rounds" => arguments.rounds = value.parse::<usize>()?.max(1),
                "--keys" => arguments.keys = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--tokens" => {
                    arguments.tokens = match value.as_str() {
                        "yes" => vec![true],
                        "no" => vec![false],
                        _ => vec![false, true],
                    };
                }
                "--device" => {
                    arguments.config.device = if value == "cuda" { TrainingDevice::Cuda } else { TrainingDevice::Cpu };
                }
                "--width" => {
                    let width = value.parse()?;
                    arguments.config =
                        SequenceConfig { embedding_width: width, hidden_width: width, ..arguments.config };
                }
                "--lanes" => arguments.config.lanes = value.parse()?,
                "--dump" => arguments.dump = Some(value),
                _ => return Err(format!("{word} is not an option").into()),
            }
        }
        Ok(arguments)
    }
}
