//! Refusing those who do not know yet that they own something no more.

use std::collections::BTreeMap;

use super::Resource;
use crate::Token;

/// The greatest token seen for each resource. Whoever carries orders out keeps one.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    seen: BTreeMap<Resource, Token>,
    refused: u64,
}

impl Fence {
    /// Whether what comes under a token may be carried out: no greater one has been seen.
    pub fn admit(&mut self, resource: &Resource, token: Token) -> bool {
        let seen = self.seen.entry(resource.clone()).or_insert(token);
        let is_admitted = token >= *seen;
        if is_admitted {
            *seen = token;
        } else {
            self.refused += 1;
        }
        is_admitted
    }

    /// A resource is owned under this token, as is known from elsewhere: what comes under a smaller one is refused.
    pub fn raise(&mut self, resource: &Resource, token: Token) {
        let seen = self.seen.entry(resource.clone()).or_insert(token);
        *seen = token.max(*seen);
    }

    /// How often something was refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
