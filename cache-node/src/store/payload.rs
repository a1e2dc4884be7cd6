//! A segment's bytes together with their digest, as foyer stores them.

use std::io::{self, Read, Write};

use bytes::Bytes;
use foyer::{Code, Error, Result};

use crate::digest::Digest;

/// The bytes of one segment. Whatever was read from disk was compared with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Payload {
    /// Takes bytes just received and digests them.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// What the payload counts for in memory.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

impl Code for Payload {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        writer.write_all(&self.digest.to_bytes()).map_err(Error::io_error)?;
        (self.bytes.len() as u64).encode(writer)?;
        writer.write_all(&self.bytes).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let mut digest = [0; Digest::BYTES];
        reader.read_exact(&mut digest).map_err(Error::io_error)?;
        let length = u64::decode(reader)?;
        let mut bytes = Vec::new();
        reader.take(length).read_to_end(&mut bytes).map_err(Error::io_error)?;
        let payload = Self::new(Bytes::from(bytes));
        if payload.digest != Digest::from_bytes(digest) || payload.bytes.len() as u64 != length {
            let damaged = io::Error::new(io::ErrorKind::InvalidData, "the payload does not match its digest");
            return Err(Error::io_error(damaged));
        }
        Ok(payload)
    }

    fn estimated_size(&self) -> usize {
        Digest::BYTES + size_of::<u64>() + self.bytes.len()
    }
}

/// Key, digest, table and list entries of one payload in memory, about.
const ENTRY_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_noticed() {
        let mut written = Vec::new();
        Payload::new(Bytes::from_static(b"segment")).encode(&mut written).unwrap();
        assert_eq!(Payload::decode(&mut &*written).unwrap().bytes, "segment");
        assert!(Payload::decode(&mut &written[..written.len() - 1]).is_err());
        for position in [0, written.len() - 1] {
            let mut damaged = written.clone();
            damaged[position] ^= 1;
            assert!(Payload::decode(&mut &*damaged).is_err(), "byte {position}");
        }
    }
}
