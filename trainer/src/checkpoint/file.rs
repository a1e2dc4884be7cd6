//! The file of a checkpoint: a line that says what it is, a TOML header, the network's bytes, and a hash of it all.
//!
//! TOML keeps floating-point numbers to the last bit, so that what was measured before an interruption reads the same
//! after it.

use nearcast_datasets::store::Location;
use serde::{Serialize, de::DeserializeOwned};

use super::{error::CheckpointError, place::Place};

type Result<T> = std::result::Result<T, CheckpointError>;

/// Writes `name` so that the old file or the new one is there at any time, also after a power cut.
pub(super) fn write(
    (place, folder): (&mut Place, &Location),
    name: &str,
    header: &impl Serialize,
    body: &[u8],
) -> Result<blake3::Hash> {
    let invalid =
        |error: toml::ser::Error| CheckpointError::Damaged { path: folder.join(name), reason: error.to_string() };
    let header = toml::to_string(header).map_err(invalid)?;
    let length = (header.len() as u64).to_le_bytes();
    let parts = [MAGIC, &length, header.as_bytes(), body];
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| _ = hasher.update(part));
    let hash = hasher.finalize();
    let [magic, length, header, body] = parts;
    place.write(name, &[magic, length, header, body, hash.as_bytes()])?;
    Ok(hash)
}

/// What [`write()`] wrote, out of the file at `path`: header, body and hash.
pub(super) fn parse<T: DeserializeOwned>(mut bytes: Vec<u8>, path: &Location) -> Result<(T, Vec<u8>, blake3::Hash)> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
    if !bytes.starts_with(MAGIC) {
        return Err(damaged(foreign(&bytes)));
    }
    let cut = || damaged("it is cut short".to_owned());
    let content = bytes.len().checked_sub(blake3::OUT_LEN).ok_or_else(cut)?;
    let hash = blake3::hash(&bytes[..content]);
    if *hash.as_bytes() != bytes[content..] {
        return Err(damaged("its hash is not that of its content".to_owned()));
    }
    let start = MAGIC.len() + 8;
    let length = bytes.get(MAGIC.len()..start).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let end = length.and_then(|length| start.checked_add(usize::try_from(length).ok()?)).filter(|end| *end <= content);
    let end = end.ok_or_else(cut)?;
    let header = std::str::from_utf8(&bytes[start..end]).map_err(|error| damaged(error.to_string()))?;
    let header = toml::from_str(header).map_err(|error| damaged(error.message().to_owned()))?;
    bytes.truncate(content);
    bytes.drain(..end);
    Ok((header, bytes, hash))
}

/// What a file is that does not begin as this build's do.
fn foreign(bytes: &[u8]) -> String {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let version = first.strip_prefix(NAME).and_then(|version| std::str::from_utf8(version).ok());
    match version.and_then(|version| version.parse::<u32>().ok()) {
        Some(version) => {
            format!("it has format {version}, written by a newer nearcast, and this build reads {VERSION}")
        }
        None => "it is no checkpoint".to_owned(),
    }
}

/// Names the format, and its version.
const MAGIC: &[u8] = b"nearcast checkpoint 1\n";
const NAME: &[u8] = b"nearcast checkpoint ";
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_it_was_written_and_any_change_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::from(folder.path());
        let mut place = Place::look(&location).unwrap();
        let header = toml::Table::from_iter([("a".to_owned(), 0.1.into())]);
        let hash = write((&mut place, &location), "current", &header, b"body");
        let whole = place.read("current").unwrap().unwrap();
        let (header, body, found): (toml::Table, _, _) = parse(whole.clone(), &location).unwrap();
        assert_eq!((header["a"].as_float(), body.as_slice(), found), (Some(0.1), &b"body"[..], hash.unwrap()));
        assert_eq!(place.names(), ["current"], "no temporary file is left");
        let refused = |bytes: Vec<u8>| parse::<toml::Table>(bytes, &location).unwrap_err();
        for byte in 0..whole.len() {
            let mut changed = whole.clone();
            changed[byte] ^= 1;
            assert!(matches!(refused(changed), CheckpointError::Damaged { .. }), "byte {byte}");
            assert!(matches!(refused(whole[..byte].to_vec()), CheckpointError::Damaged { .. }), "{byte} bytes");
        }
        let newer = refused(b"nearcast checkpoint 2\nand more".to_vec()).to_string();
        assert!(newer.contains("has format 2, written by a newer nearcast"), "{newer}");
    }
}
