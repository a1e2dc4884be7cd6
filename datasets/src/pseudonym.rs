//! Stands in for client addresses: a keyed hash that cannot be turned back without the key.

use std::fmt;

use rand::{TryRngCore, rngs::OsRng};

/// The secret that turns client addresses into pseudonyms: the same secret always gives the same pseudonyms.
#[derive(Clone)]
pub struct PseudonymKey([u8; 32]);

impl PseudonymKey {
    /// The key made of a secret of any length, such as the content of a key file.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key("nearcast 2026-11 client pseudonyms", secret))
    }

    /// A fresh key from the system's entropy; pseudonyms made with it match no other run.
    ///
    /// # Errors
    /// What the system says when it has no entropy to give.
    pub fn random() -> std::io::Result<Self> {
        let mut secret = [0; 32];
        OsRng.try_fill_bytes(&mut secret).map_err(std::io::Error::other)?;
        Ok(Self::from_secret(&secret))
    }

    /// The pseudonym of a client: 16 hexadecimal digits.
    pub fn pseudonym(&self, client: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.0, client);
        hash.as_bytes().iter().take(PSEUDONYM_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey(secret)")
    }
}

/// Two of ten million clients share a pseudonym with a chance of one in 370,000.
const PSEUDONYM_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_depend_on_key_and_client_only() {
        let key = PseudonymKey::from_secret(b"one");
        assert_eq!(key.pseudonym(b"192.0.2.1"), PseudonymKey::from_secret(b"one").pseudonym(b"192.0.2.1"));
        assert_ne!(key.pseudonym(b"192.0.2.1"), key.pseudonym(b"192.0.2.2"));
        assert_ne!(key.pseudonym(b"192.0.2.1"), PseudonymKey::from_secret(b"two").pseudonym(b"192.0.2.1"));
        assert_eq!(key.pseudonym(b"192.0.2.1").len(), 16);
    }

    #[test]
    fn random_keys_differ_and_are_never_printed() {
        let (one, two) = (PseudonymKey::random().unwrap(), PseudonymKey::random().unwrap());
        assert_ne!(one.pseudonym(b"192.0.2.1"), two.pseudonym(b"192.0.2.1"));
        assert_eq!(format!("{one:?}"), "PseudonymKey(secret)");
    }
}
