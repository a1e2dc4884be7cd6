//! Generations from the bus: a counter that every start of a member moves on.

use nearcast_bus::{Error, Result, SharedBucket};

use crate::generation::Generation;

/// Begins the next generation of all members.
///
/// # Errors
/// A bus that is away, or a counter that is damaged: to begin anew would give numbers out again.
pub(super) async fn begin(bucket: &SharedBucket) -> Result<Generation> {
    loop {
        let written = match bucket.get(KEY).await? {
            None => bucket.create(KEY, "1".into()).await.map(|_| 1),
            Some(entry) => {
                let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<u32>().ok());
                let damaged = || Error::Damaged { what: "entry", name: KEY.to_owned() };
                let next = number.and_then(|number| number.checked_add(1)).ok_or_else(damaged)?;
                bucket.update(KEY, next.to_string().into(), entry.revision).await.map(|_| next)
            }
        };
        match written {
            Ok(number) => return Ok(Generation::numbered(number)),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
}

const KEY: &str = "generation";

#[cfg(test)]
mod tests {
    use nearcast_bus::{Bus, BusSettings};

    use super::*;

    #[tokio::test]
    async fn nobody_has_the_generation_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::open(BusSettings::embedded(folder.path())).await.unwrap();
        let bucket = bus.bucket(super::super::shared_spec()).await.unwrap();
        let begin = || async { begin(&bucket).await.map(Generation::number) };
        let (a, b, c, d) = tokio::join!(begin(), begin(), begin(), begin());
        let mut numbers = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let entry = bucket.get(KEY).await.unwrap().unwrap();
        bucket.update(KEY, "x".into(), entry.revision).await.unwrap();
        assert!(matches!(super::begin(&bucket).await, Err(Error::Damaged { .. })));
    }
}
