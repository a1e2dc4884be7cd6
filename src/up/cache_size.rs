//! How large a node's cache is: bytes, or a share of the log's distinct bytes.

use std::str::FromStr;

/// A size as users write it: `64MiB`, `512KiB`, or a fraction such as `0.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CacheSize {
    /// So many bytes.
    Bytes(u64),
    /// This share of the log's distinct bytes.
    Share(f64),
}

impl CacheSize {
    /// Bytes, for a log whose objects have so many together.
    pub(super) fn bytes(self, distinct_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (distinct_bytes as f64 * share).ceil() as u64,
        }
    }
}

impl FromStr for CacheSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no size such as 64MiB and no share such as 0.1");
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let number: f64 = text[..end].parse().map_err(|_| refused())?;
        let factor = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" if number > 0.0 && number <= 1.0 => return Ok(Self::Share(number)),
            "" | "b" => 1.0,
            "kib" => 1024.0,
            "kb" => 1e3,
            "mib" => 1024.0 * 1024.0,
            "mb" => 1e6,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            "gb" => 1e9,
            _ => return Err(refused()),
        };
        let bytes = number * factor;
        if !(1.0..=1e15).contains(&bytes) {
            return Err(refused());
        }
        Ok(Self::Bytes(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_told_apart() {
        assert_eq!("0.1".parse(), Ok(CacheSize::Share(0.1)));
        assert_eq!("1".parse(), Ok(CacheSize::Share(1.0)));
        assert_eq!("64MiB".parse(), Ok(CacheSize::Bytes(64 << 20)));
        assert_eq!("4096".parse(), Ok(CacheSize::Bytes(4096)));
        for text in ["", "x", "0", "0MiB", "5 parsecs", "-1"] {
            assert!(text.parse::<CacheSize>().is_err(), "{text}");
        }
        assert_eq!(CacheSize::Share(0.1).bytes(1_005), 101);
    }
}
