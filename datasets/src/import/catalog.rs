//! Gives numbers to clients, regions and keys, so that rows are small and addresses stay in memory.

use std::{borrow::Cow, net::IpAddr, str::FromStr};

use super::{
    error::ImportError,
    options::ImportOptions,
    record::{Reason, Record},
    sizes::Sizes,
    sorter::Row,
};
use crate::{ClientId, Interner, KeyId, PseudonymKey, RegionId, schema::KEY_BYTES_MAX};

/// The names of everything seen so far.
#[derive(Debug)]
pub(crate) struct Catalog<'o> {
    options: &'o ImportOptions,
    clients: Clients,
    pub(crate) regions: Interner,
    pub(crate) keys: Interner,
    pub(crate) sizes: Sizes,
    /// Whether any record asked for a part.
    pub(crate) has_ranges: bool,
}

impl<'o> Catalog<'o> {
    pub(crate) fn new(options: &'o ImportOptions) -> Self {
        Self {
            options,
            clients: Clients::default(),
            regions: Interner::default(),
            keys: Interner::default(),
            sizes: Sizes::default(),
            has_ranges: false,
        }
    }

    /// The row of a record; `Ok(Err(…))` when the record must be rejected.
    pub(crate) fn row(&mut self, record: &Record<'_>) -> Result<Result<Row, Reason>, ImportError> {
        if record.key.is_empty() {
            return Ok(Err(Reason::KeyEmpty));
        }
        if record.key.len() > KEY_BYTES_MAX {
            return Ok(Err(Reason::KeyTooLong));
        }
        let (client, home) = self.clients.insert(&record.client, self.options, &mut self.regions)?;
        let region = match &record.region {
            Some(region) => region_id(&mut self.regions, region.trim())?,
            None => home,
        };
        let key = self.keys.insert(&record.key);
        if self.keys.len() + self.clients.raw.len() > self.options.bounds.distinct_max {
            return Err(ImportError::TooManyDistinct { max: self.options.bounds.distinct_max });
        }
        let size_bytes = self.sizes.observe(key, record.size);
        self.has_ranges |= record.range.is_some();
        let (timestamp, range) = (record.timestamp, record.range);
        Ok(Ok(Row { timestamp, client, region, key: KeyId(key), size_bytes, range }))
    }

    /// The clients' pseudonyms.
    pub(crate) fn pseudonyms(&self) -> &Interner {
        &self.clients.pseudonyms
    }
}

/// Clients as the source names them, each hashed and placed once.
#[derive(Debug, Default)]
struct Clients {
    raw: Interner,
    known: Vec<(ClientId, RegionId)>,
    pseudonyms: Interner,
}

impl Clients {
    fn insert(
        &mut self,
        client: &[u8],
        options: &ImportOptions,
        regions: &mut Interner,
    ) -> Result<(ClientId, RegionId), ImportError> {
        let client = String::from_utf8_lossy(client);
        let number = self.raw.insert(&client) as usize;
        if let Some(known) = self.known.get(number) {
            return Ok(*known);
        }
        let canonical = canonical(&client);
        let region = region_id(regions, options.region.region(&canonical))?;
        let pseudonym = pseudonym(&options.pseudonym_key, &canonical);
        self.known.push((ClientId(self.pseudonyms.insert(&pseudonym)), region));
        Ok(self.known[number])
    }
}

fn pseudonym(key: &PseudonymKey, client: &str) -> String {
    key.pseudonym(client.as_bytes())
}

/// One spelling per address.
fn canonical(client: &str) -> Cow<'_, str> {
    let client = client.trim();
    match IpAddr::from_str(client) {
        Ok(address) => Cow::Owned(address.to_canonical().to_string()),
        Err(_) => Cow::Borrowed(client),
    }
}

fn region_id(regions: &mut Interner, name: &str) -> Result<RegionId, ImportError> {
    let max = usize::from(u16::MAX) + 1;
    let number = regions.insert(name);
    u16::try_from(number).map(RegionId).map_err(|_| ImportError::TooManyRegions { max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, import::record::SizeClue};

    fn record<'a>(client: &'a str, key: &'a str) -> Record<'a> {
        let client = Cow::Borrowed(client.as_bytes());
        let timestamp = Timestamp::default();
        Record { timestamp, client, region: None, key: Cow::Borrowed(key), size: SizeClue::Body(1), range: None }
    }

    #[test]
    fn spellings_of_one_address_are_one_client() {
        let options = ImportOptions::new(PseudonymKey::from_secret(b"test"), "unused".into());
        let mut catalog = Catalog::new(&options);
        let mut client = |name| catalog.row(&record(name, "k")).unwrap().unwrap().client;
        assert_eq!(client("2001:db8::1"), client("2001:0DB8:0::0001"));
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(catalog.pseudonyms().len(), 3);
        assert!(catalog.pseudonyms().iter().all(|(_, name)| !name.contains("192")));
    }

    #[test]
    fn keys_at_the_bound_pass_and_longer_ones_are_rejected() {
        let options = ImportOptions::new(PseudonymKey::from_secret(b"test"), "unused".into());
        let mut catalog = Catalog::new(&options);
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert!(catalog.row(&record("c", &longest)).unwrap().is_ok());
        assert_eq!(catalog.row(&record("c", &format!("{longest}k"))).unwrap(), Err(Reason::KeyTooLong));
        assert_eq!(catalog.row(&record("c", "")).unwrap(), Err(Reason::KeyEmpty));
    }

    #[test]
    fn more_names_than_the_bound_stop_the_import() {
        let mut options = ImportOptions::new(PseudonymKey::from_secret(b"test"), "unused".into());
        options.bounds.distinct_max = 3;
        let mut catalog = Catalog::new(&options);
        assert!(catalog.row(&record("c", "1")).is_ok() && catalog.row(&record("c", "2")).is_ok());
        assert!(matches!(catalog.row(&record("c", "3")), Err(ImportError::TooManyDistinct { max: 3 })));
    }
}
