//! A/A: prints how many of 2,000 seeded runs with 50 looks each find something where there is nothing.
//!
//! `cargo run --release -p nearcast-experiment --example false_alarms`

use std::io::{self, Write};

mod runs;

const RUNS: u32 = 2_000;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<58} {:>8} {:>7} {:>7}", "method", "alarms", "share", "bar")?;
    let mut is_within = true;
    for (name, found, limit) in runs::all(RUNS, 1) {
        let share = |count: u32| f64::from(count) / f64::from(RUNS) * 100.0;
        let bar = if limit == RUNS { "none".to_owned() } else { format!("{:.1} %", share(limit)) };
        writeln!(out, "{name:<58} {found:>8} {:>5.2} % {bar:>7}", share(found))?;
        is_within &= found <= limit;
    }
    if is_within { Ok(()) } else { Err(io::Error::other("more false alarms than allowed")) }
}
