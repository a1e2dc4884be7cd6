//! The node's configuration: what an operator wrote ([`NodeConfig::load`]), resolved and checked.

mod access_log;
mod keys;
mod raw;
mod sections;
mod tls;
mod units;
mod would;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use nearcast_proto::{config_file, message::NodeName};
use url::Url;

pub(crate) use self::keys::Changes;
use self::raw::RawConfig;
pub use self::{
    access_log::{AccessLogConfig, AccessLogFormat},
    sections::{EmulationConfig, FrontConfig, LinkConfig, LogConfig, OriginConfig, PeersConfig, StoreConfig},
    tls::{PeersTlsConfig, TlsConfig},
};
use crate::{
    core::NodeCoreConfig,
    error::{Error, Result},
};

/// Everything that a node is told, checked. Relative paths start at the file's folder.
///
/// ```toml
/// name = "eu-1"                     # unique in the cluster
/// region = "eu"
/// listen = "127.0.0.1:8101"         # port 0 lets the system choose
/// data_dir = "data/eu-1"            # payloads, index journal and request logs
/// capacity = "10GiB"                # payload bytes that the node may hold
///
/// [origin]
/// url = "http://127.0.0.1:9000"     # or https://, s3://, gs://, az://, file://
///
/// [predictor]                       # optional: without it the node is an ordinary good cache
/// url = "http://127.0.0.1:7000"
///
/// [tls]                             # optional: with it, `listen` speaks TLS
/// certificate = "node.crt"
/// key = "node.key"
/// ```
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name, unique in the cluster.
    pub name: NodeName,
    /// Where the node is.
    pub region: Arc<str>,
    /// Where to listen; port 0 lets the system choose. It speaks TLS when there is a [`TlsConfig`] without a `listen` of
    /// its own, else plain HTTP.
    pub listen: SocketAddr,
    /// Where peers and clients reach the node; the bound address when absent.
    pub advertise_url: Option<Url>,
    /// The folder for everything persistent.
    pub data_dir: PathBuf,
    /// Bytes per segment.
    pub segment_bytes: u64,
    /// Distinct keys whose names are remembered.
    pub keys_max: usize,
    /// The bounds of index, coalescing and prefetch queue.
    pub core: NodeCoreConfig,
    /// Where objects come from.
    pub origin: OriginConfig,
    /// Where payloads are kept.
    pub store: StoreConfig,
    /// How peers are asked.
    pub peers: PeersConfig,
    /// How clients are served.
    pub front: FrontConfig,
    /// How requests are logged.
    pub log: LogConfig,
    /// The access log, when there is one.
    pub access_log: Option<AccessLogConfig>,
    /// The predictor, when there is one.
    pub link: Option<LinkConfig>,
    /// Round trips added to outgoing fetches.
    pub emulation: EmulationConfig,
    /// How the node is reached over TLS, when it is.
    pub tls: Option<TlsConfig>,
    /// The file that all this was read from, if it was one: what a reload reads again.
    pub file: Option<PathBuf>,
}

impl NodeConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, has an unknown key, or a value is out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let config = Self::check(config_file::load(path)?, path)?;
        Ok(Self { file: Some(path.to_path_buf()), ..config })
    }

    /// Checks the text of a configuration file; `path` is what error messages name.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        Self::check(config_file::parse(path, text)?, path)
    }

    fn check(mut raw: RawConfig, path: &Path) -> Result<Self> {
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        raw.data_dir = base.join(raw.data_dir);
        raw.log.dir = raw.log.dir.map(|dir| base.join(dir));
        raw.access_log.iter_mut().for_each(|log| log.path = base.join(&log.path));
        raw.front.admin_token_file = raw.front.admin_token_file.map(|file| base.join(file));
        raw.origin.ca = raw.origin.ca.map(|file| base.join(file));
        raw.predictor.iter_mut().for_each(|link| link.ca = link.ca.take().map(|file| base.join(file)));
        raw.tls.iter_mut().for_each(|tls| tls.start_at(base));
        raw.peers.tls.iter_mut().for_each(|tls| tls.start_at(base));
        if let Some(topology) = raw.emulation.topology.as_mut().filter(|topology| *topology != "default") {
            *topology = base.join(&*topology).display().to_string();
        }
        Self::try_from(raw)
    }
}

impl TryFrom<RawConfig> for NodeConfig {
    type Error = Error;

    fn try_from(raw: RawConfig) -> Result<Self> {
        let segment_bytes = raw.segment_size.map_or(SEGMENT_BYTES, |size| size.0);
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) {
            return Err(value("segment_size", format!("{segment_bytes} bytes is outside 4KiB to 64MiB")));
        }
        if raw.capacity.0 < segment_bytes {
            return Err(value("capacity", format!("{} bytes is less than one segment", raw.capacity.0)));
        }
        let origin = OriginConfig::try_from(raw.origin)?;
        let advertise_url = raw.advertise_url.map(|url| http_url("advertise_url", &url)).transpose()?;
        let tls = raw.tls.map(TlsConfig::try_from).transpose()?;
        if raw.peers.tls.is_some() {
            if tls.is_none() {
                return Err(value(
                    "peers.tls",
                    "peers ask this node over https only, which needs a section [tls]".to_owned(),
                ));
            }
            if advertise_url.as_ref().is_some_and(|url| url.scheme() != "https") {
                return Err(value("advertise_url", "with [peers.tls], peers ask over https:// only".to_owned()));
            }
        }
        Ok(Self {
            name: NodeName::from(word("name", &raw.name)?),
            region: Arc::from(word("region", &raw.region)?),
            listen: socket_address("listen", &raw.listen)?,
            advertise_url,
            data_dir: raw.data_dir.clone(),
            segment_bytes,
            keys_max: raw.index.keys_max.unwrap_or(KEYS_MAX),
            core: sections::core(raw.capacity.0, &raw.index, &raw.prefetch, &origin)?,
            origin,
            store: StoreConfig::checked(&raw.store, raw.capacity.0, segment_bytes),
            peers: PeersConfig::from(&raw.peers),
            front: FrontConfig::checked(&raw.front, &raw.prefetch),
            log: LogConfig::checked(&raw.log, &raw.data_dir)?,
            access_log: raw.access_log.map(AccessLogConfig::try_from).transpose()?,
            link: raw.predictor.map(LinkConfig::try_from).transpose()?,
            emulation: EmulationConfig::checked(&raw.emulation, &raw.region)?,
            tls,
            file: None,
        })
    }
}

/// A name as logs, metrics and messages carry it.
fn word<'a>(key: &'static str, text: &'a str) -> Result<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(is_plain) {
        return Err(value(key, format!("`{text}` is not 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`")));
    }
    Ok(text)
}

fn socket_address(key: &'static str, text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|_| value(key, format!("`{text}` is no address and port such as 127.0.0.1:8101")))
}

/// An absolute HTTP(S) address.
fn http_url(key: &'static str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| value(key, format!("`{text}` is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(value(key, format!("`{text}` does not start with http:// or https:// and a host")));
    }
    Ok(url)
}

fn value(key: &'static str, problem: String) -> Error {
    Error::ConfigValue { key, problem }
}

const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
const KEYS_MAX: usize = 4_000_000;
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINIMAL: &str = r#"
        name = "eu-1"
        region = "eu"
        listen = "127.0.0.1:0"
        data_dir = "/tmp/x"
        capacity = "64MiB"
    "#;

    fn parse(more: &str) -> Result<NodeConfig> {
        NodeConfig::parse(&format!("{MINIMAL}{more}"), Path::new("node.toml"))
    }

    const ORIGIN: &str = "\n[origin]\nurl = \"http://127.0.0.1:9\"\n";

    #[test]
    fn a_minimal_file_gets_documented_defaults() {
        let config = parse(ORIGIN).unwrap();
        assert_eq!((config.segment_bytes, config.core.index.capacity_bytes), (1 << 20, 64 << 20));
        assert_eq!(config.origin.connect_timeout, Duration::from_secs(2));
        assert_eq!(config.log.dir, Path::new("/tmp/x/logs"));
        assert!(config.link.is_none());
        assert!(config.store.disk_bytes > 64 << 20, "the disk tier needs room for alignment and reclaiming");
    }

    /// Uncomments every default of the example, so that a key that was renamed or a default that moved is noticed.
    #[test]
    fn the_example_names_every_key_with_its_default() {
        // A CA is only for who is asked by https.
        let example = include_str!("../../node.example.toml").replace("\"http://", "\"https://");
        let is_default = |line: &str| {
            let rest = line.strip_prefix("# ").unwrap_or_default();
            rest.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        let is_section = |line: &str| line.starts_with("# [");
        let spell_out = |line| if is_default(line) || is_section(line) { &line[2..] } else { line };
        let lines: Vec<&str> = example.lines().map(spell_out).collect();
        let plain = NodeConfig::parse(&example, Path::new("node.example.toml")).unwrap();
        let mut spelt_out = NodeConfig::parse(&lines.join("\n"), Path::new("node.example.toml")).unwrap();
        // What the example sets only to show its form.
        spelt_out.advertise_url = None;
        spelt_out.front.admin_token_file = None;
        spelt_out.log.upload = None;
        spelt_out.store.disk_bytes = plain.store.disk_bytes;
        spelt_out.emulation = EmulationConfig::default();
        let log = format!("{MINIMAL}{ORIGIN}[access_log]\npath = \"log/access.log\"");
        let log = NodeConfig::parse(&log, Path::new("node.toml")).unwrap().access_log;
        assert!(log.is_some() && spelt_out.access_log.take() == log);
        spelt_out.origin.ca = None;
        spelt_out.link.iter_mut().for_each(|link| link.ca = None);
        assert_eq!(format!("{:?}", spelt_out.tls.take().unwrap()), format!("{:?}", minimal_tls()));
        spelt_out.peers.tls = None;
        assert_eq!(format!("{plain:#?}"), format!("{spelt_out:#?}"));
        let raw = include_str!("raw.rs");
        for key in raw.lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": ")) {
            let is_section = lines.contains(&&*format!("[{}]", key.0));
            assert!(
                is_section || lines.iter().any(|line| line.starts_with(&format!("{} = ", key.0))),
                "{} is missing",
                key.0
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name() {
        let error = parse("segment_sise = 5").unwrap_err().to_string();
        assert!(error.contains("did you mean `segment_size`?"), "{error}");
        let error = parse(&format!("{ORIGIN}conect_timeout = \"1s\"")).unwrap_err().to_string();
        assert!(error.contains("did you mean `connect_timeout`?"), "{error}");
    }

    #[test]
    fn prefetches_leave_most_of_the_origin_to_demand() {
        let flights = |more: &str| parse(&format!("{ORIGIN}{more}")).unwrap().core.prefetch_flights_max;
        assert_eq!(flights(""), 16);
        assert_eq!(flights("concurrency_max = 8"), 2);
        assert_eq!(flights("concurrency_max = 1"), 1);
        assert_eq!(flights("concurrency_max = 8\n[prefetch]\nconcurrency_max = 1"), 1);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let check = |more: &str, key: &str| {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        };
        check(&format!("segment_size = 100{ORIGIN}"), "segment_size");
        check("\n[origin]\nurl = \"127.0.0.1:9\"", "origin.url");
        check(&format!("{ORIGIN}[predictor]\nurl = \"ftp://x\""), "predictor.url");
        check(&format!("{ORIGIN}[predictor]\nurls = [\"http://x\", \"y\"]"), "predictor.urls");
        check(&format!("{ORIGIN}[predictor]\nurls = []"), "predictor.url");
        check(&format!("{ORIGIN}[index]\npolicy = \"magic\""), "index.policy");
        check(&format!("{ORIGIN}[log]\nrows_max = 0"), "log.rows_max");
        check(&format!("{ORIGIN}[access_log]\npath = \"x\"\nqueue_max = 0"), "access_log.queue_max");
        check(&format!("{ORIGIN}ca = \"ca.pem\""), "origin.ca");
        check(&format!("{ORIGIN}[predictor]\nurl = \"http://x\"\nca = \"ca.pem\""), "predictor.ca");
        let tls = "[tls]\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";
        check(&format!("{ORIGIN}{tls}listen = \"8443\""), "tls.listen");
        check(&format!("{ORIGIN}{tls}poll_interval = \"0s\""), "tls.poll_interval");
        let peers = "[peers.tls]\nca = \"ca.crt\"\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";
        check(&format!("{ORIGIN}{peers}"), "peers.tls");
        check(&format!("advertise_url = \"http://eu-1:80\"{ORIGIN}{tls}{peers}"), "advertise_url");
    }

    fn minimal_tls() -> TlsConfig {
        let text = format!("{MINIMAL}{ORIGIN}[tls]\ncertificate = \"tls/node.crt\"\nkey = \"tls/node.key\"");
        let config = NodeConfig::parse(&text, Path::new("node.toml")).unwrap();
        TlsConfig { listen: Some(([0, 0, 0, 0], 8443).into()), ..config.tls.unwrap() }
    }
}
