//! Who asks, as logs name them.

use std::{fs, io, net::IpAddr, path::Path, sync::Arc};

use http::HeaderMap;

use crate::object::CLIENT_HEADER;

/// Turns addresses into pseudonyms that only this node's secret links.
#[derive(Debug)]
pub(crate) struct Pseudonyms {
    secret: [u8; 32],
}

impl Pseudonyms {
    /// Reads the secret below the node's data folder, making it on the first start.
    ///
    /// # Errors
    /// When the file can neither be read nor made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let secret = match fs::read(path) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not hold 32 bytes"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = fresh_secret()?;
                fs::write(path, secret)?;
                secret
            }
            Err(error) => return Err(error),
        };
        Ok(Self { secret })
    }

    /// The pseudonym of whoever connects from `address`.
    pub(super) fn of_address(&self, address: IpAddr) -> Arc<str> {
        let hash = match address {
            IpAddr::V4(address) => blake3::keyed_hash(&self.secret, &address.octets()),
            IpAddr::V6(address) => blake3::keyed_hash(&self.secret, &address.octets()),
        };
        Arc::from(&hash.to_hex()[..PSEUDONYM_DIGITS])
    }

    /// What stands between the parts of an answer with a state of an object: the same each time, and nothing that whoever
    /// wrote the object could have put into it.
    pub(super) fn boundary(&self, version: u64) -> String {
        let hash = blake3::keyed_hash(&self.secret, &[&b"boundary"[..], &version.to_le_bytes()].concat());
        hash.to_hex()[..BOUNDARY_DIGITS].to_owned()
    }
}

/// The client that the request names, if it does so in plain words.
pub(super) fn named(headers: &HeaderMap) -> Option<Arc<str>> {
    let name = headers.get(CLIENT_HEADER)?.to_str().ok()?;
    (!name.is_empty() && name.len() <= CLIENT_BYTES_MAX).then(|| Arc::from(name))
}

fn fresh_secret() -> io::Result<[u8; 32]> {
    use std::io::Read;
    let mut secret = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}

const PSEUDONYM_DIGITS: usize = 16;
const BOUNDARY_DIGITS: usize = 32;
const CLIENT_BYTES_MAX: usize = 128;
