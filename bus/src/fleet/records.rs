//! Memberships and claims as entries.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Holder, LeaseRecord, Revision, Token,
    claims::{Claim, Membership, Resource},
};

#[derive(Serialize, Deserialize)]
struct StoredMember {
    name: String,
    run: String,
    ttl_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    #[serde(default)]
    draining: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredClaim {
    member: String,
    membership: u64,
}

/// What a key of the bucket is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    Member(String),
    Claim(Resource),
}

impl Key {
    pub(super) fn parse(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once('.')?;
        match kind {
            "member" => Some(Self::Member(rest.to_owned())),
            "office" => Some(Self::Claim(Resource::Office(rest.to_owned()))),
            "partition" => rest.parse().ok().map(|partition| Self::Claim(Resource::Partition(partition))),
            _ => None,
        }
    }
}

pub(super) fn member_key(name: &str) -> String {
    format!("member.{name}")
}

pub(super) fn claim_key(resource: &Resource) -> String {
    match resource {
        Resource::Office(name) => format!("office.{name}"),
        Resource::Partition(partition) => format!("partition.{partition}"),
    }
}

pub(super) fn encode_member(record: &LeaseRecord, draining: bool) -> Bytes {
    encode(&StoredMember {
        name: record.holder.name.clone(),
        run: record.holder.run.clone(),
        ttl_ms: u64::try_from(record.ttl.as_millis()).unwrap_or(u64::MAX),
        token: record.token.map(|token| token.0),
        draining,
    })
}

/// A membership, and the same as a lease.
pub(super) fn decode_member(revision: Revision, value: &[u8]) -> Option<(Membership, LeaseRecord)> {
    let stored: StoredMember = serde_json::from_slice(value).ok()?;
    let (holder, ttl) = (Holder { name: stored.name, run: stored.run }, Duration::from_millis(stored.ttl_ms));
    let record = LeaseRecord { holder: holder.clone(), ttl, token: stored.token.map(Token) };
    let membership = Membership { holder, ttl, token: record.token(revision), is_draining: stored.draining };
    Some((membership, record))
}

pub(super) fn encode_claim(claim: &Claim) -> Bytes {
    encode(&StoredClaim { member: claim.member.clone(), membership: claim.membership.0 })
}

pub(super) fn decode_claim(value: &[u8]) -> Option<Claim> {
    let stored: StoredClaim = serde_json::from_slice(value).ok()?;
    Some(Claim { member: stored.member, membership: Token(stored.membership) })
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers are JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_again_what_was_put_in() {
        let holder = Holder { name: "p-1".to_owned(), run: "x".to_owned() };
        let record = LeaseRecord { holder, ttl: Duration::from_secs(3), token: None };
        let (member, same) = decode_member(Revision(7), &encode_member(&record, true)).unwrap();
        assert_eq!((same, member.token, member.is_draining), (record, Token(7), true));
        let claim = Claim { member: "p-1".to_owned(), membership: Token(7) };
        assert_eq!(decode_claim(&encode_claim(&claim)), Some(claim));
        for resource in [Resource::Partition(12), Resource::Office("placement".to_owned())] {
            assert_eq!(Key::parse(&claim_key(&resource)), Some(Key::Claim(resource)));
        }
        assert_eq!(Key::parse(&member_key("p.1")), Some(Key::Member("p.1".to_owned())));
        assert_eq!((Key::parse("partition.x"), Key::parse("else")), (None, None));
    }
}
