//! What a predictor would do with its configuration, in words.

use super::PredictorConfig;
use crate::{PlacementKind, engine::Arm};

impl PredictorConfig {
    /// What a predictor would do with this configuration, a line each.
    pub fn would(&self) -> Vec<String> {
        let grpc = match &self.tls {
            Some(tls) if tls.client_ca.is_some() => "gRPC over TLS, for whom it knows by certificate,",
            Some(_) => "gRPC over TLS",
            None => "plain gRPC",
        };
        let arm = match self.arm {
            Arm::None => "learn, and order nothing until an arm is put in force".to_owned(),
            Arm::Nearcast => {
                let share = self.engine.settings().budget_share;
                format!("have nodes fetch ahead, at most {:.1} % more bytes than without", 100.0 * share)
            }
        };
        let registry = self.registry.as_ref().map_or_else(
            || "learn online only, as no registry is named".to_owned(),
            |registry| {
                let pause = self.registry_poll.as_secs_f64();
                format!("look for the alias {} in {registry} every {pause} s", self.alias)
            },
        );
        let placement = match self.placement.kind {
            PlacementKind::None => "leave every key to its home by hashing".to_owned(),
            kind => format!("place keys ({kind:?}), a plan at most every {} s", self.placement.interval.as_secs()),
        };
        let changers =
            if self.admin_token_file.is_some() { "whoever has the admin token" } else { "everybody who reaches gRPC" };
        let bus = self.bus.as_ref().map(|bus| {
            let (url, partitions) = (bus.url(), bus.partitions());
            format!("share nodes and {partitions} partitions of clients with others on the bus {url}")
        });
        let mut would = vec![
            format!("serve {grpc} on {}, its page and metrics on {}", self.listen, self.http_listen),
            format!("keep its state in {}", self.data_dir.display()),
            registry,
            arm,
            placement,
            format!("let {changers} change arms and experiments, purge and drain"),
        ];
        would.extend(bus);
        would
    }
}
