//! A server over the parrot on a port of its own, and an HTTP client of a few lines that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::Engine;
use serde_json::Value;
use serve::{Error, ServeInfo};
use tokio::sync::oneshot;

use crate::toy;

pub const CHAT: &str = "/v1/chat/completions";
pub const TEXT: &str = "/v1/completions";

pub struct Server {
    pub address: SocketAddr,
    pub engine: Engine,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Server {
    pub fn start() -> Self {
        Server::with(Duration::ZERO, |_, _| {})
    }

    pub fn with(pause: Duration, change: impl FnOnce(&mut engine::Settings, &mut ServeInfo)) -> Self {
        let mut settings = engine::Settings::default();
        let mut info = ServeInfo::new("parrot");
        change(&mut settings, &mut info);
        Server::over(toy::engine(pause, settings), info)
    }

    pub fn over(engine: Engine, info: ServeInfo) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, told) = oneshot::channel::<()>();
        let served = engine.clone();
        let until = async move {
            let _ = told.await;
        };
        let thread = std::thread::spawn(move || serve::run(listener, served, info, until));
        Server { address, engine, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Tells the server to stop.
    pub fn tell_to_stop(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has stopped.
    pub fn wait(&mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Reply {
        self.send(&post(path, "", body))
    }

    /// Sends these bytes and reads the whole reply.
    pub fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect();
        // A server that refuses early may close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        Reply::read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, reached: impl Fn(&engine::Stats) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reached(&self.engine.stats()) {
            assert!(Instant::now() < deadline, "{what} did not come about: {:?}", self.engine.stats());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A request with a JSON body; `headers` are whole lines.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status =
            line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_string()));
        }
        let mut reply = Reply { status, headers, body: String::new() };
        reply.body = match reply.header("transfer-encoding") {
            Some("chunked") => read_chunks(&mut reader),
            _ => {
                let mut body = String::new();
                reader.read_to_string(&mut body).unwrap();
                body
            }
        };
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The events of a stream, which must end with `[DONE]`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let events = self.body.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("no end: {self:?}"));
        let json = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        events.split_terminator("\n\n").map(json).collect()
    }
}

fn read_chunks(reader: &mut impl BufRead) -> String {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            break;
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&chunk[..size]);
    }
    String::from_utf8(body).unwrap()
}
