//! A headless Chromium, as the reader of a page: it is asked over the pipe of the DevTools protocol, one JSON object
//! after the other, each ended by a zero byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Guarded;
use crate::server::require_program;

/// For one answer, on a machine that does other things too.
const ANSWER: Duration = Duration::from_secs(60);

/// The file descriptors on which the browser reads and writes.
const BROWSER_READS: i32 = 3;
const BROWSER_WRITES: i32 = 4;

/// A browser with one page.
#[derive(Debug)]
pub struct Chromium {
    requests: File,
    answers: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the page's console, or the browser about the page, said.
    complaints: Vec<Value>,
    // Before its folder.
    _process: Guarded,
    _profile: TempDir,
}

impl Chromium {
    /// Starts it with an empty page.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub fn start() -> Result<Self> {
        require_program("chromium")?;
        let profile = tempfile::Builder::new().prefix("rstrace-chromium-").tempdir()?;
        let (browser_reads, requests) = pipe()?;
        let (answers, browser_writes) = pipe()?;
        let mut command = Command::new("chromium");
        // Its sandbox refuses root.
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--disable-background-networking", "--no-proxy-server", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (read, write) = (browser_reads.as_raw_fd(), browser_writes.as_raw_fd());
        // SAFETY: between fork and exec this calls fcntl(2) and dup2(2) alone, on descriptors that are open.
        unsafe {
            command.pre_exec(move || {
                // Neither may lie where the other goes.
                let read = libc::fcntl(read, libc::F_DUPFD, 10);
                let write = libc::fcntl(write, libc::F_DUPFD, 10);
                if libc::dup2(read, BROWSER_READS) < 0 || libc::dup2(write, BROWSER_WRITES) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(read);
                libc::close(write);
                Ok(())
            })
        };
        let process = Guarded::spawn(&mut command)?;
        let mut browser = Self {
            requests: File::from(requests),
            answers: read_answers(File::from(answers)),
            session: None,
            last: 0,
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)?;
        browser.session = Some(session["sessionId"].as_str().context("a session has an id")?.to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, &json!({}))?;
        }
        Ok(browser)
    }

    /// Opens an address, and returns once the document is complete.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(opened.get("errorText").is_none(), "{url}: {}", opened["errorText"]);
        self.wait_for("document.readyState === 'complete'", ANSWER)?;
        Ok(())
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true, and says how long that took.
    ///
    /// # Errors
    /// When it is not within `limit`; then with what the page shows.
    pub fn wait_for(&mut self, expression: &str, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            if self.evaluate(expression)? == Value::Bool(true) {
                return Ok(start.elapsed());
            }
            if start.elapsed() > limit {
                let shown = self.evaluate("document.body.innerText")?;
                bail!("{expression}: not within {limit:?}; the page shows {shown}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a key: its name (`Enter`), or the character.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let text = match key {
            "Enter" => "\r",
            _ if key.chars().count() == 1 => key,
            _ => "",
        };
        let down = json!({ "type": "keyDown", "key": key, "text": text });
        self.call("Input.dispatchKeyEvent", &down)?;
        self.call("Input.dispatchKeyEvent", &json!({ "type": "keyUp", "key": key }))?;
        Ok(())
    }

    /// Types into what has the focus.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({ "text": text })).map(drop)
    }

    /// Sets the size of the page, and whether its reader prefers dark.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &media).map(drop)
    }

    /// Writes what is seen to a file, as PNG.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let picture = self.call("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let picture = picture["data"].as_str().context("a screenshot has data")?;
        // It comes in Base64.
        let mut decode = Command::new("base64");
        decode.arg("-d").stdin(Stdio::piped()).stdout(File::create(path)?);
        let mut decode = Guarded::spawn(&mut decode)?;
        decode.child().stdin.take().context("base64's stdin is piped")?.write_all(picture.as_bytes())?;
        let status = decode.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "base64: {status}");
        Ok(())
    }

    /// Errors and warnings of the page until now: exceptions, refusals by its policy, failed requests.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn complaints(&mut self) -> Result<&[Value]> {
        // Whatever came before the answer to this has been read.
        self.evaluate("1")?;
        Ok(&self.complaints)
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).context("the browser is gone")?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left).with_context(|| format!("{method}: no answer"))?;
            if answer["id"] == self.last {
                ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            let level = &answer["params"]["entry"]["level"];
            let complains = match answer["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
                Some("Log.entryAdded") => level == "error" || level == "warning",
                _ => false,
            };
            if complains {
                self.complaints.push(answer["params"].clone());
            }
        }
    }
}

fn read_answers(answers: File) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for piece in BufReader::new(answers).split(0) {
            let Ok(piece) = piece else { return };
            let Ok(answer) = serde_json::from_slice(&piece) else { continue };
            if sender.send(answer).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The reading and the writing end; no child inherits them by itself.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two integers, which pipe2(2) fills.
    let done = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    ensure!(done == 0, "make a pipe: {}", std::io::Error::last_os_error());
    // SAFETY: both are open, and nobody else has them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}
