//! What operators and their monitoring see of a running loop: the page in Chromium, metrics, rules, the dashboard.
//!
//! Pictures of the page are left for people in `target/page`.

#[path = "observe/browser.rs"]
mod browser;
#[path = "observe/experiments.rs"]
mod experiments;
#[path = "observe/front.rs"]
mod front;
#[path = "observe/hostile.rs"]
mod hostile;
#[path = "support/http.rs"]
mod http;
#[path = "support/loop.rs"]
mod r#loop;
#[path = "observe/monitoring.rs"]
mod monitoring;
#[path = "observe/page.rs"]
mod page;
#[path = "observe/predictors.rs"]
mod predictors;
#[path = "support/promtool.rs"]
mod promtool;
#[path = "observe/series.rs"]
mod series;
#[path = "support/service.rs"]
mod service;
#[path = "support/version.rs"]
mod version;
