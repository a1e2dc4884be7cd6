//! The word that whoever changes a service's state must know.

use std::{fmt, path::Path};

use crate::{Error, Result};

/// An admin token, of which only the hash is held.
#[derive(Clone)]
pub struct AdminToken(blake3::Hash);

impl AdminToken {
    /// Reads it from a file, without blanks around it.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |problem: String| Error::AdminToken { path: path.to_path_buf(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        match text.trim() {
            "" => Err(failed("the file is empty; put a long random word into it".to_owned())),
            token => Ok(Self(blake3::hash(token.as_bytes()))),
        }
    }

    /// Whether the value of an `Authorization` header carries it, as `Bearer WORD`.
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        let given = authorization.strip_prefix(b"Bearer ");
        // Hashes compare in constant time.
        given.is_some_and(|given| blake3::hash(given) == self.0)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_in_the_file_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, " word\n").unwrap();
        let token = AdminToken::read(&path).unwrap();
        assert!(token.is_in(b"Bearer word"));
        for other in [&b"Bearer wor"[..], b"Bearer  word", b"word", b"bearer word", b"Bearer word\n", b""] {
            assert!(!token.is_in(other), "{other:?}");
        }
        std::fs::write(&path, " \n").unwrap();
        assert!(AdminToken::read(&path).unwrap_err().to_string().contains("empty"));
        assert!(AdminToken::read(&dir.path().join("none")).is_err());
    }
}
