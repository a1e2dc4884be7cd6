//! The predictor's page in Chromium, with real processes and traffic behind it.
//!
//! Pictures for people are left in `target/page`.

use std::{cell::RefCell, path::Path, sync::PoisonError, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    browser::{SKIPPED, Tab, chromium},
    experiments,
    front::Front,
    hostile,
    http::{Http, eventually},
    r#loop::{Loop, TOKEN},
    service::Service,
};

const CHECKS: &str = include_str!("checks.js");

/// What the page says of itself that is not as it should be, in both themes and three widths.
pub(crate) async fn complaints(tab: &Tab, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (scheme, width) in [("light", 1_280), ("dark", 1_280), ("light", 768), ("light", 360), ("dark", 360)] {
        tab.prefer(scheme).await;
        tab.size(width, 900).await;
        let frame = "document.querySelector('.chart').viewBox.baseVal.width";
        tab.until(
            "charts of the new width",
            &format!("Math.abs({frame} - document.querySelector('.chart').clientWidth) < 2"),
        )
        .await;
        let here: Vec<String> = tab.value(CHECKS).await;
        found.extend(here.into_iter().map(|complaint| format!("{scheme} {width}: {complaint}")));
        tab.save(&format!("{name}-{scheme}-{width}")).await;
    }
    tab.size(1_280, 900).await;
    tab.prefer("light").await;
    found
}

/// Plays a log, and waits until every request has been told of; what the predictor says then.
async fn traffic(cluster: &Loop, http: &Http) -> Value {
    cluster.play(2_500);
    let url = format!("{}/api/status", cluster.http);
    let before = RefCell::new(Value::Null);
    eventually("the last reports", async || {
        let document = http.json(&url).await;
        let account = document["status"]["account"].clone();
        let settled = account == *before.borrow() && account["requests"].as_u64() > Some(2_000);
        before.replace(account);
        sleep(Duration::from_millis(500)).await;
        settled && document["series"]["samples"].as_array().is_some_and(|samples| samples.len() > 8)
    })
    .await;
    http.json(&url).await
}

/// Holds every figure of the page against the document. Commands that nobody answers expire meanwhile, so both are read
/// until they are of the same moment.
async fn check_figures(tab: &Tab, http: &Http, predictor: &str) {
    let url = format!("{predictor}/api/status");
    let mut differences = Vec::new();
    for _ in 0..20 {
        differences = compare_figures(tab, &http.json(&url).await).await;
        if differences.is_empty() {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(differences, [""; 0]);
    let versions: String = tab.value("document.querySelector('#model-list').textContent").await;
    assert!(versions.contains("v0001") && versions.contains("in force") && versions.contains("champion"), "{versions}");
    let legend = "[...document.querySelectorAll('#hits .legend li')].map((item) => item.textContent.trim())";
    assert_eq!(tab.value::<Vec<String>>(legend).await, ["nearcast", "none"]);
}

async fn compare_figures(tab: &Tab, document: &Value) -> Vec<String> {
    let nodes = document["nodes"].as_array().expect("a list");
    let number = |value: &Value| value.as_f64().expect("a number");
    let sum = |field: &str| nodes.iter().map(|node| number(&node[field])).sum::<f64>();
    let account = &document["status"]["account"];
    let earned = number(&account["budget"]["baseline_bytes"]) - number(&account["demand_bytes"]);
    let expected = [
        ("requests", sum("requests")),
        ("hit_ratio", sum("hits") / sum("requests")),
        ("latency_ms", 1_000.0 * sum("latency_seconds") / sum("requests")),
        ("saved_seconds", number(&account["saved_seconds"])),
        ("issued", number(&account["issued"])),
        ("spent_bytes", number(&account["budget"]["extra_bytes"]) + earned),
    ];
    let mut differences = Vec::new();
    for (field, expected) in expected {
        let shown: String = tab.value(&format!("document.querySelector('[data-field={field}]').dataset.value")).await;
        let is_same = shown.parse::<f64>().is_ok_and(|shown| (shown - expected).abs() <= 1e-9 * expected.abs());
        if !is_same {
            differences.push(format!("{field}: {shown} instead of {expected}"));
        }
    }
    let cell = |find: &str| format!("({find})?.textContent ?? 'nothing'");
    let mut shares = vec![(cell("document.querySelector('[data-field=hit_ratio]')"), expected[1].1)];
    for node in nodes {
        let find = format!(
            "[...document.querySelectorAll('[data-node]')].find((cell) => cell.dataset.node === {})",
            node["name"]
        );
        shares.push((cell(&find), number(&node["hits"]) / number(&node["requests"])));
    }
    for (text, share) in shares {
        let shown: String = tab.value(&text).await;
        let percent = shown.strip_suffix(" %").and_then(|percent| percent.parse::<f64>().ok());
        // Halves are rounded up by one language and to even by the other.
        if !percent.is_some_and(|percent| (percent - 100.0 * share).abs() < 0.0501) {
            differences.push(format!("{text}: {shown} instead of {share}"));
        }
    }
    differences
}

/// Tabs through the whole page: in the order of reading, each with something to see, none left out.
async fn check_tab_order(tab: &Tab) {
    let described = "(() => { const node = document.activeElement; if (node === document.body) return ['', 0, true]; \
        const style = getComputedStyle(node); const all = [...document.querySelectorAll('*')]; \
        return [node.tagName + '#' + node.id + ' ' + (node.getAttribute('aria-label') ?? node.textContent).slice(0, 30), \
        all.indexOf(node), parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== 'none'] })()";
    let mut stops: Vec<(String, usize, bool)> = Vec::new();
    for _ in 0..80 {
        tab.press("Tab").await;
        let stop: (String, usize, bool) = tab.value(described).await;
        if stop.0.is_empty() || stops.first().is_some_and(|first| *first == stop) {
            break;
        }
        stops.push(stop);
    }
    assert!(stops[0].0.starts_with("A# Skip"), "{stops:?}");
    for pair in stops.windows(2) {
        assert!(pair[0].1 < pair[1].1, "out of order: {pair:?} in {stops:?}");
    }
    for (name, _, has_outline) in &stops {
        assert!(has_outline, "no visible focus: {name}");
    }
    for wanted in ["BUTTON#theme", "INPUT#key-input", "svg# Hit ratio", "DIV#nodes", "INPUT#token", "SELECT#arm-choice"]
    {
        assert!(stops.iter().any(|(name, ..)| name.starts_with(wanted)), "{wanted} is not in {stops:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_the_predictor_says_to_everybody_and_asks_nobody_else() {
    let Some(chromium) = chromium() else {
        println!("{SKIPPED}");
        return;
    };
    let (mut cluster, http) = (Loop::start(), Http::new());
    let _hostile = hostile::join(&cluster.grpc).await;
    let document = traffic(&cluster, &http).await;
    assert!(document["status"]["account"]["issued"].as_u64() > Some(0), "nothing was prefetched: {document}");
    let tab = Tab::open(&chromium, &format!("{}/", cluster.http)).await;
    tab.until("a line", "document.querySelector('#hits .line')").await;
    // Before anything is clicked, as that is where tabbing would go on from.
    check_tab_order(&tab).await;
    check_figures(&tab, &http, &cluster.http).await;
    check_hostile_names(&tab).await;
    check_key_story(&tab, &http, &cluster.http).await;
    check_themes(&tab).await;
    check_chart_keys(&tab).await;
    Service::kill(cluster.nodes.remove(1));
    tab.until("the dead node", "document.querySelector('.node.dead') && document.querySelector('#nodes .down')").await;
    assert_eq!(complaints(&tab, "page").await, [""; 0]);
    assert_eq!(tab.problems(), [""; 0]);
    let foreign: Vec<String> =
        tab.asked().into_iter().filter(|url| !url.starts_with(&cluster.http) && url != "about:blank").collect();
    assert_eq!(foreign, [""; 0]);
    tab.close().await;
}

/// Names and keys are text wherever they appear, and nothing ran.
async fn check_hostile_names(tab: &Tab) {
    let table: String = tab.value("document.querySelector('#nodes').textContent").await;
    assert!(table.contains(hostile::NAME) && table.contains(hostile::REGION), "{table}");
    tab.type_into("#key-input", hostile::KEY).await;
    tab.press("Enter").await;
    tab.until("the story", "document.querySelector('#key-story h3')").await;
    let shown: String = tab.value("document.querySelector('#key-story h3').textContent").await;
    assert_eq!(shown, hostile::KEY);
    let injected: Vec<String> = tab
        .value("[...document.querySelectorAll('img:not([src^=\"/page/\"]), script:not([src^=\"/page/\"]), [onload], [onerror]')].map((node) => node.outerHTML)")
        .await;
    assert_eq!(injected, [""; 0]);
}

/// The story of a key that was prefetched, as the predictor tells it.
async fn check_key_story(tab: &Tab, http: &Http, predictor: &str) {
    let key = "/images/ksclogo-medium.gif";
    let story = http.json(&format!("{predictor}/api/key?key={key}")).await;
    assert!(story["requests"].as_u64() > Some(10), "{story}");
    tab.type_into("#key-input", key).await;
    tab.click("#key-form button").await;
    tab.until("the story", &format!("document.querySelector('#key-story h3')?.textContent === {key:?}")).await;
    let told: String = tab.value("document.querySelector('#key-story').textContent").await;
    assert!(told.contains(&format!("Requests{}", story["requests"])), "{told} for {story}");
    let holders: Vec<String> =
        tab.value("[...document.querySelectorAll('#key-story table')].filter((table) => table.caption.textContent.startsWith('Nodes')).flatMap((table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent))").await;
    let expected: Vec<&str> =
        story["holders"].as_array().expect("a list").iter().filter_map(|holder| holder["node"].as_str()).collect();
    assert_eq!(holders, expected);
}

async fn check_themes(tab: &Tab) {
    let back = "getComputedStyle(document.body).backgroundColor";
    tab.prefer("light").await;
    let light: String = tab.value(back).await;
    tab.prefer("dark").await;
    let dark: String = tab.value(back).await;
    assert_ne!(light, dark);
    for (label, expected) in [("light", &light), ("dark", &dark), ("system", &dark)] {
        tab.click("#theme").await;
        tab.until("the theme", &format!("document.querySelector('#theme').textContent === 'Theme: {label}'")).await;
        assert_eq!(tab.value::<String>(back).await, *expected, "{label}");
    }
    tab.prefer("light").await;
}

/// A chart is read with the keyboard, and as a table.
async fn check_chart_keys(tab: &Tab) {
    tab.value::<bool>("(document.querySelector('#hits .chart').focus(), true)").await;
    let said = "document.querySelector('#hits .chart').getAttribute('aria-valuetext')";
    let last: String = tab.value(said).await;
    tab.press("Home").await;
    let first: String = tab.value(said).await;
    assert!(first != last && first.contains("nearcast") && first.contains("none"), "{first} then {last}");
    tab.click("#hits summary").await;
    tab.until("the table", "document.querySelector('#hits table tbody tr')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_need_the_token_and_experiments_are_told_and_acted_on() {
    let Some(chromium) = chromium() else {
        println!("{SKIPPED}");
        return;
    };
    let (cluster, http) = (Loop::start(), Http::new());
    cluster.play(300);
    change_the_arm(&chromium, &cluster, &http).await;
    act_on_an_experiment(&chromium, &cluster).await;
}

async fn change_the_arm(chromium: &Path, cluster: &Loop, http: &Http) {
    let tab = Tab::open(chromium, &format!("{}/", cluster.http)).await;
    tab.until(
        "no experiment",
        "document.querySelector('#experiment-list').textContent.includes('No experiment is running')",
    )
    .await;
    let arm = async || http.json(&format!("{}/status", cluster.http)).await["arm"].clone();
    tab.value::<bool>("(document.querySelector('#arm-choice').value = 'none', true)").await;
    let change = async |token: &str, expected: &str| {
        tab.type_into("#token", token).await;
        tab.click("#change-form button").await;
        tab.until("a question", "document.querySelector('dialog[open]')").await;
        tab.click("dialog button.go").await;
        tab.until(expected, &format!("document.querySelector('#change-result').textContent.includes({expected:?})"))
            .await;
    };
    change("wrong", "this needs the predictor's admin token").await;
    assert_eq!(arm().await, "nearcast");
    let refused = tab.problems();
    assert!(refused.iter().all(|problem| problem.contains("401")) && refused.len() == 1, "{refused:?}");
    change(TOKEN, "none is in force").await;
    assert_eq!(arm().await, "none");
    tab.until("the arm", "document.querySelector('#arm').textContent === 'Arm in force: none'").await;
    let kept: String = tab.value("JSON.stringify([localStorage, sessionStorage, document.cookie])").await;
    assert!(!kept.contains(TOKEN), "{kept}");
    tab.close().await;
}

async fn act_on_an_experiment(chromium: &Path, cluster: &Loop) {
    let front = Front::start(&cluster.http, experiments::with_experiments).await;
    let tab = Tab::open(chromium, &format!("{}/", front.url)).await;
    tab.until("two experiments with their charts", "document.querySelectorAll('.experiment').length === 2 && document.querySelectorAll('.experiment .band').length === 1").await;
    let told: String = tab.value("document.querySelector('#experiment-list').textContent").await;
    for part in [
        experiments::NAME,
        "INCONCLUSIVE",
        "0.9 (0.1 to 1.7) points",
        "4 (−∞ to ∞) points",
        "✓ holds",
        "logged nothing",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert_eq!(complaints(&tab, "experiments").await, [""; 0]);
    tab.type_into("#token", TOKEN).await;
    tab.click(".experiment button").await;
    tab.until("a question", "document.querySelector('dialog[open]')").await;
    tab.type_into("dialog input", "better for two days").await;
    tab.press("Enter").await;
    tab.until("the answer", "document.querySelector('#change-result').textContent.includes('accepted')").await;
    let told = front.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let change = json!({ "name": experiments::NAME, "action": "promote", "why": "better for two days" });
    assert_eq!(told, [(format!("Bearer {TOKEN}"), change)]);
    assert_eq!(tab.problems(), [""; 0]);
    tab.close().await;
}
