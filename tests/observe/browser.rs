//! Chromium without a window, and what it had to complain of.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chromiumoxide::{
    Browser, BrowserConfig, Page,
    cdp::browser_protocol::{
        emulation::{MediaFeature, SetDeviceMetricsOverrideParams},
        log::EventEntryAdded,
        network::{EnableParams, EventRequestWillBeSent},
        page::CaptureScreenshotFormat,
    },
    cdp::js_protocol::runtime::{EventConsoleApiCalled, EventExceptionThrown},
    page::ScreenshotParams,
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use crate::http::eventually;

/// A tab with the page in it.
pub(crate) struct Tab {
    pub(crate) page: Page,
    /// What the console said and what was thrown.
    problems: Heard,
    /// The addresses that were asked.
    asked: Heard,
    browser: Browser,
    handler: JoinHandle<()>,
    _profile: TempDir,
}

type Heard = Arc<Mutex<Vec<String>>>;

/// Chromium: `NEARCAST_CHROMIUM`, which must work when it is set, or the system's. `None` when there is none: then
/// [`SKIPPED`] is what to say.
pub(crate) fn chromium() -> Option<PathBuf> {
    let works = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
        command.output().is_ok_and(|said| said.status.success() && !said.stdout.is_empty())
    };
    if let Some(demanded) = env::var_os("NEARCAST_CHROMIUM").map(PathBuf::from) {
        assert!(works(&demanded), "NEARCAST_CHROMIUM does not run: {}", demanded.display());
        return Some(demanded);
    }
    PROGRAMS
        .iter()
        .flat_map(|name| env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(works))
        .next()
}

impl Tab {
    /// Opens the page and waits until it shows something.
    pub(crate) async fn open(chromium: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let config = BrowserConfig::builder()
            .chrome_executable(chromium)
            .user_data_dir(profile.path())
            // Tests run as root in containers, where its sandbox cannot be set up. It sees nothing but our own page.
            .no_sandbox()
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--force-device-scale-factor=1"])
            .launch_timeout(PATIENCE)
            .viewport(None)
            .build()
            .expect("a sound configuration");
        let (browser, mut handler) = Browser::launch(config).await.expect("Chromium starts");
        let handler = tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await.expect("a tab");
        let (problems, asked) = (Heard::default(), Heard::default());
        listen(&page, &problems, &asked).await;
        let tab = Self { page, problems, asked, browser, handler, _profile: profile };
        tab.size(1_280, 900).await;
        tab.page.goto(url).await.expect("the page loads");
        tab.until("figures", "document.querySelectorAll('.tile').length === 6").await;
        tab
    }

    /// The value of an expression.
    pub(crate) async fn value<T: DeserializeOwned>(&self, expression: &str) -> T {
        let result = self.page.evaluate_expression(expression).await;
        let result = result.unwrap_or_else(|error| panic!("{expression}: {error}"));
        result.into_value().unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, what: &str, expression: &str) {
        eventually(what, async || self.value::<bool>(&format!("Boolean({expression})")).await).await;
    }

    pub(crate) async fn size(&self, width: i64, height: i64) {
        let size = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.page.execute(size).await.expect("a size");
    }

    /// What the reader's system prefers.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let feature = MediaFeature { name: "prefers-color-scheme".to_owned(), value: scheme.to_owned() };
        self.page.emulate_media_features(vec![feature]).await.expect("a preference");
    }

    pub(crate) async fn click(&self, selector: &str) {
        // Not below the head of the page, which stays where it is.
        self.value::<bool>(&format!(
            "(document.querySelector({selector:?}).scrollIntoView({{ block: 'center' }}), true)"
        ))
        .await;
        let element = self.page.find_element(selector).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.page.find_element(selector).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        self.value::<bool>(&format!("(document.querySelector({selector:?}).value = '', true)")).await;
        element.focus().await.expect("it takes the focus").type_str(text).await.expect("it takes text");
    }

    pub(crate) async fn press(&self, key: &str) {
        let body = self.page.find_element("body").await.expect("a body");
        body.press_key(key).await.expect("a key");
    }

    /// A picture for people, below `target/page`.
    pub(crate) async fn save(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
        std::fs::create_dir_all(&folder).expect("writable");
        let whole = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).full_page(true).build();
        let path = folder.join(format!("{name}.png"));
        self.page.save_screenshot(whole, &path).await.expect("a picture");
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn close(mut self) {
        // What is still running is killed with the handle.
        let _ = timeout(PATIENCE, self.browser.close()).await;
        let _ = timeout(PATIENCE, self.browser.wait()).await;
        self.handler.abort();
    }
}

async fn listen(page: &Page, problems: &Heard, asked: &Heard) {
    let note = |heard: &Heard, text: String| heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    page.execute(EnableParams::default()).await.expect("requests are told");
    page.enable_log().await.expect("the log is told");
    page.enable_runtime().await.expect("exceptions are told");
    let mut requests = page.event_listener::<EventRequestWillBeSent>().await.expect("a listener");
    let mut entries = page.event_listener::<EventEntryAdded>().await.expect("a listener");
    let mut calls = page.event_listener::<EventConsoleApiCalled>().await.expect("a listener");
    let mut thrown = page.event_listener::<EventExceptionThrown>().await.expect("a listener");
    let (problems, asked) = (Arc::clone(problems), Arc::clone(asked));
    drop(tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(request) = requests.next() => note(&asked, request.request.url.clone()),
                Some(entry) = entries.next() => note(&problems, format!("{:?}: {} {:?}", entry.entry.level, entry.entry.text, entry.entry.url)),
                Some(call) = calls.next() => note(&problems, format!("{:?}: {:?}", call.r#type, call.args)),
                Some(thrown) = thrown.next() => note(&problems, format!("{:?}", thrown.exception_details)),
                else => return,
            }
        }
    }));
}

const PROGRAMS: [&str; 4] = ["chromium-headless-shell", "chromium", "google-chrome-stable", "google-chrome"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a test was skipped, and what to do about it.
pub(crate) const SKIPPED: &str =
    "skipped: no Chromium; install Debian's `chromium-headless-shell`, or set NEARCAST_CHROMIUM";
