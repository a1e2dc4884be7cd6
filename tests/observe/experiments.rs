//! Experiments as a predictor might tell of them.

use serde_json::{Value, json};

/// A status that has some, and takes what is done to them.
pub(crate) fn with_experiments(document: &mut Value) {
    document["controls"]["experiment"] = "/api/experiment".into();
    let look = |block: u32| {
        let half = 0.028 / f64::from(block + 1).sqrt();
        json!({ "block": block, "effect": { "estimate": 0.009, "low": 0.009 - half, "high": 0.009 + half } })
    };
    let design = json!({ "start": "2026-01-02T03:04:05Z", "block_seconds": 600.0, "goal": "hit_ratio" });
    document["experiments"] = json!([
        {
            "name": NAME, "control_version": "v0003", "arm": "v0004", "stage": "ab", "is_paused": false,
            "design": design, "verdict": "INCONCLUSIVE", "flaws": [],
            "looks": (0..12).map(look).collect::<Vec<_>>(),
            "metrics": [
                {
                    "name": "hit_ratio", "role": { "goal": { "least": 0.005 } }, "better": "higher",
                    "effect": { "estimate": 0.009, "low": 0.001, "high": 0.017 }, "control": 0.612, "finding": "open",
                },
                {
                    "name": "p99_ms", "role": { "guardrail": { "relative": 0.05 } },
                    "better": "lower", "effect": { "estimate": -2.0, "low": -7.0, "high": 3.0 }, "control": 180.0,
                    "finding": "good",
                },
                {
                    "name": "origin_ratio", "role": { "guardrail": { "absolute": 0.02 } }, "better": "lower",
                    "effect": { "estimate": 0.04, "low": null, "high": null }, "control": 0.512, "finding": "open",
                },
            ],
            "changes": [{
                "number": 1, "at_micros": 1_767_000_000_000_000_u64, "action": "start", "who": "ada",
                "why": "v0004 did better offline",
            }],
            "actions": ["promote", "abort"],
        },
        {
            "name": "quiet", "control_version": "", "arm": "none", "stage": "canary", "is_paused": true,
            "design": design, "verdict": "INVALID", "flaws": ["node edu-1 logged nothing under b"],
            "looks": [], "metrics": [], "changes": [], "actions": [],
        },
    ]);
}

/// A name that must stay text.
pub(crate) const NAME: &str = "wider <b>embeddings</b>";
