//! A small HTTP server that speaks the hub's language, for as long as a test lasts: lists of files, addresses that lead to
//! another host, ranges; and whatever else a test lets it answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The commit that `main` stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte of a range.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// After so many bytes of the body the connection is closed.
    pub cut: Option<usize>,
    /// Waits after each piece of the body, for tests that come in between.
    pub slow: Option<Duration>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A running server.
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    most: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, most) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (log, peak, answer) = (Arc::clone(&asked), Arc::clone(&most), Arc::new(answer));
        let at_once = Arc::new(AtomicUsize::new(0));
        // The thread ends with the process; a test is over when it has what it asked for.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, peak, answer, at_once) =
                    (Arc::clone(&log), Arc::clone(&peak), Arc::clone(&answer), Arc::clone(&at_once));
                std::thread::spawn(move || {
                    peak.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _ = serve(stream, &log, &*answer, Counted(&at_once));
                });
            }
        });
        Self { address, asked, most }
    }

    /// Everything that was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// The most requests at once.
    pub fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A request among those at once, until it is dropped. That is before the last of its answer is sent: whoever has that may
/// ask for more before this thread has gone on.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
    counted: Counted,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut asked = Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: BTreeMap::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    asked.body.resize(length, 0);
    reader.read_exact(&mut asked.body)?;
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = match asked.method.as_str() {
        "HEAD" => &[],
        _ => &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())],
    };
    let Some((last, body)) = body.split_last() else {
        drop(counted);
        return stream.write_all(format!("{head}\r\n").as_bytes());
    };
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    for piece in body.chunks(4096) {
        stream.write_all(piece)?;
        if let Some(pause) = reply.slow {
            std::thread::sleep(pause);
        }
    }
    drop(counted);
    stream.write_all(&[*last])
}

/// A repository with its files.
#[derive(Clone, Default)]
pub struct Repo {
    /// `owner/name`.
    pub name: String,
    /// Name, contents, and whether they lie in the large file storage, on another host.
    pub files: Vec<(String, Vec<u8>, bool)>,
    /// Where the large files lie.
    pub storage: String,
    /// A mirror's list, which says names alone.
    pub bare: bool,
}

impl Repo {
    pub fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn git(bytes: &[u8]) -> String {
        let sum = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name of a file's contents in the cache.
    pub fn etag(&self, file: &str) -> String {
        let (_, bytes, large) = self.files.iter().find(|(name, ..)| name == file).unwrap();
        if *large { Self::sha256(bytes) } else { Self::git(bytes) }
    }

    /// What the hub answers.
    pub fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap();
        let revisions = ["main", COMMIT];
        if revisions.iter().any(|revision| path == format!("/api/models/{}/revision/{revision}", self.name)) {
            let siblings: Vec<serde_json::Value> = self.files.iter().map(|file| self.sibling(file)).collect();
            let list = serde_json::json!({"id": self.name, "sha": COMMIT, "siblings": siblings});
            return Reply::status(200).body(list.to_string());
        }
        if path.starts_with(&format!("/api/models/{}/revision/", self.name)) {
            return Reply::status(404).header("x-error-code", "RevisionNotFound");
        }
        if path.starts_with("/api/models/") {
            return Reply::status(404).header("x-error-code", "RepoNotFound");
        }
        let Some(file) = path.strip_prefix(&format!("/{}/resolve/{COMMIT}/", self.name)) else {
            return Reply::status(404).header("x-error-code", "EntryNotFound");
        };
        let file = file.replace("%20", " ");
        let Some((name, bytes, large)) = self.files.iter().find(|(name, ..)| *name == file) else {
            return Reply::status(404).header("x-error-code", "EntryNotFound");
        };
        if *large {
            return Reply::status(302)
                .header("location", format!("{}/store/{}?signature=x", self.storage, Self::sha256(bytes)))
                .header("x-linked-etag", format!("\"{}\"", Self::sha256(bytes)))
                .header("x-linked-size", bytes.len())
                .header("x-repo-commit", COMMIT);
        }
        part(asked, bytes).header("etag", format!("\"{}\"", self.etag(name)))
    }

    fn sibling(&self, (name, bytes, large): &(String, Vec<u8>, bool)) -> serde_json::Value {
        let mut sibling = serde_json::json!({"rfilename": name});
        if !self.bare {
            sibling["size"] = bytes.len().into();
            sibling["blobId"] = Self::git(bytes).into();
            if *large {
                sibling["lfs"] = serde_json::json!({"sha256": Self::sha256(bytes), "size": bytes.len(), "pointerSize": 130});
            }
        }
        sibling
    }

    /// What the host of the large files answers.
    pub fn store(&self, asked: &Asked) -> Reply {
        let sum = asked.path.trim_start_matches("/store/").split('?').next().unwrap();
        match self.files.iter().find(|(_, bytes, large)| *large && Self::sha256(bytes) == sum) {
            Some((_, bytes, _)) => part(asked, bytes),
            None => Reply::status(403),
        }
    }
}

/// A body from the asked byte on.
pub fn part(asked: &Asked, bytes: &[u8]) -> Reply {
    match asked.from() {
        None => Reply::status(200).body(bytes),
        Some(from) if from < bytes.len() => Reply::status(206)
            .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[from..]),
        Some(_) => Reply::status(416).header("content-range", format!("bytes */{}", bytes.len())),
    }
}
