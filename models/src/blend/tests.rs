//! The blend against sessions whose next key is known.

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{Blend, BlendConfig, BlendLearning, BlendSession, Proposal, blend::network::Ranker};

const REGION: RegionId = RegionId(0);

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000_000).after(Duration::from_secs(second))
}

fn blend() -> Blend {
    Blend::new(&BlendConfig::default(), 1).expect("the defaults are in range")
}

/// Plays whole sessions, ten seconds a request, and learns from them.
fn play<'a>(blend: &mut Blend, sessions: impl IntoIterator<Item = &'a [u32]>) -> u64 {
    let mut second = 0;
    for keys in sessions {
        let mut session = BlendSession::default();
        for key in keys {
            blend.learn(at(second), REGION, &session, KeyId(*key), BlendLearning::ALL);
            session.push(KeyId(*key));
            second += 10;
        }
    }
    second
}

fn proposals(blend: &mut Blend, second: u64, keys: &[u32]) -> Vec<Proposal> {
    let mut session = BlendSession::default();
    keys.iter().for_each(|key| session.push(KeyId(*key)));
    let mut out = Vec::new();
    blend.propose(at(second), REGION, &session, 20, &mut out);
    out
}

/// Sessions of three topics of ten keys each; within a topic the order is random but for key 3 → 7 and 13 → 17.
fn topical(sessions: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::new();
    for _ in 0..sessions {
        let topic = 10 * rng.random_range(0..3_u32);
        let mut keys: Vec<u32> = (topic..topic + 10).filter(|key| key % 10 != 7).collect();
        keys.shuffle(&mut rng);
        keys.truncate(5);
        if let Some(place) = keys.iter().position(|key| *key == topic + 3) {
            keys.insert(place + 1, topic + 7);
        }
        all.push(keys);
    }
    all
}

#[test]
fn proposes_what_follows_and_knows_how_sure_it_is() {
    let mut blend = blend();
    let sessions = topical(2_000, 3);
    let end = play(&mut blend, sessions.iter().map(Vec::as_slice));
    let list = proposals(&mut blend, end, &[1, 3]);
    assert_eq!(list[0].key, KeyId(7), "{list:?}");
    assert!(list[0].probability > 0.8, "{list:?}");
    let list = proposals(&mut blend, end, &[12, 14]);
    assert!(list.iter().take(6).all(|proposal| (10..20).contains(&proposal.key.0)), "{list:?}");
    assert!(list[0].probability < 0.6, "nothing is sure here: {list:?}");
    let sum: f32 = list.iter().map(|proposal| proposal.probability).sum();
    assert!((0.0..=1.001).contains(&sum), "{sum}");
    let falling = list.windows(2).all(|pair| pair[0].probability >= pair[1].probability);
    assert!(falling && list.len() <= 20, "{list:?}");
}

#[test]
fn probabilities_are_calibrated_on_later_sessions() {
    let mut blend = blend();
    let end = play(&mut blend, topical(3_000, 5).iter().map(Vec::as_slice));
    let (mut claimed, mut came, mut requests) = (0.0, 0.0, 0.0);
    let mut out = Vec::new();
    for keys in topical(500, 6) {
        let mut session = BlendSession::default();
        for key in keys {
            blend.propose(at(end), REGION, &session, 1, &mut out);
            if let Some(best) = out.first() {
                claimed += f64::from(best.probability);
                came += f64::from(u8::from(best.key == KeyId(key)));
                requests += 1.0;
            }
            session.push(KeyId(key));
        }
    }
    assert!((claimed - came).abs() / requests < 0.05, "claimed {claimed}, came {came} of {requests}");
}

#[test]
fn a_session_does_not_take_its_own_requests_for_evidence() {
    let mut blend = blend();
    let end = play(&mut blend, topical(500, 3).iter().map(Vec::as_slice));
    // The same session, once learned while it went on and once only remembered.
    let keys = [40, 41, 40, 41, 40];
    let mut online = blend.clone();
    let mut session = BlendSession::default();
    for key in keys {
        let learning = BlendLearning { weights: false, ..BlendLearning::ALL };
        online.learn(at(end), REGION, &session, KeyId(key), learning);
        session.push(KeyId(key));
    }
    let mut learned = Vec::new();
    online.propose(at(end), REGION, &session, 5, &mut learned);
    let frozen = proposals(&mut blend, end, &keys);
    let probability = |list: &[Proposal]| list.iter().find(|it| it.key == KeyId(41)).map_or(0.0, |it| it.probability);
    assert!((probability(&learned) - probability(&frozen)).abs() < 0.05, "{learned:?} against {frozen:?}");
}

#[test]
fn goes_on_from_its_export_under_other_numbers() {
    let mut blend = blend();
    let end = play(&mut blend, topical(1_000, 3).iter().map(Vec::as_slice));
    let names: Vec<String> = (0..64).map(|key| format!("/{key}")).collect();
    let trained = blend.export(at(end), |key| names.get(key.0 as usize).map(String::as_str));
    let shift = |key: KeyId| KeyId(key.0 + 100);
    let number = |name: &str| name[1..].parse().ok().map(|key| shift(KeyId(key)));
    let mut again = Blend::from_trained(&BlendConfig::default(), &trained, number).expect("what was exported is sound");
    let before = proposals(&mut blend, end + 86_400, &[11, 13]);
    let after = proposals(&mut again, end + 86_400, &[111, 113]);
    // Regional favourites are not exported, and no longer matter a day later.
    assert_eq!(shift(before[0].key), after[0].key);
    assert!((before[0].probability - after[0].probability).abs() < 0.05, "{before:?} {after:?}");
}

#[test]
fn a_forgotten_key_is_not_proposed_under_its_old_links() {
    let mut blend = blend();
    let end = play(&mut blend, topical(500, 3).iter().map(Vec::as_slice));
    blend.forget(KeyId(7));
    let list = proposals(&mut blend, end, &[1, 3]);
    assert!(list.iter().all(|proposal| proposal.key != KeyId(7)), "{list:?}");
}

#[test]
fn a_key_seen_for_the_first_time_has_its_neighbours_proposed() {
    let mut blend = blend();
    // Three directories of ten keys, and one that holds most of what is asked for.
    let name = |key: u32| format!("/{}/{key}", if key < 30 { key / 10 } else { 9 });
    (0..60).for_each(|key| blend.introduce(KeyId(key), &name(key)));
    let mut sessions = topical(1_000, 3);
    sessions.extend((0..20_000).map(|session| vec![30 + session % 25]));
    let end = play(&mut blend, sessions.iter().map(Vec::as_slice));
    for (key, name, topic) in [(60, "/1/new", 10..20), (61, "/2/new", 20..30)] {
        let strangers = proposals(&mut blend, end, &[key]);
        let found = |list: &[Proposal]| list.iter().filter(|proposal| topic.contains(&proposal.key.0)).count();
        assert!(found(&strangers) < 10, "{strangers:?}");
        blend.introduce(KeyId(key), name);
        let neighbours = proposals(&mut blend, end, &[key]);
        assert_eq!(found(&neighbours), 10, "{neighbours:?}");
    }
    let crowd = proposals(&mut blend, end, &[59]);
    let in_crowd = crowd.iter().filter(|proposal| (30..55).contains(&proposal.key.0)).count();
    assert!(in_crowd > 10, "everybody's favourites, without the section's help: {crowd:?}");
}

#[test]
fn parts_that_do_not_learn_stay_as_they_are() {
    let mut blend = blend();
    let end = play(&mut blend, topical(300, 3).iter().map(Vec::as_slice));
    let before = proposals(&mut blend, end, &[1, 3]);
    let weights = blend.ranker();
    let mut session = BlendSession::default();
    for key in [1, 3, 9, 1, 3, 9, 1, 3, 9, 1, 3, 9] {
        blend.learn(at(end), REGION, &session, KeyId(key), BlendLearning::NONE);
        session.push(KeyId(key));
    }
    assert_eq!(proposals(&mut blend, end, &[1, 3]), before);
    assert_eq!(blend.ranker(), weights);
}

#[test]
fn gradient_steps_follow_the_loss() {
    let mut blend = blend();
    play(&mut blend, topical(50, 3).iter().map(Vec::as_slice));
    let mut session = BlendSession::default();
    [11, 13].into_iter().for_each(|key| session.push(KeyId(key)));
    for target in [17, 4_000] {
        let example = blend.example(at(9_000), REGION, &session, KeyId(target)).expect("the session has begun");
        assert_eq!(example.is_covered(), target == 17);
        let first = blend.loss(&example);
        for _ in 0..50 {
            blend.fit(&example);
        }
        assert!(blend.loss(&example) < 0.5 * first, "{} after {first}", blend.loss(&example));
    }
}

#[test]
fn refuses_weights_that_do_not_fit() {
    let state = Ranker::new(1).state();
    assert_eq!(Ranker::from_state(&state).map(|ranker| ranker.state()).ok(), Some(state.clone()));
    let mut short = state.clone();
    short.weights.pop();
    assert!(Ranker::from_state(&short).is_err());
    let mut broken = state;
    broken.weights[0] = f32::NAN;
    assert!(Ranker::from_state(&broken).is_err());
}
