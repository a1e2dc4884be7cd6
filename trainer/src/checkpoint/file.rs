//! The file of a checkpoint: a line that says what it is, a TOML header, the network's bytes, and a hash of it all.
//!
//! TOML keeps floating-point numbers to the last bit, so that what was measured before an interruption reads the same
//! after it.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::error::CheckpointError;

type Result<T> = std::result::Result<T, CheckpointError>;

/// Writes `folder/name` so that the old file or the new one is there at any time, also after a power cut.
pub(super) fn write(folder: &Path, name: &str, header: &impl Serialize, body: &[u8]) -> Result<blake3::Hash> {
    let path = folder.join(name);
    let invalid = |error: toml::ser::Error| CheckpointError::Damaged { path: path.clone(), reason: error.to_string() };
    let header = toml::to_string(header).map_err(invalid)?;
    let length = (header.len() as u64).to_le_bytes();
    let mut hasher = blake3::Hasher::new();
    let temporary = folder.join(format!(".{name}.new"));
    let mut write = || {
        let mut file = File::create(&temporary)?;
        for part in [MAGIC, &length, header.as_bytes(), body] {
            hasher.update(part);
            file.write_all(part)?;
        }
        file.write_all(hasher.finalize().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    if let Err(source) = write() {
        // What was there before is still whole; the half-written one is worth nothing.
        let _ = fs::remove_file(&temporary);
        return Err(CheckpointError::File { action: "write", path, source });
    }
    Ok(hasher.finalize())
}

/// What [`write()`] wrote: header, body and hash.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, Vec<u8>, blake3::Hash)> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let mut bytes = fs::read(path).map_err(CheckpointError::file("read", path))?;
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it is no checkpoint, or one of another format".to_owned()));
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

/// Names the format, and its version.
const MAGIC: &[u8] = b"nearcast checkpoint 1\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_it_was_written_and_any_change_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let hash = write(folder.path(), "current", &toml::Table::from_iter([("a".to_owned(), 0.1.into())]), b"body");
        let path = folder.path().join("current");
        let (header, body, found): (toml::Table, _, _) = read(&path).unwrap();
        assert_eq!((header["a"].as_float(), body.as_slice(), found), (Some(0.1), &b"body"[..], hash.unwrap()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(matches!(read::<toml::Table>(&path), Err(CheckpointError::Damaged { .. })), "byte {place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert!(matches!(read::<toml::Table>(&path), Err(CheckpointError::Damaged { .. })), "{place} bytes");
        }
    }
}
