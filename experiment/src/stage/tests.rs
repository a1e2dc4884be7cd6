//! A life, its interruptions, and what is not possible.

use super::*;

const CELLS: [&str; 4] = ["a", "b", "c", "d"];

fn by(number: u64) -> By<'static> {
    By { who: "ops", at: Duration::from_secs(number), why: "because", evidence: None }
}

fn with(verdict: Verdict) -> By<'static> {
    By { evidence: Some(Evidence::of(verdict, b"document")), ..by(9) }
}

fn cells() -> impl Iterator<Item = String> {
    CELLS.iter().map(|cell| (*cell).to_owned())
}

fn in_ab() -> Experiment {
    let mut experiment = Experiment::new(cells());
    for action in [Action::Start, Action::Advance, Action::Advance] {
        experiment.act(action, by(1)).unwrap();
    }
    experiment
}

fn pointed(cell: &str, epoch: u64) -> Action {
    Action::Pointed { cell: cell.to_owned(), epoch }
}

/// What a successor makes of what was written.
fn crashed(experiment: &Experiment) -> Experiment {
    let record = Record::from_lines(&experiment.record().to_lines()).unwrap();
    Experiment::resume(cells(), record).unwrap()
}

#[test]
fn a_life_goes_from_shadow_to_promoted() {
    let mut experiment = Experiment::new(cells());
    assert_eq!(experiment.routing(), Routing::All(Arm::Control));
    let mut seen = Vec::new();
    for action in [Action::Start, Action::Advance, Action::Advance] {
        experiment.act(action, by(1)).unwrap();
        seen.push((experiment.stage(), experiment.routing()));
    }
    experiment.act(Action::Promote { full: false }, with(Verdict::Pass)).unwrap();
    assert_eq!((experiment.stage(), experiment.pending().len()), (Stage::Promoting, 4));
    CELLS.iter().for_each(|cell| _ = experiment.act(pointed(cell, 4), by(5)).unwrap());
    seen.push((experiment.stage(), experiment.routing()));
    experiment.act(Action::Finish, by(6)).unwrap();
    seen.push((experiment.stage(), experiment.routing()));
    let expected = [
        (Stage::Shadow, Routing::All(Arm::Control)),
        (Stage::Canary, Routing::FirstPairs(1)),
        (Stage::Ab, Routing::FirstPairs(usize::MAX)),
        (Stage::Holdback, Routing::AllButLastPair),
        (Stage::Promoted, Routing::All(Arm::Treated)),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_crash_at_any_moment_of_a_promote_or_its_undo_resumes_and_never_ends_half() {
    for (overtaken, confirmed) in [(false, 0), (false, 1), (false, 3), (true, 0), (true, 1), (true, 3)] {
        let mut experiment = in_ab();
        experiment.act(Action::Promote { full: false }, with(Verdict::Pass)).unwrap();
        for cell in &CELLS[..confirmed] {
            experiment.act(pointed(cell, 4), by(5)).unwrap();
            experiment = crashed(&experiment);
        }
        if overtaken {
            experiment.act(Action::Undo, by(6)).unwrap();
        }
        let mut successor = crashed(&experiment);
        assert_eq!(successor, experiment);
        let pending = successor.pending();
        assert_eq!(pending.len(), if overtaken { 4 } else { 4 - confirmed });
        assert!(pending.iter().all(|found| found.arm == if overtaken { Arm::Control } else { Arm::Treated }));
        for found in pending {
            successor.act(pointed(&found.cell, found.epoch), by(7)).unwrap();
        }
        assert!(successor.pending().is_empty());
        assert_eq!(successor.stage(), if overtaken { Stage::RolledBack } else { Stage::Holdback });
    }
}

#[test]
fn a_late_confirmation_of_an_overtaken_promote_counts_for_nothing() {
    let mut experiment = in_ab();
    experiment.act(Action::Promote { full: true }, with(Verdict::Inconclusive)).unwrap();
    experiment.act(Action::Breach, By { who: "guardrail", why: "p99 is worse by 8 %", ..by(5) }).unwrap();
    let late = experiment.act(pointed("a", 4), by(6)).cloned();
    assert_eq!(late, Err(StageError::OldEpoch { found: 4, expected: 5 }));
    assert_eq!(experiment.pending().len(), 4);
    // Twice is as once.
    experiment.act(pointed("a", 5), by(6)).unwrap();
    experiment.act(pointed("a", 5), by(6)).unwrap();
    assert_eq!(experiment.pending().len(), 3);
    let unknown = experiment.act(pointed("x", 5), by(6)).cloned();
    assert_eq!(unknown, Err(StageError::UnknownCell("x".to_owned())));
}

#[test]
fn promotion_needs_a_pass_or_somebody_who_takes_it_on_themselves() {
    let mut experiment = in_ab();
    for verdict in [Verdict::Fail, Verdict::Inconclusive, Verdict::Invalid] {
        let found = experiment.act(Action::Promote { full: false }, with(verdict)).cloned();
        assert_eq!(found, Err(StageError::Verdict(verdict)));
    }
    assert_eq!(experiment.act(Action::Promote { full: true }, by(1)).cloned(), Err(StageError::NoEvidence));
    let nobody = By { who: " ", ..with(Verdict::Pass) };
    assert_eq!(experiment.act(Action::Promote { full: false }, nobody).cloned(), Err(StageError::Anonymous));
    experiment.act(Action::Pause, by(2)).unwrap();
    let paused = experiment.act(Action::Promote { full: false }, with(Verdict::Pass)).cloned();
    assert_eq!(paused, Err(StageError::Paused));
    assert_eq!(experiment.record().changes().len(), 4, "what is not possible is not written");
    experiment.act(Action::Breach, by(3)).unwrap();
    assert_eq!((experiment.stage(), experiment.is_paused()), (Stage::RollingBack, false));
}

#[test]
fn nothing_is_possible_out_of_its_stage() {
    let mut fresh = Experiment::new(cells());
    for action in [Action::Advance, Action::Promote { full: true }, Action::Undo, Action::Breach, Action::Finish] {
        assert_eq!(fresh.act(action, with(Verdict::Pass)).cloned(), Err(StageError::Stage(Stage::Planned)));
    }
    let mut running = in_ab();
    for action in [Action::Start, Action::Advance, Action::Undo, Action::Finish, Action::Resume, pointed("a", 3)] {
        assert_eq!(running.act(action, with(Verdict::Pass)).cloned(), Err(StageError::Stage(Stage::Ab)));
    }
}

#[test]
fn an_altered_record_is_refused_and_a_torn_line_left_out() {
    let mut experiment = in_ab();
    experiment.act(Action::Promote { full: false }, with(Verdict::Pass)).unwrap();
    let lines = experiment.record().to_lines();
    assert!(lines.contains("\"who\":\"ops\"") && lines.contains("\"verdict\":\"PASS\""), "{lines}");
    for cut in 1..lines.len() {
        let record = Record::from_lines(&lines[..lines.len() - cut]).unwrap();
        assert!(record.changes().len() < 4);
        assert!(Experiment::resume(cells(), record).is_ok());
    }
    let altered = lines.replacen("because", "as I like", 1);
    assert!(matches!(Record::from_lines(&altered), Err(RecordError::Altered { line: 2 })));
    let dropped: String = lines.lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert!(matches!(Record::from_lines(&dropped), Err(RecordError::Altered { line: 1 })));
    assert!(matches!(Record::from_lines("nonsense\n"), Err(RecordError::Line { line: 1, .. })));
    let evidence = experiment.record().changes()[3].evidence.clone().unwrap();
    assert!(evidence.is_of(b"document") && !evidence.is_of(b"another"));
}
