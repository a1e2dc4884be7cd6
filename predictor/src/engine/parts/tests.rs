//! Parts that change hands, against one engine that has all of them to itself.

use std::time::Duration;

use nearcast_datasets::ServedFrom;
use nearcast_proto::{message::NodeDescriptor, topology::Topology};
use proptest::prelude::*;

use super::*;
use crate::engine::{EngineConfig, NodeIndex, Observation};

const PARTS: u32 = 5;
const REGIONS: [&str; 3] = ["eu", "us", "ap"];

/// A request, as the log has it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    now: Timestamp,
    client: u64,
    region: usize,
    key: u64,
}

fn engine(first_region: usize) -> Engine {
    // Lists of successors are full at once, so that some have to make room all the time.
    let mut settings = EngineSettings { sample_share: 0.0, ..EngineSettings::default() };
    (settings.client.successors_per_key, settings.region.successors_per_key) = (2, 3);
    let config = EngineConfig::try_from(settings);
    let mut engine = Engine::new(config.expect("the test's settings are in range"), Topology::default()).divided(PARTS);
    // Each meets regions and keys in an order of its own.
    for turn in 0..REGIONS.len() {
        let region = REGIONS[(turn + first_region) % REGIONS.len()];
        engine.intern_key(&format!("/{}", 7 * turn + first_region));
        engine.handle_join(
            Timestamp::default(),
            NodeDescriptor {
                name: region.into(),
                region: region.into(),
                url: "http://127.0.0.1:1".into(),
                capacity_bytes: 1 << 20,
                segment_bytes: 1 << 20,
            },
        );
    }
    engine
}

fn learn(engine: &mut Engine, asked: &Asked) {
    let region = engine.intern_region(REGIONS[asked.region]);
    let key = engine.intern_key(&format!("/{}", asked.key));
    let (node, client) = (NodeIndex(0), asked.client);
    let served = ServedFrom::Origin;
    engine
        .handle_request(asked.now, &Observation { node, client, region, key, size_bytes: 1_000, range: None, served });
    while engine.poll_order(asked.now).is_some() {}
}

fn log() -> impl Strategy<Value = Vec<Asked>> {
    let request = (0u64..40, 0usize..3, 0u64..30, 0u64..2_000);
    proptest::collection::vec(request, 50..600).prop_map(|requests| {
        let mut now = Timestamp::default();
        let mut asked = |(client, region, key, pause)| {
            now = now.after(Duration::from_millis(pause));
            Asked { now, client, region, key }
        };
        requests.into_iter().map(&mut asked).collect()
    })
}

/// What happens to a part between requests: an owner, and whether it writes the part down before it takes over, or has
/// died since the last checkpoint.
fn moves() -> impl Strategy<Value = Vec<(u32, usize, bool)>> {
    proptest::collection::vec((0..PARTS, 0usize..3, any::<bool>()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However parts move, and whatever is learnt again from the last checkpoint, each ends as in one engine.
    #[test]
    fn parts_that_change_hands_are_as_if_they_had_not(log in log(), moves in moves()) {
        let mut alone = engine(0);
        log.iter().for_each(|asked| learn(&mut alone, asked));
        let mut engines = [engine(0), engine(1), engine(2)];
        let of = |part| log.iter().filter(move |asked| Engine::part_of(asked.client, PARTS) == part);
        let mut owners = [0usize; PARTS as usize];
        // Where each part's owner is, and its last checkpoint.
        let mut at = [0usize; PARTS as usize];
        let mut written: Vec<(Option<PartState>, usize)> = vec![(None, 0); PARTS as usize];
        for (step, (part, owner, is_orderly)) in moves.iter().enumerate() {
            let place = *part as usize;
            // Some of every part is learnt meanwhile.
            for other in 0..PARTS {
                let (index, count) = (other as usize, (step + other as usize) % 7);
                for asked in of(other).skip(at[index]).take(count) {
                    learn(&mut engines[owners[index]], asked);
                    at[index] += 1;
                }
            }
            if *is_orderly {
                written[place] = (engines[owners[place]].part(*part), at[place]);
            }
            // The one before may go on for a while without knowing.
            let (state, position) = written[place].clone();
            engines[*owner].resume_part(*part, state).unwrap();
            (owners[place], at[place]) = (*owner, position);
        }
        for part in 0..PARTS {
            let index = part as usize;
            of(part).skip(at[index]).for_each(|asked| learn(&mut engines[owners[index]], asked));
            let (learnt, expected) = (engines[owners[index]].part(part), alone.part(part));
            prop_assert!(learnt.is_some() && learnt == expected, "part {part} differs");
        }
    }
}

#[test]
fn one_part_is_all_clients_and_what_makes_no_sense_is_refused() {
    let mut engine = engine(0);
    assert_eq!(engine.part(PARTS), None);
    let asked = Asked { now: Timestamp::default(), client: 1, region: 0, key: 1 };
    learn(&mut engine, &asked);
    let before = engine.part(1);
    let nonsense = PartState { streams: vec![("eu".to_owned(), vec![3])], ..PartState::default() };
    assert_eq!(engine.resume_part(1, Some(nonsense)), Err(StateUnreadable));
    assert_eq!(engine.resume_part(PARTS, None), Err(StateUnreadable));
    assert_eq!(engine.part(1), before);
    engine.resume_part(1, None).unwrap();
    assert_eq!(engine.part(1), Some(PartState::default()));
}
