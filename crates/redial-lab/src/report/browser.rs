//! A browser without a window, for tests of pages: Chromium by its DevTools protocol, over pipes.
//!
//! `apt-get install chromium` puts one where it is found. Without one the tests say so and try nothing.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// What it may be called.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// How many this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// How long it may take to do anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// In a window of 1280 px.
    Desk,
    /// The same, by someone who likes it dark.
    Dark,
    /// On a phone of 390 px.
    Phone,
}

impl View {
    pub(crate) const ALL: [Self; 3] = [Self::Desk, Self::Dark, Self::Phone];

    /// How wide its window is.
    fn width(self) -> u32 {
        match self {
            Self::Desk | Self::Dark => 1280,
            Self::Phone => 390,
        }
    }

    /// The smallest letters that can be read there, in px.
    fn least(self) -> f64 {
        match self {
            Self::Desk | Self::Dark => 11.0,
            Self::Phone => 12.0,
        }
    }
}

/// The browser, with one tab.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    tab: String,
    calls: u64,
    /// Where pages and pictures of them go.
    folder: PathBuf,
    /// Its own files.
    profile: PathBuf,
}

impl Browser {
    /// Starts it; `None` where no browser is installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: no Chromium (apt-get install chromium)");
            return None;
        };
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/redial/screens");
        fs::create_dir_all(&target).expect("a folder for the pictures");
        let folder = target.canonicalize().expect("it is there");
        let number = STARTED.fetch_add(1, Relaxed);
        let profile = folder.join(format!("profile-{}-{number}", std::process::id()));
        // It reads what it is asked from descriptor 3, and answers on 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            ])
            .arg(program)
            .args(["--headless", "--remote-debugging-pipe", "--no-first-run"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-sandbox"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-sync",
                "--disable-extensions",
                "--disable-breakpad",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("it is a pipe");
        let from = messages(child.stdout.take().expect("it is a pipe"));
        let mut browser = Self {
            child,
            to,
            from,
            tab: String::new(),
            calls: 0,
            folder,
            profile,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", target);
        attached["sessionId"]
            .as_str()
            .expect("a session")
            .clone_into(&mut browser.tab);
        Some(browser)
    }

    /// Shows a page, keeps a picture of it, and says what does not fit.
    pub(crate) fn look(&mut self, name: &str, page: &str, view: View) -> Vec<String> {
        let file = self.folder.join(format!("{name}.html"));
        fs::write(&file, page).expect("the page can be written");
        self.open_window(view, 900);
        let scheme = if view == View::Dark { "dark" } else { "light" };
        let scheme = json!({"name": "prefers-color-scheme", "value": scheme});
        self.ask("Emulation.setEmulatedMedia", json!({"features": [scheme]}));
        let url = json!({"url": format!("file://{}", file.display())});
        self.ask("Page.navigate", url);
        let loaded = "document.readyState === 'complete' || new Promise((done) => addEventListener('load', done))";
        let loaded = json!({"expression": loaded, "awaitPromise": true});
        self.ask("Runtime.evaluate", loaded);
        let script = include_str!("browser.js")
            .replace("WIDTH", &view.width().to_string())
            .replace("LEAST", &view.least().to_string());
        let found = self.ask("Runtime.evaluate", json!({"expression": script}));
        let found = found["result"]["value"].as_str();
        let found = found.unwrap_or_else(|| panic!("the script failed on {name}"));
        self.keep_picture(name, view);
        serde_json::from_str(found).expect("a list of texts")
    }

    /// In a window as high as the page: what sticks to a place in a window is not drawn beyond it.
    fn keep_picture(&mut self, name: &str, view: View) {
        let layout = self.ask("Page.getLayoutMetrics", json!({}));
        let height = layout["cssContentSize"]["height"]
            .as_f64()
            .unwrap_or_default();
        self.open_window(view, height as u32);
        let picture = self.ask("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = decoded(picture["data"].as_str().expect("a picture"));
        let file = format!("{name}-{view:?}.png").to_lowercase();
        fs::write(self.folder.join(file), bytes).expect("the picture can be written");
    }

    fn open_window(&mut self, view: View, height: u32) {
        let width = view.width();
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if !self.tab.is_empty() {
            call["sessionId"] = Value::from(self.tab.as_str());
        }
        write!(self.to, "{call}\0").expect("the browser listens");
        let answer = self.next(|message| message["id"] == call["id"]);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn next(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.from.recv_timeout(PATIENCE);
            let message = message.expect("the browser answers within a minute");
            if is_wanted(&message) {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

fn program() -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    let named = |folder: PathBuf| NAMES.map(|name| folder.join(name));
    env::split_paths(&paths)
        .flat_map(named)
        .find(|file| file.is_file())
}

/// Each ends with a NUL.
fn messages(pipe: impl std::io::Read + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let messages = BufReader::new(pipe).split(0).map_while(Result::ok);
        for message in messages {
            let message = serde_json::from_slice(&message).expect("it speaks JSON");
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Base64 (RFC 4648).
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [0; 256];
    for (letter, value) in LETTERS.iter().zip(0u32..) {
        values[usize::from(*letter)] = value;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four
            .iter()
            .fold(0, |bits, letter| bits << 6 | values[usize::from(*letter)]);
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
