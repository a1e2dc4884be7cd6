//! Experiments on caches: which design can see an effect, whether there is one, and who switched what on what evidence.
//!
//! Two versions of a predictor cannot be compared by splitting clients: both arms hit what the other has fetched, and
//! both suffer from what the other has pushed out. What can be assigned is a *cell*, a node or a region with a cache of
//! its own, and a *block* of time after which that cache has turned over. From there:
//!
//! 1. [`design`] matches cells in pairs, draws who is treated in which block, says what can be found in how long, and
//!    refuses what cannot be answered.
//! 2. [`sequence`] turns what was measured into intervals that hold at every look, [`Moments`] and [`Sketch`] into the
//!    numbers they are about, and [`ShareCheck`] and [`quality`] say whether the numbers may be believed at all.
//! 3. [`verdict`] says PASS, FAIL, INCONCLUSIVE or INVALID.
//! 4. [`stage`] keeps the record: shadow, canary, A/B, promoted, holdback; promote and undo are resumed after a crash.
//!
//! Everything here is synchronous and deterministic: no clock, no input or output, no randomness without a seed.
//!
//! ```
//! use nearcast_experiment::{
//!     Alpha,
//!     sequence::{DesignSequence, Residual, Unit},
//! };
//!
//! # fn main() -> nearcast_experiment::Result<()> {
//! let mut sequence = DesignSequence::new(1e3, Alpha::EFFECT)?;
//! for block in 0..100 {
//!     let noise = f64::from(block % 7) * 1e-4;
//!     let treated = Residual { requests: 1.0, residual: 0.05 + noise };
//!     let control = Residual { requests: 1.0, residual: noise };
//!     sequence.handle_block(&[Unit::of_pair(treated, control)]);
//! }
//! assert!((sequence.interval().estimate - 0.05).abs() < 1e-3);
//! # Ok(())
//! # }
//! ```

pub mod design;
mod error;
mod estimate;
mod interval;
pub mod quality;
pub mod sequence;
mod shares;
mod sketch;
pub mod stage;
pub mod verdict;

pub use self::{
    error::{Error, Result},
    estimate::{Estimate, Moments, Summary},
    interval::{Alpha, Interval},
    shares::{CONCENTRATION, ShareCheck},
    sketch::Sketch,
};
