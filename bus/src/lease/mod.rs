//! Leases: one of many holds something for a time, and can prove that it did so later than another.

mod core;
mod keeper;
mod record;

pub use self::{
    core::{Held, Holder, Lease, LeaseRecord, LeaseSettings, LeaseStep, Sighting, Token},
    keeper::LeaseKeeper,
    record::{decode_lease, encode_lease},
};
