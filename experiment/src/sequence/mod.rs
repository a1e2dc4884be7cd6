//! Confidence sequences: intervals that hold at all looks together, so that anyone may look at any time.
//!
//! A fixed-size test looked at fifty times finds an effect where there is none in a third of all cases. A confidence
//! sequence covers the truth at *every* look with probability `1 − α`, and pays for it with about 1.6 times the width.
//!
//! - [`NormalMixture`] bounds a sum of centred terms whose variance is known or estimated; the other two rest on it.
//! - [`Asymptotic`] bounds a difference between two arms of many independent units.
//! - [`DesignSequence`] bounds the effect of a switchback: its only randomness is the assignment, its only assumption
//!   that a block's outcome depends on the block's own assignment.

mod asymptotic;
mod design;
mod mixture;

pub use self::{
    asymptotic::Asymptotic,
    design::{DesignSequence, Residual, Unit},
    mixture::NormalMixture,
};
