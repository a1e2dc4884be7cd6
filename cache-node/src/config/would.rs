//! What a node would do with its configuration, in words.

use super::NodeConfig;

impl NodeConfig {
    /// What a node would do with this configuration, a line each.
    pub fn would(&self) -> Vec<String> {
        let capacity = mebibytes(self.core.index.capacity_bytes);
        let predictor = self.link.as_ref().map_or_else(
            || "be an ordinary cache, as no predictor is named".to_owned(),
            |link| {
                let urls: Vec<&str> = link.urls.iter().map(url::Url::as_str).collect();
                format!("report to the predictor at {} and carry out its orders", urls.join(" or "))
            },
        );
        let logs = if self.log.is_enabled {
            format!("log requests below {}", self.log.dir.display())
        } else {
            "log no request".to_owned()
        };
        let admin = if self.front.admin_token_file.is_some() {
            "whoever has the admin token"
        } else {
            "everybody who reaches it"
        };
        vec![
            format!("be {} in region {}, and serve {}", self.name.0, self.region, self.listens()),
            format!("tell peers to reach it at {}", self.advertises()),
            format!("hold {capacity} of {}, in segments of {} KiB", self.origin.url, self.segment_bytes >> 10),
            format!(
                "keep {} in memory, and at most {} below {}",
                mebibytes(self.store.memory_bytes),
                mebibytes(self.store.disk_bytes),
                self.data_dir.display()
            ),
            predictor,
            logs,
            format!("let {admin} purge, warm and follow requests"),
        ]
    }

    fn listens(&self) -> String {
        match &self.tls {
            None => format!("http on {}", self.listen),
            Some(tls) => match tls.listen {
                None => format!("https on {}", self.listen),
                Some(beside) => format!("http on {} and https on {beside}", self.listen),
            },
        }
    }

    fn advertises(&self) -> String {
        match &self.advertise_url {
            Some(url) => url.to_string(),
            None if self.listen.ip().is_unspecified() => format!(
                "its bound address, which {} is not for anybody else: set advertise_url if there are peers",
                self.listen.ip()
            ),
            None => "its bound address".to_owned(),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
