//! Several predictors on one bus.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nearcast_predictor::{PredictorConfig, PredictorSettings, listen, run};
use nearcast_proto::{
    config_file::parse,
    message::{Action, NodeReport, PredictorNotice},
    wire::{Purge, PurgeReply, PurgeRequest},
};
use tonic::{Code, Status};

use crate::{
    harness::{PATIENCE, TestNode, TestPredictor, eventually, held, hello},
    nats::NatsServer,
    streams::{EAGER, foreseeable_demand, near_topology},
};

async fn member(bus: &str, name: &str) -> TestPredictor {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let topology = near_topology(folder.path());
    let bus = format!(
        "[bus]\nurl = {bus:?}\nname = {name:?}\npartitions = 6\nlease_seconds = 1.0\ncheckpoint_seconds = 0.5\n\
         log_bytes_max = 16777216\n"
    );
    TestPredictor::start_in(folder, &format!("topology = {topology:?}\n{EAGER}{bus}")).await
}

/// Names of the nodes that a predictor takes for connected, here or elsewhere.
async fn alive(predictor: &TestPredictor) -> BTreeSet<String> {
    let status = predictor.status().await;
    let nodes = status["nodes"].as_array().expect("a list").iter().filter(|node| node["alive"] == true);
    nodes.map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn purge(predictor: &TestPredictor, key: &str) -> Result<PurgeReply, Status> {
    let purge = Purge { keys: vec![key.to_owned()], ..Purge::default() };
    let request = PurgeRequest { purge: Some(purge), wait_ms: 10_000 };
    Ok(predictor.control().await.purge(request).await?.into_inner())
}

/// Every member has its share of the partitions.
async fn shared_out(predictor: &TestPredictor, members: usize) {
    eventually("shares for all members", async || {
        let status = predictor.status().await;
        let shares = status["fleet"]["members"].as_object().cloned().unwrap_or_default();
        let each: Vec<u64> = shares.values().filter_map(serde_json::Value::as_u64).collect();
        each.len() == members && each.iter().all(|share| *share == 6 / members as u64)
    })
    .await;
}

#[tokio::test]
async fn a_fleet_of_one_on_an_embedded_bus_learns_orders_and_goes_on_where_it_was() {
    let predictor = member("embedded", "p-1").await;
    let mut eu = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    let mut us = TestNode::join(&predictor, "us-1", "us").await.unwrap();
    let commands = foreseeable_demand(&mut eu, &mut us, 0..250).await;
    assert!(commands.iter().any(|command| command.action == Action::Replicate), "{}", predictor.status().await);
    let generation = predictor.status().await["fleet"]["generation"].as_u64().expect("a number");
    let requests = predictor.status().await["account"]["requests"].as_u64().expect("a number");
    assert!(requests > 1_000, "{requests}");
    let folder = Arc::clone(&predictor.folder);
    drop((eu, us));
    predictor.stop().await.unwrap();

    let bus =
        "[bus]\nurl = \"embedded\"\nname = \"p-1\"\npartitions = 6\nlease_seconds = 1.0\nlog_bytes_max = 16777216\n";
    let predictor = TestPredictor::start_in(folder, bus).await;
    let status = predictor.status().await;
    assert_eq!(status["fleet"]["generation"], generation + 1);
    let partitions = async || predictor.status().await["fleet"]["partitions"].as_array().map_or(0, Vec::len);
    eventually("every partition", async || partitions().await == 6).await;
    assert_eq!(predictor.status().await["account"]["requests"], 0, "nothing is learnt twice");
    let mut eu = TestNode::join(&predictor, "eu-1", "eu").await.unwrap();
    eu.request("c1", "eu", "/a").await;
    let clients = async || predictor.status().await["account"]["bounds"]["clients"].as_u64().expect("a number");
    eventually("what was learnt before", async || clients().await > 400).await;
    predictor.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_knows_every_node_and_what_it_holds() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let (a, b) = tokio::join!(member(&url, "a"), member(&url, "b"));
    shared_out(&a, 2).await;
    let mut eu = TestNode::join(&a, "eu-1", "eu").await.unwrap();
    let us = TestNode::join(&b, "us-1", "us").await.unwrap();
    eu.say(NodeReport::Inventory { held: vec![held("/held")], last: true }).await;
    us.say(NodeReport::Inventory { held: vec![held("/held"), held("/gone")], last: true }).await;
    for predictor in [&a, &b] {
        eventually("both nodes", async || alive(predictor).await == names(&["eu-1", "us-1"])).await;
        eventually("what they hold", async || predictor.locate("/held").await == ["eu-1", "us-1"]).await;
    }
    eu.find_map(|map| map.members.iter().filter(|member| member.alive).count() == 2).await;
    let taken = TestNode::join(&b, "us-1", "us").await.err().expect("the name is taken");
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");

    // Who comes later asks for what it has not heard.
    us.say(NodeReport::Delta { gained: vec![held("/new")], lost: vec![held("/gone")] }).await;
    eventually("the change", async || b.locate("/new").await == ["us-1"]).await;
    let c = member(&server.url(), "c").await;
    eventually("both nodes", async || alive(&c).await == names(&["eu-1", "us-1"])).await;
    eventually("what they hold", async || c.locate("/new").await == ["us-1"]).await;
    assert_eq!(
        (c.locate("/held").await, c.locate("/gone").await),
        (vec!["eu-1".to_owned(), "us-1".to_owned()], vec![])
    );
    assert_eq!(c.status().await["nodes"][0]["is_elsewhere"], true);

    // A node that moves is not there twice, and the member that it left notices.
    drop(us);
    let us = TestNode::join(&c, "us-1", "us").await.expect("it is known to have left, or later than elsewhere");
    us.say(NodeReport::Inventory { held: vec![held("/moved")], last: true }).await;
    for predictor in [&a, &b, &c] {
        eventually("the move", async || predictor.locate("/moved").await == ["us-1"]).await;
        assert_eq!(alive(predictor).await, names(&["eu-1", "us-1"]));
    }
    c.stop().await.unwrap();
    for predictor in [&a, &b] {
        eventually("its nodes' leaving", async || alive(predictor).await == names(&["eu-1"])).await;
        shared_out(predictor, 2).await;
    }
    a.set_arm("none").await.unwrap();
    for predictor in [&a, &b] {
        eventually("the arm at all", async || predictor.status().await["arm"] == "none").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_reach_nodes_of_other_members_and_purges_reach_all() {
    let Some(server) = NatsServer::start() else { return };
    let url = server.url();
    let (a, b) = tokio::join!(member(&url, "a"), member(&url, "b"));
    shared_out(&a, 2).await;
    let mut eu = TestNode::join(&a, "eu-1", "eu").await.unwrap();
    let mut us = TestNode::join(&b, "us-1", "us").await.unwrap();
    eventually("both nodes", async || alive(&a).await.len() == 2 && alive(&b).await.len() == 2).await;
    let commands = foreseeable_demand(&mut eu, &mut us, 0..300).await;
    let authors: BTreeSet<u64> = commands.iter().map(|command| command.id.0 >> 40).collect();
    assert_eq!(authors.len(), 2, "both members order: {} commands", commands.len());
    let metrics = a.get("/metrics").await.1;
    assert!(metrics.contains("nearcast_fleet_is_member 1"), "{metrics}");
    assert!(!metrics.contains("nearcast_fleet_orders_relayed_total 0"), "{metrics}");

    let ordering = tokio::spawn(async move {
        let reply = purge(&a, "/a").await;
        (a, reply)
    });
    for node in [&mut eu, &mut us] {
        let update = node
            .find(|notice| match notice {
                PredictorNotice::Purges(update) if !update.purges.is_empty() => Some(update),
                _ => None,
            })
            .await;
        assert_eq!((update.purges[0].keys[0].as_str(), update.upto), ("/a", 1));
        node.say(NodeReport::Purged { epoch: 1, objects: 2 }).await;
    }
    let (a, reply) = tokio::time::timeout(PATIENCE, ordering).await.unwrap().unwrap();
    let reply = reply.unwrap();
    let objects: Vec<Option<u64>> = reply.nodes.iter().map(|node| node.objects).collect();
    assert_eq!((reply.epoch, objects), (1, vec![Some(2), Some(2)]));
    assert_eq!(purge(&b, "/b").await.unwrap().epoch, 2, "one order for all members");
    eventually("the second purge", async || a.status().await["purge_epoch"] == 2).await;
    // A node takes its place in the log along to another member.
    let NodeReport::Hello { node, code_version, placement, stream, .. } = hello("eu-1", "eu") else { return };
    drop(eu);
    let update = us.find(|notice| if let PredictorNotice::Purges(update) = notice { Some(update) } else { None }).await;
    let purges = Some(nearcast_proto::message::PurgePosition { log: update.log, epoch: 1 });
    let moved = NodeReport::Hello { node, code_version, purges, placement, stream };
    let mut eu = TestNode::connect(&b, moved.into()).await.unwrap();
    let update = eu.find(|notice| if let PredictorNotice::Purges(update) = notice { Some(update) } else { None }).await;
    assert_eq!((update.has_gap, update.purges.len(), update.upto), (false, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bus_is_away_requests_wait_and_probes_say_so() {
    let Some(mut server) = NatsServer::start() else { return };
    let a = member(&server.url(), "a").await;
    let mut eu = TestNode::join(&a, "eu-1", "eu").await.unwrap();
    eu.request("c1", "eu", "/a").await;
    eu.settle().await;
    server.kill();
    eventually("a probe that tells", async || a.get("/readyz").await.1.contains("the bus is away")).await;
    for number in 0..20 {
        eu.request("c1", "eu", &format!("/{number}")).await;
    }
    let refused = purge(&a, "/a").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(a.get("/livez").await.0, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.run();
    eu.settle().await;
    eventually("readiness", async || a.get("/readyz").await.0 == 200).await;
    // The first may be learnt again, from what was known before it.
    let requests = async || a.status().await["account"]["requests"].as_u64().expect("a number");
    eventually("what waited", async || (21..=22).contains(&requests().await)).await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = async |bus: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n[bus]\n{bus}",
            folder.path().join("data")
        );
        let settings: PredictorSettings = parse("p.toml".as_ref(), &text).expect("valid settings");
        let config = PredictorConfig::try_from(settings);
        let config = config.expect("valid settings");
        let (grpc, http) = listen(&config).await.expect("free ports");
        let error = run(grpc, http, config, std::future::pending()).await.expect_err("refused");
        let mut causes = vec![error.to_string()];
        let mut error: &dyn std::error::Error = &error;
        while let Some(source) = error.source() {
            causes.push(source.to_string());
            error = source;
        }
        causes.join(": ")
    };
    let nowhere = start("url = \"nats://127.0.0.1:1\"\ntimeout_seconds = 0.5").await;
    assert!(nowhere.contains("nats://127.0.0.1:1"), "{nowhere}");
    let Some(server) = NatsServer::start() else { return };
    let running = member(&server.url(), "a").await;
    let other = start(&format!("url = {:?}\npartitions = 5\nlog_bytes_max = 16777216", server.url())).await;
    assert!(other.contains("6 partitions") && other.contains("bus.prefix"), "{other}");
    running.stop().await.unwrap();
}
