//! Hundreds of clients at once, most of them bad: they vanish, send too much, too little, or what nobody can read. Nothing
//! hangs, every answer has its shape, and when they are gone nothing is left of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use serve::ServeInfo;

use crate::client::{CHAT, Reply, TEXT, post};
use crate::toy;

const CLIENTS: usize = 300;
const ROUNDS: usize = 4;
const KINDS: usize = 17;
/// Set for the process that does the work: memory can only be measured where no other test runs.
const ALONE: &str = "ALTI_LOAD_TEST_ALONE";
const KEY: &str = "Authorization: Bearer sesame\r\n";
const RESPONSES: &str = "/v1/responses";

#[test]
fn nothing_is_left_of_hundreds_of_clients() {
    if std::env::var_os(ALONE).is_some() {
        return rounds();
    }
    let name = "load::nothing_is_left_of_hundreds_of_clients";
    let alone = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout).into_owned() + &String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success() && told.contains("1 passed"), "{told}");
}

fn rounds() {
    let settings = engine::Settings { max_sequences: 16, max_queue: 48, ..engine::Settings::default() };
    let engine = toy::engine(Duration::from_micros(200), settings);
    let mut info = ServeInfo::new("parrot");
    info.api_keys = ["sesame"].into_iter().collect();
    info.settings.max_body_bytes = 10_000;
    info.settings.header_timeout_seconds = 1;
    info.settings.body_timeout_seconds = 1;
    info.settings.max_stored_bytes = 1 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, told) = tokio::sync::oneshot::channel::<()>();
    let served = engine.clone();
    let server = runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        serve::serve(listener, served, info, async { drop(told.await) }).await
    });

    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (answered, refused) = (&answered, &refused);
                let work = move || client_of_kind(address, client, answered, refused);
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).unwrap();
            }
        });
        // Both happen: there are more clients than places.
        let (answered, refused) = (answered.into_inner(), refused.into_inner());
        assert!(answered >= 16, "round {round}: {answered} answers, {refused} refusals");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let stats = engine.stats();
            let tasks = runtime.metrics().num_alive_tasks();
            // The server's own task is the one that stays.
            if stats.running + stats.waiting + stats.cache_tokens == 0 && tasks == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "round {round}: {tasks} tasks, {stats:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        memory.push(resident_bytes());
    }
    let page = ask(address, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{KEY}\r\n"));
    for gauge in ["alti_sequences_running", "alti_sequences_waiting", "alti_cache_tokens"] {
        assert!(page.body.contains(&format!("\n{gauge} 0\n")), "{}", page.body);
    }
    assert!(page.body.contains("\nalti_connections 1\n"), "{}", page.body);
    // What one round takes beyond the one before is the allocator's; what leaks, leaks in each.
    if let [Some(second), Some(last)] = [memory[1], memory[ROUNDS - 1]] {
        assert!(last < second + (8 << 20), "{memory:?}");
    }
    stop.send(()).unwrap();
    runtime.block_on(server).unwrap().unwrap();
    // The runtime counts a task until a moment after it was joined.
    let deadline = Instant::now() + Duration::from_secs(10);
    while runtime.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < deadline, "a task outlives the server");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    // Longer than any bound of the server's: who waits so long has found something that hangs.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(address: SocketAddr, request: &str) -> Reply {
    let mut stream = connect(address);
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(request.as_bytes());
    Reply::read(stream)
}

#[track_caller]
fn check_error(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = reply.json()["error"].clone();
    assert!(error["message"].is_string() && error["type"].is_string(), "{reply:?}");
    assert!(error.get("param").is_some() && error.get("code").is_some(), "{reply:?}");
}

/// What a busy server may answer to a good request.
fn answered(reply: &Reply, refused: &AtomicUsize) -> bool {
    if reply.status == 429 {
        check_error(reply, 429);
        assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        refused.fetch_add(1, Ordering::Relaxed);
        return false;
    }
    assert_eq!(reply.status, 200, "{reply:?}");
    true
}

fn client_of_kind(address: SocketAddr, client: usize, good: &AtomicUsize, refused: &AtomicUsize) {
    let said = format!("client {client} says the quick brown fox jumps over the lazy dog");
    let messages = json!([{ "role": "user", "content": said }]);
    let chat = |stream: bool| {
        post(CHAT, KEY, &json!({ "messages": messages, "temperature": 0, "stream": stream }).to_string())
    };
    let long = |stream: bool, n: usize| {
        let body = json!({ "prompt": "a", "max_tokens": 1000, "stream": stream, "n": n });
        post(TEXT, KEY, &body.to_string())
    };
    // Sends this, waits for so many bytes of the answer, and is gone.
    let vanish = |request: &str, bytes: usize| {
        let mut stream = connect(address);
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_exact(&mut vec![0; bytes]);
    };
    match client % KINDS {
        0 => {
            let reply = ask(address, &chat(false));
            if answered(&reply, refused) {
                assert_eq!(reply.json()["choices"][0]["message"]["content"], said.as_str());
                good.fetch_add(1, Ordering::Relaxed);
            }
        }
        1 => {
            let reply = ask(address, &chat(true));
            if answered(&reply, refused) {
                let events = reply.events();
                let text = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
                assert_eq!(text.collect::<String>(), said);
                good.fetch_add(1, Ordering::Relaxed);
            }
        }
        2 => {
            let body = json!({ "input": said, "temperature": 0 });
            let reply = ask(address, &post(RESPONSES, KEY, &body.to_string()));
            if answered(&reply, refused) {
                assert_eq!(reply.json()["output"][0]["content"][0]["text"], said.as_str());
                good.fetch_add(1, Ordering::Relaxed);
            }
        }
        3 => vanish(&long(true, 1), 600),
        4 => vanish(&long(false, 1), 0),
        5 => vanish(&long(true, 4), 2000),
        6 => vanish(&post(RESPONSES, KEY, &json!({ "input": said, "stream": true }).to_string()), 1000),
        7 => check_error(&ask(address, &post(CHAT, KEY, &"x".repeat(20_000))), 413),
        8 => {
            let head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
            let chunk = format!("7d0\r\n{}\r\n", " ".repeat(2000)).repeat(8);
            check_error(&ask(address, &format!("{head}{KEY}\r\n{chunk}0\r\n\r\n")), 413);
        }
        9 => check_error(&ask(address, &post(CHAT, KEY, "{\"messages\": [}")), 400),
        10 => check_error(&ask(address, &post(CHAT, KEY, "{\"messages\": \"hello\"}")), 400),
        11 => check_error(&ask(address, &post(CHAT, "Authorization: Bearer simsim\r\n", "{}")), 401),
        // Half a header, half a body: and gone.
        12 => vanish(&chat(true)[..40], 0),
        13 => vanish(&chat(true)[..chat(true).len() - 10], 0),
        // Half a body, and waiting.
        14 => check_error(&ask(address, &chat(false)[..chat(false).len() - 10]), 408),
        // Half a header, and waiting: the connection ends without an answer.
        15 => {
            let mut stream = connect(address);
            stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost:").unwrap();
            assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
        }
        _ => {
            let mut stream = connect(address);
            let _ = stream.write_all(b"\x16\x03\x01 not a word of HTTP \xff\r\n\r\n");
            let mut told = Vec::new();
            let _ = stream.read_to_end(&mut told);
            assert!(
                told.is_empty() || told.starts_with(b"HTTP/1.1 400"),
                "{}",
                String::from_utf8_lossy(&told)
            );
        }
    }
}
