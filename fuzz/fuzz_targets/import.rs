//! Lines of access logs, in whichever format they are taken for.
#![no_main]

use std::{path::PathBuf, sync::OnceLock};

use nearcast_datasets::{
    PseudonymKey,
    import::{ImportOptions, Input, import},
};

static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::write(path("input"), data).expect("it can be written to");
    let options = ImportOptions::new(PseudonymKey::from_secret(b"secret"), path("rejects"));
    let _ = import(&[Input::File(path("input"))], &path("out.parquet"), &options, |_| {});
    let _ = std::fs::remove_file(path("out.parquet"));
});
