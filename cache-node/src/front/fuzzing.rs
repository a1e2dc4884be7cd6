//! The entry point for fuzzing the `Range` header; see [`crate::fuzzing`].

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use nearcast_datasets::{ByteRange, Timestamp};

use super::{
    plan::{Plan, Taken},
    range::{RangeAsk, Selection},
};
use crate::{
    key::Key,
    object::{Freshness, Object, ObjectParts},
};

/// Two bytes of an object's size, one of its segments', then a `Range` and, on the next line, an `If-Range`: whatever it
/// selects lies within the object, no byte twice, and is sent to its last byte.
pub fn ranges(data: &[u8]) {
    let Some(([low, high, segment], text)) = data.split_first_chunk() else { return };
    let size_bytes = u64::from(u16::from_le_bytes([*low, *high]));
    let object = object(size_bytes, u64::from(*segment) + 1);
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut asked = HeaderMap::new();
    for name in [header::RANGE, header::IF_RANGE] {
        if let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) {
            asked.insert(name, value);
        }
    }
    let ask = RangeAsk::of(&asked, COUNT_MAX);
    let _ = (ask.first_segment(object.segment_bytes), ask.has_suffix());
    let plan = match ask.select(&object, &asked) {
        Selection::Whole => Plan::part(ByteRange { start: 0, end: size_bytes }, object.segment_bytes),
        Selection::Unsatisfiable => return,
        Selection::Part(part) => {
            assert!(part.start < part.end && part.end <= size_bytes, "{part:?}");
            Plan::part(part, object.segment_bytes)
        }
        Selection::Parts(parts) => {
            assert!((2..=COUNT_MAX).contains(&parts.len()));
            let mut sorted = parts.clone();
            sorted.sort_by_key(|part| part.start);
            assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start), "{parts:?}");
            assert!(sorted.iter().all(|part| part.start < part.end && part.end <= size_bytes), "{parts:?}");
            Plan::parts(&parts, &object, "boundary")
        }
    };
    send(plan, &object);
}

fn send(mut plan: Plan, object: &Object) {
    let announced = plan.remaining_bytes();
    let (mut index, mut segment, mut sent) = (u32::MAX, Bytes::new(), 0);
    loop {
        match plan.take(index, &segment) {
            Taken::End => break,
            Taken::OtherSegment => {
                index = plan.next_segment().expect("a segment is needed that was not asked for");
                let length = usize::try_from(object.segment_len(index)).expect("short");
                assert!(length > 0, "segment {index} is beyond the end");
                segment = Bytes::from(vec![0; length]);
            }
            Taken::Piece(piece) => {
                assert!(!piece.is_empty());
                sent += piece.len() as u64;
            }
        }
    }
    assert_eq!((sent, plan.remaining_bytes(), plan.next_segment()), (announced, 0, None));
}

fn object(size_bytes: u64, segment_bytes: u64) -> Object {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, HeaderValue::from_static("\"v1\""));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Object::new(ObjectParts {
        key: Key::parse("/a").expect("a key"),
        status: StatusCode::OK,
        size_bytes,
        segment_bytes,
        headers,
        received_at: Timestamp::from_micros(5),
        freshness: Freshness::default(),
    })
}

const COUNT_MAX: usize = 64;
