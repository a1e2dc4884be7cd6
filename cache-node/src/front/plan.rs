//! What the body of an answer is made of, in order: bytes of an object, and the text around the parts of
//! `multipart/byteranges` (RFC 9110, section 14.6).

use std::{fmt::Write, ops::Range};

use bytes::Bytes;
use http::{HeaderValue, header};
use nearcast_datasets::ByteRange;
use smallvec::SmallVec;

use super::respond::content_range;
use crate::object::Object;

/// The pieces still to be sent, and the segments still to be asked for. Most answers are one piece, which takes no memory
/// besides.
#[derive(Debug)]
pub(super) struct Plan {
    /// The next one last.
    pieces: SmallVec<[Piece; 1]>,
    /// The segments that the pieces need, the next ones last; the same one is not asked for twice in a row.
    segments: SmallVec<[Range<u32>; 1]>,
    segment_bytes: u64,
    remaining_bytes: u64,
}

#[derive(Clone, Debug)]
enum Piece {
    Object(ByteRange),
    Text(Bytes),
}

/// What [`Plan::take`] took.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Everything was taken.
    End,
    /// Another segment is needed than the one at hand.
    OtherSegment,
    /// These bytes come next.
    Piece(Bytes),
}

impl Plan {
    /// One part of an object, without more.
    pub(super) fn part(part: ByteRange, segment_bytes: u64) -> Self {
        Self::new([Piece::Object(part)], segment_bytes)
    }

    /// Several parts of `object`, each with its head, between boundaries.
    pub(super) fn parts(parts: &[ByteRange], object: &Object, boundary: &str) -> Self {
        let pieces = parts.iter().enumerate().flat_map(|(number, part)| {
            let head = part_head(*part, object, boundary, number == 0);
            [Piece::Text(head.into()), Piece::Object(*part)]
        });
        let end = Piece::Text(format!("\r\n--{boundary}--\r\n").into());
        Self::new(pieces.chain([end]), object.segment_bytes)
    }

    fn new(pieces: impl IntoIterator<Item = Piece>, segment_bytes: u64) -> Self {
        let mut pieces: SmallVec<[Piece; 1]> = pieces.into_iter().filter(|piece| piece.len() > 0).collect();
        let mut segments: SmallVec<[Range<u32>; 1]> = SmallVec::with_capacity(pieces.len());
        let mut remaining_bytes = 0;
        for piece in &pieces {
            remaining_bytes += piece.len();
            let Piece::Object(ByteRange { start, end }) = piece else { continue };
            let index = |at: u64| u32::try_from(at / segment_bytes).unwrap_or(u32::MAX);
            let (mut first, behind) = (index(*start), index(end.saturating_sub(1)).saturating_add(1));
            if segments.last().is_some_and(|before| before.end == first + 1) {
                first += 1;
            }
            if first < behind {
                segments.push(first..behind);
            }
        }
        pieces.reverse();
        segments.reverse();
        Self { pieces, segments, segment_bytes, remaining_bytes }
    }

    /// Bytes still to be sent.
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// Whether one segment holds all of the object's bytes that are to be sent, and nothing else is.
    pub(super) fn is_in_one(&self) -> bool {
        self.pieces.len() == 1 && matches!(self.segments.last(), Some(range) if range.len() == 1)
    }

    /// The first segment that is needed.
    pub(super) fn first_segment(&self) -> u32 {
        self.segments.last().map_or(0, |range| range.start)
    }

    /// The segment to ask for next; each is named once.
    pub(super) fn next_segment(&mut self) -> Option<u32> {
        let range = self.segments.last_mut()?;
        let next = range.next();
        if range.start >= range.end {
            self.segments.pop();
        }
        next
    }

    /// Takes what comes next, if it is no byte of another segment than the one at hand.
    pub(super) fn take(&mut self, index: u32, segment: &Bytes) -> Taken {
        let Some(piece) = self.pieces.last_mut() else { return Taken::End };
        let taken = match piece {
            Piece::Text(text) => std::mem::take(text),
            Piece::Object(part) => {
                let start = u64::from(index) * self.segment_bytes;
                let end = part.end.min(start + segment.len() as u64);
                if part.start < start || part.start >= end {
                    return Taken::OtherSegment;
                }
                let offset = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                let taken = segment.slice(offset(part.start)..offset(end));
                part.start = end;
                taken
            }
        };
        self.remaining_bytes -= taken.len() as u64;
        if piece.len() == 0 {
            self.pieces.pop();
        }
        Taken::Piece(taken)
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Object(part) => part.end - part.start,
            Self::Text(text) => text.len() as u64,
        }
    }
}

/// The `Content-Type` of an answer with several parts.
pub(super) fn multipart_type(boundary: &str) -> HeaderValue {
    let text = format!("multipart/byteranges; boundary={boundary}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("multipart/byteranges"))
}

fn part_head(part: ByteRange, object: &Object, boundary: &str, is_first: bool) -> Vec<u8> {
    let mut head = String::from(if is_first { "" } else { "\r\n" });
    // Writing to a string cannot fail.
    let _ = write!(head, "--{boundary}\r\n");
    let mut head = head.into_bytes();
    let range = content_range(Some(part), object.size_bytes);
    for (name, value) in [("content-type", object.head.get(&header::CONTENT_TYPE)), ("content-range", Some(range))] {
        let Some(value) = value else { continue };
        head.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::{
        key::Key,
        object::{Freshness, ObjectParts},
    };

    const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    fn object() -> Object {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x"));
        Object::new(ObjectParts {
            key: Key::parse("/a").unwrap(),
            status: StatusCode::OK,
            size_bytes: CONTENT.len() as u64,
            segment_bytes: 10,
            headers,
            received_at: Timestamp::from_micros(0),
            freshness: Freshness::default(),
        })
    }

    /// Sends a plan to its end; returns what was sent and which segments were asked for.
    fn send(mut plan: Plan) -> (String, Vec<u32>) {
        let (mut sent, mut asked) = (Vec::new(), Vec::new());
        let announced = plan.remaining_bytes();
        let (mut index, mut segment) = (u32::MAX, Bytes::new());
        loop {
            match plan.take(index, &segment) {
                Taken::End => break,
                Taken::Piece(piece) => {
                    assert!(!piece.is_empty());
                    sent.extend(&piece[..]);
                    assert_eq!(plan.remaining_bytes() + sent.len() as u64, announced);
                }
                Taken::OtherSegment => {
                    index = plan.next_segment().expect("another segment is needed");
                    asked.push(index);
                    let start = index as usize * 10;
                    segment = Bytes::from_static(&CONTENT[start..(start + 10).min(CONTENT.len())]);
                }
            }
        }
        assert_eq!((plan.remaining_bytes(), plan.next_segment()), (0, None));
        (String::from_utf8(sent).unwrap(), asked)
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn one_part_is_its_bytes() {
        assert_eq!(send(Plan::part(range(5, 25), 10)), ("56789abcdefghijklmno".to_owned(), vec![0, 1, 2]));
        assert_eq!(send(Plan::part(range(0, 36), 10)).0.as_bytes(), CONTENT);
        assert_eq!(send(Plan::part(range(0, 0), 10)), (String::new(), vec![]));
        assert!(Plan::part(range(30, 36), 10).is_in_one() && !Plan::part(range(29, 36), 10).is_in_one());
    }

    #[test]
    fn several_parts_stand_between_boundaries_and_need_each_segment_once_in_a_row() {
        let (sent, asked) =
            send(Plan::parts(&[range(1, 3), range(8, 12), range(15, 17), range(0, 1)], &object(), "XX"));
        let expected = "--XX\r\ncontent-type: text/x\r\ncontent-range: bytes 1-2/36\r\n\r\n12\
            \r\n--XX\r\ncontent-type: text/x\r\ncontent-range: bytes 8-11/36\r\n\r\n89ab\
            \r\n--XX\r\ncontent-type: text/x\r\ncontent-range: bytes 15-16/36\r\n\r\nfg\
            \r\n--XX\r\ncontent-type: text/x\r\ncontent-range: bytes 0-0/36\r\n\r\n0\
            \r\n--XX--\r\n";
        assert_eq!((sent.as_str(), asked), (expected, vec![0, 1, 0]));
    }
}
