//! The blend: what one client asks for next, ranked from everything that is known of the keys around it.
//!
//! Every session key proposes the keys that sessions of *other* clients joined to it; regional and lasting favourites
//! fill the list. A small network, trained with a softmax over the candidates, weighs the evidence and says how
//! probable each is, and how probable it is that none of them comes. Counts, popularity and weights can each go on
//! learning online. It stands in the line of neighbourhood models for sessions (Ludewig & Jannach, 2018; Garg et al.,
//! STAN, SIGIR 2019; Kersbergen et al., VMIS-kNN, SIGMOD 2022), which find whole sessions like the present one; pairs
//! of keys are quicker to find, and what the neighbours' votes are worth is learned instead of fixed.

mod candidates;
mod config;
mod contexts;
mod features;
mod links;
mod model;
mod network;
mod popular;
mod sections;
mod session;
#[cfg(test)]
mod tests;
mod trained;

pub use self::{
    config::BlendConfig,
    features::{BLEND_FEATURE_COUNT, BLEND_FEATURE_NAMES},
    model::{Blend, BlendExample, BlendLearning, Proposal},
    network::RankerState,
    session::BlendSession,
    trained::{BlendContextRow, BlendKeyRow, BlendLinkRow, TrainedBlend},
};
pub(crate) use self::{features::CONTEXT_COUNT, network::UNITS};
