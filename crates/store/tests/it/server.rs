//! A small server on loopback for as long as a test lasts, that speaks as much S3 as reading needs: lists in pages, states,
//! ranges; and whatever else a test lets it answer, such as refusals and connections that break.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Without its query, decoded.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte of a range, and the one behind its last.
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse::<usize>().ok().map(|last| last + 1)))
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
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    pub fn cut(mut self, bytes: usize) -> Reply {
        self.cut = Some(bytes);
        self
    }

    /// A refusal as S3 words it.
    pub fn refusal(status: u16, code: &str) -> Reply {
        Reply::status(status).body(format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>"
        ))
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server.
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        // The thread ends with the process; a test is over when it has what it asked for.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &log, &*answer);
                });
            }
        });
        Server { address, asked }
    }

    /// Everything that was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut asked = Asked {
        method: method.to_owned(),
        path: decoded(path),
        query: pairs.map(|(name, value)| (decoded(name), decoded(value))).collect(),
        headers: BTreeMap::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    match asked.method.as_str() {
        "HEAD" => Ok(()),
        _ => stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())]),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex: Vec<u8> = if byte == b'%' { rest.by_ref().take(2).collect() } else { Vec::new() };
        let value = std::str::from_utf8(&hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(if byte == b'+' { b' ' } else { value.unwrap_or(byte) });
    }
    String::from_utf8(bytes).unwrap()
}

/// What lies in buckets, by `bucket/key`.
#[derive(Clone, Default)]
pub struct Objects(pub Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Objects {
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.into());
    }

    /// What S3 answers, with so many objects on a page of a list.
    pub fn answer(&self, asked: &Asked, page: usize) -> Reply {
        let objects = self.0.lock().unwrap();
        let path = asked.path.trim_start_matches('/');
        let bucket = path.split('/').next().unwrap();
        if !objects.keys().any(|name| name.starts_with(&format!("{bucket}/"))) {
            return Reply::refusal(404, "NoSuchBucket");
        }
        if asked.query.contains_key("list-type") {
            let prefix = format!("{bucket}/{}", asked.query.get("prefix").map_or("", String::as_str));
            let after = asked.query.get("continuation-token").cloned().unwrap_or_default();
            let found: Vec<_> =
                objects.iter().filter(|(name, _)| name.starts_with(&prefix) && **name > after).collect();
            let more = found.len() > page;
            let mut body = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>");
            for (name, bytes) in found.iter().take(page) {
                let key = name[bucket.len() + 1..].replace('&', "&amp;");
                body.push_str(&format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;{}&quot;</ETag>\
                     <Size>{}</Size></Contents>",
                    etag(bytes),
                    bytes.len()
                ));
            }
            if more {
                let token = found[page - 1].0.replace('&', "&amp;");
                body.push_str(&format!("<NextContinuationToken>{token}</NextContinuationToken>"));
            }
            return Reply::status(200).body(body + "</ListBucketResult>");
        }
        match objects.get(path) {
            Some(bytes) => part(asked, bytes),
            None => Reply::refusal(404, "NoSuchKey"),
        }
    }
}

fn etag(bytes: &[u8]) -> String {
    // FNV-1a: any change of the contents changes it.
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// A file, or the range of it that was asked for.
pub fn part(asked: &Asked, bytes: &[u8]) -> Reply {
    let reply = match asked.range() {
        None => Reply::status(200).body(bytes),
        Some((from, to)) if from < bytes.len() => {
            let to = to.unwrap_or(bytes.len()).min(bytes.len());
            Reply::status(206)
                .header("content-range", format!("bytes {from}-{}/{}", to - 1, bytes.len()))
                .body(&bytes[from..to])
        }
        Some(_) => Reply::status(416).header("content-range", format!("bytes */{}", bytes.len())),
    };
    reply
        .header("etag", format!("\"{}\"", etag(bytes)))
        .header("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT")
}
