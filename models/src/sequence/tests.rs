//! What the sequence model promises, on worlds small enough that the best possible is known.

use candle_core::{DType, Device, Tensor};
use candle_nn::{GRUConfig, RNN, VarBuilder};
use nearcast_datasets::Map;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, ItemCatalogue, ItemRef, Result, SequenceBatch, SequenceConfig, SequenceModel, SequenceTrainer, SessionLanes,
    TrainingDevice, Vocabulary, VocabularyConfig,
};

const SESSION_LENGTH: usize = 12;

/// Sessions over numbered keys, one after another.
struct Sessions {
    keys: Vec<String>,
    events: Vec<u32>,
    starts: Vec<usize>,
}

impl Sessions {
    fn catalogue(&self, count_min: u64) -> Result<(Vocabulary, ItemCatalogue)> {
        let mut counts = vec![0; self.keys.len()];
        self.events.iter().for_each(|key| counts[*key as usize] += 1);
        let config = VocabularyConfig { count_min, token_buckets: 4_096, ..VocabularyConfig::default() };
        let vocabulary = Vocabulary::build(self.keys.iter().map(String::as_str).zip(counts.iter().copied()), &config)?;
        let items = self.keys.iter().map(|key| vocabulary.item(key)).collect();
        Ok((vocabulary, ItemCatalogue { items, counts }))
    }

    fn train(&self, config: &SequenceConfig, epochs: usize, count_min: u64) -> Result<(Vocabulary, SequenceModel)> {
        let (vocabulary, catalogue) = self.catalogue(count_min)?;
        let mut trainer = SequenceTrainer::new(config, &vocabulary, catalogue, 1)?;
        let mut batch = SequenceBatch::default();
        for _ in 0..epochs {
            let mut lanes = SessionLanes::new(&self.events, &self.starts, config.lanes, config.steps);
            while lanes.next_batch(&mut batch) {
                trainer.train_batch(&batch)?;
            }
        }
        Ok((vocabulary, trainer.finish()?))
    }
}

/// A second-order world: the next key depends on the last two, so that a model without memory cannot know it.
struct Chain {
    keys: u32,
}

impl Chain {
    /// The three keys that may follow, with probabilities 0.6, 0.25 and 0.15.
    fn followers(&self, before: u32, last: u32) -> [u32; 3] {
        let parity = before % 2;
        [1, 7, 13].map(|step| (last * 3 + step + 17 * parity) % self.keys)
    }

    /// HR@1 of whoever knows the chain.
    fn hit_rate(&self, sessions: &Sessions) -> f32 {
        let (mut hits, mut count) = (0.0, 0.0);
        for start in &sessions.starts {
            let session = &sessions.events[*start..][..SESSION_LENGTH];
            for (place, pair) in session.windows(2).enumerate() {
                let before = if place == 0 { 0 } else { session[place - 1] };
                hits += f32::from(self.followers(before, pair[0])[0] == pair[1]);
                count += 1.0;
            }
        }
        hits / count
    }

    fn sessions(&self, count: usize, length: usize, seed: u64) -> Sessions {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sessions = Sessions {
            keys: (0..self.keys).map(|key| format!("/chain/{}", char::from_u32(0x4e00 + key).unwrap_or('x'))).collect(),
            events: Vec::new(),
            starts: Vec::new(),
        };
        for _ in 0..count {
            sessions.starts.push(sessions.events.len());
            let (mut before, mut last) = (0, rng.random_range(0..self.keys));
            for _ in 0..length {
                sessions.events.push(last);
                let followers = self.followers(before, last);
                let next = match rng.random::<f32>() {
                    point if point < 0.6 => followers[0],
                    point if point < 0.85 => followers[1],
                    _ => followers[2],
                };
                (before, last) = (last, next);
            }
        }
        sessions
    }
}

fn small() -> SequenceConfig {
    SequenceConfig { embedding_width: 24, hidden_width: 32, lanes: 64, negatives: 32, ..SequenceConfig::default() }
}

/// Share of transitions whose next key is among the `k` best, and the mean negative log of what scores say.
fn hit_rate(model: &SequenceModel, vocabulary: &Vocabulary, sessions: &Sessions, k: usize) -> (f32, f32) {
    let items: Vec<ItemRef> = sessions.keys.iter().map(|key| vocabulary.item(key)).collect();
    let (mut hits, mut loss, mut count) = (0.0, 0.0, 0.0);
    let mut top = Vec::new();
    for (session, start) in sessions.starts.iter().enumerate() {
        let end = sessions.starts.get(session + 1).copied().unwrap_or(sessions.events.len());
        let mut state = model.initial_state();
        for pair in sessions.events[*start..end].windows(2) {
            model.step(&mut state, &items[pair[0] as usize]);
            let next = &items[pair[1] as usize];
            model.top(&state, k, &mut top);
            hits += f32::from(top.iter().any(|(row, _)| Some(*row) == next.row));
            loss -= model.score(&state, next);
            count += 1.0;
        }
    }
    (hits / count, loss / count)
}

#[test]
fn reaches_nearly_the_best_hit_rate_that_a_chain_allows() -> Result<()> {
    let chain = Chain { keys: 61 };
    let (train, test) = (chain.sessions(2_000, SESSION_LENGTH, 1), chain.sessions(200, SESSION_LENGTH, 2));
    let (vocabulary, model) = train.train(&small(), 6, 1)?;
    let (hit_1, loss) = hit_rate(&model, &vocabulary, &test, 1);
    let (hit_3, _) = hit_rate(&model, &vocabulary, &test, 3);
    let possible = chain.hit_rate(&test);
    assert!(hit_1 > 0.9 * possible, "HR@1 is {hit_1}, {possible} is possible");
    assert!(hit_3 > 0.95, "HR@3 is {hit_3}, 1 is possible");
    // Entropy of (0.6, 0.25, 0.15): scores are log-probabilities without being normalised.
    assert!((loss - 0.937).abs() < 0.15, "scores cost {loss} nats, 0.937 is possible");
    Ok(())
}

#[test]
fn the_smallest_widths_can_be_trained() -> Result<()> {
    let sessions = Chain { keys: 19 }.sessions(50, 8, 3);
    for (embedding_width, hidden_width) in [(1, 1), (1, 8), (8, 1)] {
        let (_, model) = sessions.train(&SequenceConfig { embedding_width, hidden_width, ..small() }, 1, 1)?;
        assert_eq!(model.config().embedding_width, embedding_width);
    }
    Ok(())
}

#[test]
fn serving_equals_candles_gru() -> Result<()> {
    let sessions = Chain { keys: 19 }.sessions(100, 8, 3);
    let (vocabulary, model) = sessions.train(&small(), 1, 1)?;
    let (weights, embedding, hidden) = (model.weights(), 24, 32);
    let tensor = |numbers: &[f32], shape: &[usize]| Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap();
    let named = [
        ("weight_ih_l0", tensor(&weights.weight_ih, &[3 * hidden, embedding])),
        ("weight_hh_l0", tensor(&weights.weight_hh, &[3 * hidden, hidden])),
        ("bias_ih_l0", tensor(&weights.bias_ih, &[3 * hidden])),
        ("bias_hh_l0", tensor(&weights.bias_hh, &[3 * hidden])),
    ];
    #[expect(clippy::disallowed_types, reason = "candle's interface")]
    let named =
        named.map(|(name, tensor)| (name.to_owned(), tensor)).into_iter().collect::<std::collections::HashMap<_, _>>();
    let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    let gru = candle_nn::gru(embedding, hidden, GRUConfig::default(), builder).unwrap();
    let items = tensor(&weights.items, &[vocabulary.len(), embedding]);
    let projection = tensor(&weights.projection, &[embedding, hidden]);
    let mut state = model.initial_state();
    let mut reference = gru.zero_state(1).unwrap();
    for row in [3, 1, 4, 1, 5] {
        model.step(&mut state, &ItemRef { row: Some(row), ..ItemRef::default() });
        reference = gru.step(&items.get(row as usize).unwrap().unsqueeze(0).unwrap(), &reference).unwrap();
    }
    let scores = reference.h().matmul(&projection.t().unwrap()).unwrap().matmul(&items.t().unwrap()).unwrap();
    let scores: Vec<f32> = scores.flatten_all().unwrap().to_vec1().unwrap();
    for (row, expected) in (0..).zip(scores) {
        let found = model.score(&state, &ItemRef { row: Some(row), ..ItemRef::default() });
        let expected = expected + weights.item_biases[row as usize];
        assert!((found - expected).abs() < 1e-5, "row {row}: {found} instead of {expected}");
    }
    Ok(())
}

#[test]
fn the_same_seed_and_sessions_give_the_same_bytes() -> Result<()> {
    let sessions = Chain { keys: 31 }.sessions(300, 8, 4);
    let bytes = || {
        let (_, model) = sessions.train(&small(), 1, 1)?;
        Ok::<_, Error>(model.weights().clone())
    };
    let (first, second) = (bytes()?, bytes()?);
    assert!(first == second);
    Ok(())
}

/// Learns from the first batches of an epoch, and then from the others.
fn learn(trainer: &mut SequenceTrainer, sessions: &Sessions, range: std::ops::Range<usize>) -> Result<f32> {
    let mut lanes = SessionLanes::new(&sessions.events, &sessions.starts, trainer.config.lanes, trainer.config.steps);
    let mut batch = SequenceBatch::default();
    let mut loss = 0.0;
    for number in 0..range.end {
        if lanes.next_batch(&mut batch) && range.contains(&number) {
            loss = trainer.train_batch(&batch)?;
        }
    }
    Ok(loss)
}

#[test]
fn training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped() -> Result<()> {
    let sessions = Chain { keys: 31 }.sessions(300, 8, 9);
    // Some keys have no row of their own.
    let (vocabulary, catalogue) = sessions.catalogue(60)?;
    let mut trainer = SequenceTrainer::new(&small(), &vocabulary, catalogue.clone(), 1)?;
    for stop in [0, 3] {
        learn(&mut trainer, &sessions, 0..stop)?;
        let checkpoint = trainer.checkpoint()?;
        let mut restored = SequenceTrainer::restore(&small(), &vocabulary, catalogue.clone(), &checkpoint)?;
        assert_eq!(restored.step_count(), stop as u64);
        assert!(restored.checkpoint()? == checkpoint);
        let losses = [&mut trainer, &mut restored].map(|trainer| learn(trainer, &sessions, stop..7).unwrap());
        assert_eq!(losses[0].to_bits(), losses[1].to_bits());
        assert!(trainer.checkpoint()? == restored.checkpoint()?);
        trainer = SequenceTrainer::new(&small(), &vocabulary, catalogue.clone(), 1)?;
    }
    Ok(())
}

#[test]
fn a_checkpoint_of_something_else_is_refused() -> Result<()> {
    let sessions = Chain { keys: 31 }.sessions(300, 8, 9);
    let (vocabulary, catalogue) = sessions.catalogue(1)?;
    let mut trainer = SequenceTrainer::new(&small(), &vocabulary, catalogue.clone(), 1)?;
    learn(&mut trainer, &sessions, 0..2)?;
    let checkpoint = trainer.checkpoint()?;
    let reason = |config: &SequenceConfig, catalogue: &ItemCatalogue, bytes: &[u8]| match SequenceTrainer::restore(
        config,
        &vocabulary,
        catalogue.clone(),
        bytes,
    ) {
        Err(Error::Checkpoint { reason }) => reason,
        other => format!("{other:?}"),
    };
    let mut damaged = checkpoint.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut counted = catalogue.clone();
    counted.counts[3] += 1;
    let other = SequenceConfig { negatives: 31, ..small() };
    for (found, expected) in [
        (reason(&small(), &catalogue, &damaged), "damaged"),
        (reason(&small(), &catalogue, &checkpoint[..last]), ""),
        (reason(&small(), &catalogue, b"{}"), ""),
        (reason(&small(), &counted, &checkpoint), "other keys"),
        (reason(&other, &catalogue, &checkpoint), "another configuration"),
    ] {
        assert!(found.contains(expected) && !found.starts_with("Ok"), "{found}");
    }
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_byte() -> Result<()> {
    let sessions = Chain { keys: 61 }.sessions(400, 9, 10);
    let (vocabulary, catalogue) = sessions.catalogue(60)?;
    // Wide enough for several tasks of every kind.
    let config = SequenceConfig { lanes: 100, steps: 3, embedding_width: 48, ..small() };
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = SequenceTrainer::new(&config, &vocabulary, catalogue.clone(), 1)?;
            learn(&mut trainer, &sessions, 0..8)?;
            trainer.checkpoint()
        })
    };
    let one = bytes(1)?;
    for threads in [2, 3, 8] {
        assert!(bytes(threads)? == one, "{threads} threads");
    }
    Ok(())
}

/// Without the feature `cuda` the device is refused, without a GPU it fails to open; with both it learns the same.
#[test]
fn a_gpu_learns_what_the_cpu_learns() -> Result<()> {
    let sessions = Chain { keys: 31 }.sessions(300, 8, 11);
    let (vocabulary, catalogue) = sessions.catalogue(1)?;
    let config = SequenceConfig { device: TrainingDevice::Cuda, ..small() };
    let mut cpu = SequenceTrainer::new(&small(), &vocabulary, catalogue.clone(), 1)?;
    match SequenceTrainer::new(&config, &vocabulary, catalogue, 1) {
        Ok(mut gpu) => {
            for batches in [0..1, 1..5] {
                let (here, there) =
                    (learn(&mut cpu, &sessions, batches.clone())?, learn(&mut gpu, &sessions, batches)?);
                assert!((here - there).abs() < 1e-3 * here.abs(), "{here} on the CPU, {there} on the GPU");
            }
        }
        Err(Error::Config { field: "sequence.device", .. }) if !cfg!(feature = "cuda") => {}
        Err(Error::Learn { .. }) if cfg!(feature = "cuda") => {}
        Err(other) => return Err(other),
    }
    Ok(())
}

#[test]
fn a_key_never_seen_is_expected_where_its_siblings_are() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let topics = ["/news", "/shop", "/maps"];
    let mut sessions = Sessions { keys: Vec::new(), events: Vec::new(), starts: Vec::new() };
    let mut by_topic = Map::<usize, Vec<u32>>::default();
    for (topic, folder) in topics.into_iter().enumerate() {
        for page in 0..20_u32 {
            by_topic.entry(topic).or_default().push(u32::try_from(sessions.keys.len()).unwrap());
            sessions.keys.push(format!("{folder}/{}.html", char::from_u32(0x4e00 + page).unwrap_or('x')));
        }
    }
    for session in 0..1_500 {
        sessions.starts.push(sessions.events.len());
        let keys = &by_topic[&(session % topics.len())];
        sessions.events.extend((0..6).map(|_| keys.choose(&mut rng).copied().unwrap_or(0)));
    }
    let (vocabulary, model) = sessions.train(&small(), 3, 1)?;
    let mut state = model.initial_state();
    let mut wins = 0;
    for page in 0..20 {
        model.step(&mut state, &vocabulary.item(&sessions.keys[page]));
        let score = |key: &str| {
            assert_eq!(vocabulary.row(key), None);
            model.score(&state, &vocabulary.item(key))
        };
        let (sibling, stranger) = (score("/news/breaking.html"), score("/shop/breaking.html"));
        wins += u32::from(sibling > stranger + 1.0);
    }
    assert!(wins >= 19, "the sibling won {wins} times of 20");
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_is_an_error_naming_the_step() -> Result<()> {
    let sessions = Chain { keys: 19 }.sessions(100, 8, 6);
    let config = SequenceConfig { row_learning_rate: 1e30, ..small() };
    match sessions.train(&config, 1, 1) {
        Err(Error::LossNotFinite { model: "sequence", step, .. }) => assert!((1..=3).contains(&step), "step {step}"),
        other => panic!("expected a refusal, not {:?}", other.map(|_| ())),
    }
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_changes_no_weight() -> Result<()> {
    let sessions = Chain { keys: 19 }.sessions(100, 8, 6);
    let config = SequenceConfig { row_learning_rate: 1e30, ..small() };
    let (vocabulary, catalogue) = sessions.catalogue(1)?;
    let mut trainer = SequenceTrainer::new(&config, &vocabulary, catalogue, 1)?;
    let mut lanes = SessionLanes::new(&sessions.events, &sessions.starts, config.lanes, config.steps);
    let mut batch = SequenceBatch::default();
    while lanes.next_batch(&mut batch) {
        let (before, step) = (trainer.snapshot()?, trainer.step_count());
        if trainer.train_batch(&batch).is_err() {
            assert_eq!(trainer.step_count(), step);
            assert!(trainer.snapshot()?.weights() == before.weights());
            return Ok(());
        }
    }
    panic!("every loss was finite");
}

#[test]
fn searching_cells_finds_nearly_what_searching_everything_finds() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    // Keys in 40 groups that follow each other: embeddings cluster as those of a site's sections do.
    let (groups, per_group) = (40_u32, 50_u32);
    let mut sessions = Sessions {
        keys: (0..groups * per_group).map(|key| format!("/{}/{key}", key / per_group)).collect(),
        events: Vec::new(),
        starts: Vec::new(),
    };
    for _ in 0..3_000 {
        sessions.starts.push(sessions.events.len());
        let group = rng.random_range(0..groups);
        sessions.events.extend((0..8).map(|_| group * per_group + rng.random_range(0..per_group)));
    }
    let exact = SequenceConfig { embedding_width: 16, hidden_width: 16, ..small() };
    let (vocabulary, everything) = sessions.train(&exact, 1, 1)?;
    let (_, cells) = sessions.train(&SequenceConfig { exact_rows_max: 100, cells_probed: 0.15, ..exact }, 1, 1)?;
    let (mut found, mut wanted, mut looked_at) = (0, 0, 0);
    for start in sessions.starts.iter().take(100) {
        let mut state = everything.initial_state();
        sessions.events[*start..start + 4].iter().for_each(|key| {
            everything.step(&mut state, &vocabulary.item(&sessions.keys[*key as usize]));
        });
        let (mut best, mut nearby) = (Vec::new(), Vec::new());
        everything.top(&state, 20, &mut best);
        cells.top(&state, vocabulary.len(), &mut nearby);
        looked_at += nearby.len();
        nearby.truncate(20);
        wanted += best.len();
        found += best.iter().filter(|row| nearby.contains(row)).count();
    }
    let recall = f64::from(u32::try_from(found).unwrap()) / f64::from(u32::try_from(wanted).unwrap());
    assert!(recall > 0.95, "recall@20 is {recall}");
    assert!(looked_at < 100 * vocabulary.len() / 3, "looked at {looked_at} rows in 100 searches");
    Ok(())
}
