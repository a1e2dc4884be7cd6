//! Regenerates the checked-in gRPC code, with no `protoc` installed.
//!
//! `cargo run -p nearcast-proto-codegen` rewrites `proto/src/wire/`; with `--check` it only fails when that would change
//! anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use prost::Message;

fn main() -> anyhow::Result<()> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("unknown arguments {other:?}; the only one is --check"),
    };
    let proto_root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fresh = tempfile::tempdir()?;
    generate(&proto_root, fresh.path())?;
    let checked_in = proto_root.join("src/wire");
    for name in GENERATED {
        let (from, to) = (fresh.path().join(name), checked_in.join(name));
        if !check {
            fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        } else if fs::read(&from)? != fs::read(&to).unwrap_or_default() {
            bail!("proto/src/wire/{name} is not what predictor.proto yields; run `cargo xtask codegen`");
        }
    }
    Ok(())
}

fn generate(proto_root: &Path, out: &Path) -> anyhow::Result<()> {
    let source = PathBuf::from("nearcast/v1/predictor.proto");
    let mut compiler = protox::Compiler::new([proto_root])?;
    compiler.include_imports(true).include_source_info(true).open_file(&source)?;
    tonic_prost_build::configure().out_dir(out).compile_fds(compiler.file_descriptor_set())?;
    // Reflection wants descriptors only; comments would double their size.
    let descriptors = compiler.include_source_info(false).file_descriptor_set();
    fs::write(out.join(GENERATED[1]), descriptors.encode_to_vec())?;
    Ok(())
}

/// The Rust code and the descriptors for reflection.
const GENERATED: [&str; 2] = ["nearcast.v1.rs", "nearcast.v1.bin"];
