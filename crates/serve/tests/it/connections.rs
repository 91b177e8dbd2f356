//! Many clients, clients that leave, full queues, and the end of the server.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{CHAT, Reply, Server, TEXT, post};

/// A request that is answered with `tokens` tokens.
fn long(tokens: usize, stream: bool) -> String {
    let body = json!({ "prompt": "a", "max_tokens": tokens, "temperature": 0, "stream": stream });
    post(TEXT, "", &body.to_string())
}

#[test]
fn many_clients_are_answered_at_once_each_with_its_own() {
    let server = Server::with(Duration::from_millis(1), |_, _| {});
    std::thread::scope(|scope| {
        for client in 0..40 {
            let server = &server;
            scope.spawn(move || {
                let said = format!("client {client} says {}", "x".repeat(client + 1));
                let body = json!({
                    "messages": [{ "role": "user", "content": said }], "temperature": 0, "stream": client % 2 == 0,
                });
                let reply = server.post(CHAT, &body);
                let heard = if client % 2 == 0 {
                    let events = reply.events();
                    let text = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
                    text.collect()
                } else {
                    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_string()
                };
                assert_eq!(heard, said);
            });
        }
    });
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let server = Server::with(Duration::from_millis(2), |_, _| {});
    for stream in [true, false] {
        let mut connection = server.connect();
        connection.write_all(long(1000, stream).as_bytes()).unwrap();
        server.wait_until("the start", |stats| stats.running == 1);
        if stream {
            connection.read_exact(&mut [0; 64]).unwrap();
        }
        drop(connection);
        server.wait_until("the end", |stats| stats.running + stats.waiting + stats.cache_tokens == 0);
    }
    // Two answers of 1,000 tokens were cut short.
    assert!(server.engine.stats().completion_tokens < 1500);
}

#[test]
fn a_full_queue_refuses_with_the_time_to_wait() {
    let server = Server::with(Duration::from_millis(2), |settings, _| {
        settings.max_sequences = 1;
        settings.max_queue = 1;
    });
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut held {
        connection.write_all(long(1000, true).as_bytes()).unwrap();
    }
    server.wait_until("a full queue", |stats| stats.running + stats.waiting == 2);
    let reply = server.send(&long(5, false));
    assert_eq!(reply.status, 429, "{reply:?}");
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    // A request of two answers gets both or none.
    held.pop();
    server.wait_until("one place", |stats| stats.running + stats.waiting == 1);
    let two = json!({ "prompt": ["a", "b"], "max_tokens": 5 });
    assert_eq!(server.post(TEXT, &two).status, 429);
    server.wait_until("one place", |stats| stats.running + stats.waiting == 1);
    drop(held);
    server.wait_until("rest", |stats| stats.running + stats.waiting == 0);
    assert_eq!(server.send(&long(5, false)).status, 200);
}

#[test]
fn shutdown_finishes_what_runs_and_takes_no_more() {
    let mut server = Server::with(Duration::from_millis(2), |_, _| {});
    let mut connections: Vec<_> = [true, false].map(|stream| (stream, server.connect())).into();
    for (stream, connection) in &mut connections {
        connection.write_all(long(100, *stream).as_bytes()).unwrap();
    }
    server.wait_until("the start", |stats| stats.running == 2);
    server.tell_to_stop();
    for (stream, connection) in connections {
        let reply = Reply::read(connection);
        if stream {
            let text: String =
                reply.events().iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
            assert_eq!(text, "a".repeat(100));
        } else {
            assert_eq!(reply.json()["choices"][0]["text"], "a".repeat(100));
        }
    }
    server.wait();
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let mut server =
        Server::with(Duration::from_millis(20), |_, info| info.settings.shutdown_grace_seconds = 1);
    let mut stream = server.connect();
    stream.write_all(long(1000, true).as_bytes()).unwrap();
    let mut whole = server.connect();
    whole.write_all(long(1000, false).as_bytes()).unwrap();
    // This one never ends its request.
    let mut silent = server.connect();
    silent.write_all(b"POST /v1/completions HTTP/1.1\r\nHost:").unwrap();
    server.wait_until("the start", |stats| stats.running == 2);
    let told = Instant::now();
    server.tell_to_stop();
    let reply = Reply::read(stream);
    let last = reply.body.trim_end().lines().last().unwrap().strip_prefix("data: ").unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down");
    assert_eq!(Reply::read(whole).status, 503);
    server.wait();
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
}

#[test]
fn garbage_and_silence_leave_the_server_alive() {
    let server = Server::start();
    let mut open = Vec::new();
    for garbage in [
        &b""[..],
        b"\0\x01\x02",
        b"GET",
        b"POST /v1/completions HTTP/1.1\r\n",
        b"\r\n\r\n\r\n",
        &[b'x'; 9000],
    ] {
        let mut connection = server.connect();
        connection.write_all(garbage).unwrap();
        open.push(connection);
    }
    assert_eq!(server.get("/healthz").status, 200);
    drop(open);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start();
    let mut connection = server.connect();
    let request = long(1, false).replace("Connection: close\r\n", "");
    for _ in 0..3 {
        connection.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            connection.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        connection.read_exact(&mut body).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["choices"][0]["finish_reason"], "length");
    }
}
