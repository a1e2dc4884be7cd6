//! Objects as segments.

use std::ops::Range;

use nearcast_datasets::{ByteRange, segment_len};

/// How objects are cut into segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objects {
    segment_bytes: u64,
}

impl Objects {
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes: segment_bytes.max(1) }
    }

    /// The segments that a request for an object, or for a part of it, touches. An empty object has one.
    pub(super) fn segments(self, size_bytes: u64, range: Option<ByteRange>) -> Range<u32> {
        if size_bytes <= self.segment_bytes {
            return 0..1;
        }
        let (start, end) = range.map_or((0, size_bytes), |range| (range.start, range.end.min(size_bytes)));
        let first = start.min(size_bytes - 1) / self.segment_bytes;
        let last = end.clamp(start.min(size_bytes - 1) + 1, size_bytes).div_ceil(self.segment_bytes);
        position(first)..position(last)
    }

    /// Bytes of one segment; the last one of an object is shorter.
    pub(super) fn segment_bytes(self, size_bytes: u64, index: u32) -> u64 {
        segment_len(size_bytes, self.segment_bytes, index)
    }
}

fn position(segment: u64) -> u32 {
    u32::try_from(segment).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_cut_at_the_segment_size() {
        let objects = Objects::new(10);
        for (size_bytes, segments) in [(0, 0..1), (1, 0..1), (10, 0..1), (11, 0..2), (20, 0..2), (21, 0..3)] {
            assert_eq!(objects.segments(size_bytes, None), segments, "{size_bytes}");
            let bytes: u64 = segments.map(|index| objects.segment_bytes(size_bytes, index)).sum();
            assert_eq!(bytes, size_bytes);
        }
    }

    #[test]
    fn a_range_touches_only_its_segments() {
        let objects = Objects::new(10);
        let of = |start, end| objects.segments(25, Some(ByteRange { start, end }));
        assert_eq!((of(0, 10), of(9, 11), of(10, 20), of(24, 25)), (0..1, 0..2, 1..2, 2..3));
        assert_eq!((of(20, 99), of(99, 200)), (2..3, 2..3), "a range past the end touches the last segment");
    }
}
