//! Opens what is to be imported: files or standard input, compressed or not, line by line in bounded memory.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::PathBuf,
    str::FromStr,
};

use flate2::read::MultiGzDecoder;

use super::error::ImportError;

/// One thing to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file; `.gz` and `.zst` are recognised by their content, not their name.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl FromStr for Input {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(PathBuf::from(text)) })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// An input's decompressed bytes, of which the first were looked at.
pub(crate) struct Opened {
    /// The first bytes, at most [`SAMPLE_BYTES`].
    pub(crate) sample: Vec<u8>,
    /// All bytes, the sample included.
    pub(crate) reader: Box<dyn BufRead>,
}

impl Input {
    /// Opens the input and looks at its beginning.
    pub(crate) fn open(&self) -> Result<Opened, ImportError> {
        let failed = |source| ImportError::Input { input: self.to_string(), source };
        let raw: Box<dyn Read> = match self {
            Self::File(path) => Box::new(File::open(path).map_err(failed)?),
            Self::Stdin => Box::new(io::stdin()),
        };
        let mut plain = decompress(raw).map_err(failed)?;
        let mut sample = Vec::new();
        plain.by_ref().take(SAMPLE_BYTES as u64).read_to_end(&mut sample).map_err(failed)?;
        let reader = Box::new(BufReader::with_capacity(BUFFER_BYTES, Cursor::new(sample.clone()).chain(plain)));
        Ok(Opened { sample, reader })
    }
}

/// Bytes that detection may look at.
pub(crate) const SAMPLE_BYTES: usize = 64 * 1_024;

const BUFFER_BYTES: usize = 256 * 1_024;

fn decompress(mut raw: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut magic)?;
    let (gzip, zstd) = (magic.starts_with(&[0x1f, 0x8b]), magic == [0x28, 0xb5, 0x2f, 0xfd]);
    let raw = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(raw));
    Ok(if gzip {
        Box::new(MultiGzDecoder::new(raw))
    } else if zstd {
        Box::new(zstd::Decoder::with_buffer(raw)?)
    } else {
        Box::new(raw)
    })
}

/// Reads lines of bounded length into one buffer.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    line_bytes_max: usize,
    number: u64,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// All of it, without its end.
    Whole(&'a [u8]),
    /// The beginning of a line longer than the bound; the rest was read over.
    TooLong(&'a [u8]),
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, line_bytes_max: usize) -> Self {
        Self { reader, buffer: Vec::new(), line_bytes_max, number: 0 }
    }

    /// The next line that is not blank, or `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        loop {
            self.buffer.clear();
            let limit = self.line_bytes_max as u64 + 1;
            if self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.buffer.last() != Some(&b'\n') && self.buffer.len() > self.line_bytes_max {
                skip_line(&mut self.reader)?;
                return Ok(Some((self.number, Line::TooLong(&self.buffer))));
            }
            let blank = self.buffer.iter().all(u8::is_ascii_whitespace);
            if !blank {
                return Ok(Some((self.number, Line::Whole(trim_line(&self.buffer, self.number)))));
            }
        }
    }
}

/// Drops the line end, and the byte-order mark of a first line.
fn trim_line(line: &[u8], number: u64) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (used, ended) = match reader.fill_buf()? {
            [] => return Ok(()),
            buffer => match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (buffer.len(), false),
            },
        };
        reader.consume(used);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_at_the_bound_are_whole_and_longer_ones_are_cut() {
        let text = b"\xef\xbb\xbfabcd\r\n\n12345678\n123456789\nlast";
        let mut lines = Lines::new(BufReader::with_capacity(3, &text[..]), 8);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            found.push((
                number,
                format!("{line:?}").contains("Whole"),
                match line {
                    Line::Whole(text) | Line::TooLong(text) => String::from_utf8(text.to_vec()).unwrap(),
                },
            ));
        }
        let expected = [(1, true, "abcd"), (3, true, "12345678"), (4, false, "123456789"), (5, true, "last")];
        assert_eq!(found, expected.map(|(number, whole, text)| (number, whole, text.to_owned())));
    }

    #[test]
    fn compressed_files_are_known_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let text = "line\n".repeat(40_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let contents =
            [gzip.finish().unwrap(), zstd::encode_all(text.as_bytes(), 1).unwrap(), text.clone().into_bytes()];
        for (index, bytes) in contents.into_iter().enumerate() {
            let path = folder.path().join(format!("{index}.log"));
            std::fs::write(&path, bytes).unwrap();
            let mut opened = Input::File(path).open().unwrap();
            let mut found = String::new();
            opened.reader.read_to_string(&mut found).unwrap();
            assert!(found == text && opened.sample == text.as_bytes()[..SAMPLE_BYTES]);
        }
    }
}
