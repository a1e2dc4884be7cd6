//! Experiments under a clock of the test: four nodes whose hit ratio depends on the arm that they are told.

use nearcast_experiment::{design::Assignment, stage::Routing, verdict::Verdict};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::arms::ArmSpec;

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const SLOT: i64 = 10_000_000;
const START: i64 = 1_000_000 * SLOT;

/// Nodes that serve what they are told, and log it.
struct World {
    folder: tempfile::TempDir,
    experiments: Experiments,
    now: i64,
    rng: ChaCha8Rng,
    /// How much more often a treated node hits, and how much longer its requests take.
    effect: f64,
    slower: f64,
    /// A node that logs nothing while it is treated.
    silent: Option<&'static str>,
    skew: i64,
    due: Option<Timestamp>,
}

impl World {
    fn new(effect: f64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let experiments = open(folder.path(), START);
        let rng = ChaCha8Rng::seed_from_u64(5);
        let mut world =
            Self { folder, experiments, now: START, rng, effect, slower: 1.0, silent: None, skew: 0, due: None };
        world.pass(20 * 36);
        world
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn start(&mut self, question: Question) -> Result<String, Problem> {
        let (now, scene) = (self.at(), scene());
        self.experiments.start(now, &deed(Some(question)), &scene)
    }

    fn act(&mut self, action: Action) -> Result<(), Problem> {
        let now = self.at();
        self.experiments.act(now, "trial", action, &deed(None))
    }

    /// Time goes on in steps of ten seconds.
    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now += SLOT;
            let now = self.at();
            for node in NODES {
                self.serve(now, node);
            }
            if self.due.is_none_or(|due| due <= now) {
                self.experiments.handle_timeout(now);
                self.due = self.experiments.poll_timeout(now);
            }
        }
    }

    fn serve(&mut self, now: Timestamp, node: &'static str) {
        let arm = self.experiments.arm_of(node, now);
        let is_treated = arm.is_some();
        let clock = Timestamp::from_micros(self.now + self.skew);
        self.experiments.handle_confirmed(now, node, arm.as_deref().unwrap_or("nearcast"), clock);
        if is_treated && self.silent == Some(node) {
            return;
        }
        let name: Arc<str> = node.into();
        for _ in 0..40 {
            let hits = 0.5 + if is_treated { self.effect } else { 0.0 };
            let is_hit = self.rng.random_bool(hits);
            let served = if is_hit { ServedFrom::Memory } else { ServedFrom::Origin };
            let slower = if is_treated { self.slower } else { 1.0 };
            let latency = Duration::from_secs_f64(slower * self.rng.random_range(0.02..0.03));
            self.experiments.handle_request(now, &name, now, served, 1_000, latency);
        }
    }

    fn report(&self) -> FullReport {
        self.experiments.report(self.at(), "trial").unwrap()
    }

    /// The predictor dies and another takes up what it left.
    fn crash(&mut self) {
        self.experiments = open(self.folder.path(), self.now);
    }
}

fn scene() -> Scene {
    let connected = NODES.iter().map(|node| Arc::from(*node)).collect();
    Scene { connected, turnover: Some(Duration::from_secs(20)), champion_version: "v0001".into() }
}

fn question(name: &str) -> Question {
    let mut question = Question::new(name, ArmSpec::none());
    question.effect = 0.05;
    question.span_seconds = 40.0 * 180.0;
    question.shadow_seconds = 100.0;
    question.season_blocks = Some(1_000);
    question
}

fn open(folder: &Path, now: i64) -> Experiments {
    Experiments::open(folder, Duration::from_micros(SLOT as u64), Timestamp::from_micros(now)).unwrap()
}

fn deed(question: Option<Question>) -> Deed {
    Deed { name: None, who: "ops".to_owned(), why: "to see".to_owned(), full: false, question }
}

#[test]
fn a_better_challenger_passes_is_promoted_and_undone() {
    let mut world = World::new(0.2);
    world.start(question("trial")).unwrap();
    assert_eq!((world.report().trial.stage, world.experiments.arm_of("a", world.at())), (Stage::Shadow, None));
    world.pass(12);
    assert_eq!(world.report().trial.stage, Stage::Canary);
    world.pass(18 * 39);
    let report = world.report().trial;
    assert_eq!((report.stage, report.verdict), (Stage::Ab, Verdict::Pass), "{report:#?}");
    let goal = report.metrics.iter().find(|metric| metric.name == "hit_ratio").unwrap();
    assert!(goal.effect.covers(0.2), "{goal:?}");
    assert_eq!(report.flaws, [""; 0]);

    world.act(Action::Promote { full: false }).unwrap();
    let at = world.at();
    assert!(NODES.iter().all(|node| world.experiments.arm_of(node, at).as_deref() == Some("none")));
    assert_eq!(world.report().trial.pending.len(), 4);
    world.pass(1);
    assert_eq!(world.report().trial.stage, Stage::Holdback, "every node has confirmed");
    world.act(Action::Undo).unwrap();
    let at = world.at();
    assert!(NODES.iter().all(|node| world.experiments.arm_of(node, at).is_none()));
    world.pass(1);
    let report = world.report();
    assert_eq!(report.trial.stage, Stage::RolledBack);
    let promoted = report.changes.iter().find(|change| matches!(change.action, Action::Promote { .. })).unwrap();
    let hash = &promoted.evidence.as_ref().unwrap().hash;
    let kept = std::fs::read(world.folder.path().join(format!("experiments/trial/evidence-{hash}.json"))).unwrap();
    assert!(promoted.evidence.as_ref().unwrap().is_of(&kept), "the evidence is kept byte by byte");
    assert_eq!((promoted.who.as_str(), promoted.why.as_str()), ("ops", "to see"));
}

#[test]
fn no_difference_does_not_pass_and_promote_says_so() {
    let mut world = World::new(0.0);
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 30);
    assert_ne!(world.report().trial.verdict, Verdict::Pass);
    let refused = world.act(Action::Promote { full: false }).unwrap_err().to_string();
    assert!(refused.contains("promote needs PASS"), "{refused}");
    world.act(Action::Promote { full: true }).unwrap();
}

#[test]
fn a_breached_guardrail_rolls_back_by_itself() {
    let mut world = World::new(0.2);
    world.slower = 3.0;
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 39);
    let report = world.report();
    assert_eq!(report.trial.stage, Stage::RolledBack);
    let breach = report.changes.iter().find(|change| change.action == Action::Breach).unwrap();
    assert!(breach.who == "predictor" && breach.why.contains("wait_ms"), "{breach:?}");
}

#[test]
fn a_node_that_stops_logging_in_one_arm_makes_it_invalid() {
    let mut world = World::new(0.2);
    world.silent = Some("b");
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 39);
    let report = world.report().trial;
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.flaws.iter().any(|flaw| flaw.contains("b did not log 100.0 %")), "{:?}", report.flaws);
}

#[test]
fn a_clock_that_is_wrong_makes_it_invalid() {
    let mut world = World::new(0.2);
    world.skew = 40_000_000;
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 10);
    let flaws = world.report().trial.flaws;
    assert!(flaws.iter().any(|flaw| flaw.contains("clock of a is wrong by 40s")), "{flaws:?}");
}

#[test]
fn what_was_measured_and_promoted_outlives_a_crash() {
    let mut world = World::new(0.2);
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 35);
    let before = world.report();
    world.crash();
    let after = world.report();
    assert_eq!((after.trial.units, after.trial.stage), (before.trial.units, before.trial.stage));
    assert_eq!(after.looks.last().map(|look| look.effect), before.looks.last().map(|look| look.effect));
    world.act(Action::Promote { full: false }).unwrap();
    // In the middle of it: written down, and no node has confirmed.
    world.crash();
    let at = world.at();
    assert!(NODES.iter().all(|node| world.experiments.arm_of(node, at).is_some()), "it resumes");
    world.pass(1);
    assert_eq!(world.report().trial.stage, Stage::Holdback);
    assert_eq!(world.experiments.trials["trial"].experiment.routing(), Routing::AllButLastPair);
}

#[test]
fn a_block_that_nobody_watched_does_not_count() {
    let mut world = World::new(0.2);
    world.start(question("trial")).unwrap();
    world.pass(12 + 18 * 10);
    let counted = world.report().trial.blocks_counted;
    world.now += 9 * SLOT;
    world.crash();
    world.pass(18);
    let report = world.report().trial;
    assert!(report.blocks_counted <= counted + 1, "{} after {counted}", report.blocks_counted);
    assert_eq!(report.flaws, [""; 0], "the predictor was away, not the nodes");
}

#[test]
fn questions_that_cannot_be_answered_are_refused_with_the_reason() {
    let mut world = World::new(0.2);
    let check = |world: &World, change: &dyn Fn(&mut Question), expected: &str| {
        let mut question = question("other");
        change(&mut question);
        let refused = world.experiments.plan(world.at(), &question, &scene()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
    };
    check(&world, &|question| question.assignment = Assignment::Client, "share every cache");
    check(&world, &|question| question.nodes = vec!["a".to_owned()], "a comparison needs two");
    check(&world, &|question| question.nodes = vec!["aa".to_owned(), "b".to_owned()], "did you mean \"a\"?");
    check(&world, &|question| question.effect = 1e-3, "blocks would do, or more cells");
    check(&world, &|question| question.span_seconds = 400.0, "intervals need 20");
    check(&world, &|question| question.block_seconds = Some(100.0), "too short");
    check(&world, &|question| question.name = "a/b".to_owned(), "is no name");
    check(&world, &|question| question.alpha = 2.0, "alpha");
    check(&world, &|question| question.history = Some(Vec::new()), "a has 0 blocks of history");
    check(
        &world,
        &|question| (question.block_seconds, question.turnover_seconds) = (Some(9.0), Some(1.0)),
        "finer history",
    );
    check(&world, &|question| question.span_seconds = f64::NAN, "span_seconds");
    let scene = Scene { turnover: None, ..scene() };
    let refused = world.experiments.plan(world.at(), &question("other"), &scene).unwrap_err();
    assert!(refused.to_string().contains("turnover"), "{refused}");

    world.start(question("trial")).unwrap();
    check(&world, &|_| (), "experiment \"trial\" has a, b, c, d until its end");
    check(&world, &|question| question.name = "trial".to_owned(), "already");
    assert!(world.experiments.meant(None).is_ok_and(|name| name == "trial"));
    let unknown = world.experiments.meant(Some("trail")).unwrap_err().to_string();
    assert!(unknown.contains("did you mean trial?"), "{unknown}");
    let anonymous = Deed { who: String::new(), ..deed(None) };
    let refused = world.experiments.act(world.at(), "trial", Action::Pause, &anonymous).unwrap_err();
    assert!(refused.to_string().contains("who and why"), "{refused}");
}
