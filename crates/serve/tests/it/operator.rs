//! What an operator sees: metrics, health, the access log, and the bounds on connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{Access, AccessLog, ServeInfo, Settings};

use crate::client::{CHAT, Reply, Server, TEXT, post};
use crate::toy;

/// A request that is answered with `tokens` tokens.
fn body(tokens: usize, stream: bool) -> Value {
    json!({ "prompt": "a", "max_tokens": tokens, "temperature": 0, "stream": stream })
}

/// The value of a sample, `name{labels}`, in Prometheus' text.
#[track_caller]
fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

/// The metrics, once `name` has reached `value`: what follows the last byte of an answer may take a moment.
#[track_caller]
fn metrics_when(server: &Server, name: &str, value: f64) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let page = server.get("/metrics").body;
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        if found.is_some_and(|found| found.parse() == Ok(value)) {
            return page;
        }
        assert!(Instant::now() < deadline, "{name} is not {value} in\n{page}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn metrics_count_what_was_served() {
    let server = Server::with(Duration::from_millis(1), |_, _| {});
    assert_eq!(server.post(TEXT, &body(5, false)).status, 200);
    assert_eq!(server.post(TEXT, &body(3, true)).status, 200);
    let two = json!({ "messages": [{ "role": "user", "content": "the dog" }], "n": 2, "temperature": 0 });
    assert_eq!(server.post(CHAT, &two).status, 200);
    assert_eq!(server.post(CHAT, &json!({})).status, 400);
    assert_eq!(server.get("/nowhere/to/be/found").status, 404);
    assert_eq!(server.send("BREW /pot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status, 404);
    let mut left = server.connect();
    left.write_all(post(TEXT, "", &body(1000, true).to_string()).as_bytes()).unwrap();
    left.read_exact(&mut [0; 900]).unwrap();
    drop(left);
    let gone = r#"alti_requests_total{endpoint="/v1/completions",method="POST",status="499"}"#;
    let page = metrics_when(&server, gone, 1.0);
    for (name, value) in [
        (r#"alti_requests_total{endpoint="/v1/completions",method="POST",status="200"}"#, 2.0),
        (r#"alti_requests_total{endpoint="/v1/chat/completions",method="POST",status="200"}"#, 1.0),
        (r#"alti_requests_total{endpoint="/v1/chat/completions",method="POST",status="400"}"#, 1.0),
        (r#"alti_requests_total{endpoint="other",method="GET",status="404"}"#, 1.0),
        (r#"alti_requests_total{endpoint="other",method="other",status="404"}"#, 1.0),
        (r#"alti_sequences_total{reason="length"}"#, 2.0),
        (r#"alti_sequences_total{reason="stop"}"#, 2.0),
        (r#"alti_sequences_total{reason="abandoned"}"#, 1.0),
        (r#"alti_request_duration_seconds_count{endpoint="/v1/completions"}"#, 3.0),
        (r#"alti_time_to_first_token_seconds_count{endpoint="/v1/chat/completions"}"#, 1.0),
        ("alti_queue_time_seconds_count", 4.0),
        // Of one token there is no time between.
        ("alti_time_per_output_token_seconds_count", 4.0),
        ("alti_request_generation_tokens_count", 4.0),
        (r#"alti_request_generation_tokens_bucket{le="4"}"#, 3.0),
        ("alti_up", 1.0),
        ("alti_sequences_running_limit", 32.0),
        ("alti_context_tokens", 4096.0),
    ] {
        assert_eq!(sample(&page, name), value, "{name} in\n{page}");
    }
    // The one that asks.
    metrics_when(&server, "alti_connections", 1.0);
    // Steps of a millisecond: no token was faster, and the first took one too.
    let sum = sample(&page, "alti_time_per_output_token_seconds_sum");
    assert!((0.004..1.0).contains(&sum), "{sum}");
    assert_eq!(sample(&page, r#"alti_time_per_output_token_seconds_bucket{le="0.001"}"#), 0.0);
    server.wait_until("rest", |stats| stats.running + stats.waiting == 0);
    let page = server.get("/metrics").body;
    for idle in ["alti_sequences_running", "alti_sequences_waiting", "alti_cache_tokens"] {
        assert_eq!(sample(&page, idle), 0.0, "{idle}");
    }
    let stats = server.engine.stats();
    assert_eq!(sample(&page, "alti_prompt_tokens_total"), stats.prompt_tokens as f64);
    assert_eq!(sample(&page, "alti_generation_tokens_total"), stats.completion_tokens as f64);
}

#[test]
fn the_cache_is_told_of_in_whole_pages() {
    let server = Server::with(Duration::ZERO, |settings, _| settings.max_cache_tokens = 1000);
    let page = server.get("/metrics").body;
    // Pages of the parrot have 16 tokens.
    assert_eq!(sample(&page, "alti_cache_tokens_limit"), 992.0);
    assert_eq!(sample(&page, "alti_context_tokens"), 992.0);
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let server = Server::start();
    // A family has a type once it has a member.
    server.get("/healthz");
    metrics_when(&server, r#"alti_request_duration_seconds_count{endpoint="/healthz"}"#, 1.0);
    let plain = server.get("/metrics");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.body.contains("# TYPE alti_generation_tokens_total counter\n"), "{}", plain.body);
    assert!(plain.body.contains("# TYPE alti_request_duration_seconds histogram\n"), "{}", plain.body);
    let open = server.send(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1\r\n\r\n",
    );
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with("# EOF\n"));
}

#[test]
fn metrics_need_a_key_unless_they_are_open() {
    for open in [false, true] {
        let server = Server::with(Duration::ZERO, |_, info| {
            info.api_keys = ["sesame"].into_iter().collect();
            info.settings.open_metrics = open;
        });
        assert_eq!(server.get("/metrics").status, if open { 200 } else { 401 });
        let with_key =
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer sesame\r\n\r\n";
        assert_eq!(server.send(with_key).status, 200);
        // A path that does not exist is not told apart from one that does.
        assert_eq!(server.get("/v1/nothing").status, 401);
        assert_eq!(server.get("/readyz").status, 200);
    }
}

#[test]
fn the_log_has_a_line_for_each_request_and_no_word_of_its_text() {
    let lines: Arc<Mutex<Vec<Access>>> = Arc::default();
    let kept = Arc::clone(&lines);
    let server = Server::with(Duration::from_millis(1), |_, info| {
        info.access_log = Some(AccessLog::new(move |access| kept.lock().unwrap().push(access.clone())));
    });
    let secret =
        json!({ "messages": [{ "role": "user", "content": "the quick brown fox" }], "temperature": 0 });
    let reply = server.post(CHAT, &secret);
    server.post(TEXT, &body(4, true));
    server.post(TEXT, &json!({ "prompt": "a", "temperature": 9 }));
    server.get("/v1/models?secret=1");
    for stream in [true, false] {
        let mut left = server.connect();
        left.write_all(post(TEXT, "", &body(1000, stream).to_string()).as_bytes()).unwrap();
        server.wait_until("the start", |stats| stats.running == 1);
        if stream {
            left.read_exact(&mut [0; 900]).unwrap();
        }
        drop(left);
        server.wait_until("the end", |stats| stats.running == 0);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while lines.lock().unwrap().len() < 6 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    let lines = lines.lock().unwrap().clone();
    let find = |wanted: &dyn Fn(&Access) -> bool| lines.iter().find(|line| wanted(line)).unwrap();
    let chat = find(&|line| line.path == CHAT);
    assert_eq!((chat.status, chat.stream, chat.finish), (200, false, Some("stop")));
    assert_eq!(Some(chat.id.as_str()), reply.header("x-request-id"));
    assert_eq!(chat.bytes, reply.body.len() as u64);
    assert!(chat.peer.as_ref().unwrap().starts_with("127.0.0.1:"));
    let usage = &reply.json()["usage"];
    assert_eq!(json!(chat.prompt_tokens), usage["prompt_tokens"]);
    assert_eq!(json!(chat.completion_tokens), usage["completion_tokens"]);
    assert!(chat.first_token.unwrap() <= chat.seconds && chat.seconds < 10.0);
    let stream = find(&|line| line.stream && line.status == 200);
    assert_eq!((stream.completion_tokens, stream.finish), (Some(4), Some("length")));
    let refused = find(&|line| line.status == 400);
    assert_eq!(refused.error, Some("decimal_above_max_value"));
    let gone: Vec<&Access> = lines.iter().filter(|line| line.status == 499).collect();
    assert_eq!(gone.iter().map(|line| line.stream).collect::<Vec<_>>(), [true, false], "{gone:?}");
    assert!(gone[0].completion_tokens.unwrap() >= 1 && gone[0].completion_tokens.unwrap() < 1000);
    let all = serde_json::to_string(&lines).unwrap();
    assert!(!all.contains("fox") && !all.contains("secret"), "{all}");
}

#[test]
fn a_server_lives_before_its_model_is_there_and_is_ready_after() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = serve::Server::start(listener, Settings::default()).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Reply::read(stream)
    };
    assert_eq!(get("/healthz").status, 200);
    for path in ["/readyz", "/v1/models", "/metrics"] {
        let reply = get(path);
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.json()["error"]["code"], "model_loading");
        assert!(reply.header("retry-after").is_some());
    }
    let engine = toy::engine(Duration::ZERO, engine::Settings::default());
    server.open(engine.clone(), ServeInfo::new("parrot"));
    assert_eq!(get("/readyz").json(), json!({ "status": "ready", "model": "parrot" }));
    assert_eq!(get("/v1/models/parrot").json()["max_model_len"], 4096);
    // An engine that has ended can only be helped by a new start.
    engine.abort();
    for path in ["/readyz", "/healthz"] {
        assert_eq!(
            (get(path).status, get(path).json()["error"]["code"].clone()),
            (503, json!("engine_down"))
        );
    }
    server.stop();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_header_that_comes_by_the_byte_is_not_waited_for() {
    let server = Server::with(Duration::ZERO, |_, info| info.settings.header_timeout_seconds = 1);
    let begun = Instant::now();
    let mut slow = server.connect();
    let mut idle = server.connect();
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut rest = Vec::new();
    // The end of the connection, or its reset.
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_does_not_read_is_not_waited_for() {
    // Answers are small beside what a system holds for a connection, so it is the number of them that fills it.
    let server = Server::with(Duration::ZERO, |_, info| info.settings.write_timeout_seconds = 1);
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = post(TEXT, "", &body(900, true).to_string()).replace("Connection: close\r\n", "");
    let begun = Instant::now();
    let mut sent = 0;
    while deaf.write_all(request.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 200_000 && begun.elapsed() < Duration::from_secs(20), "{sent}");
    }
    let gone = Instant::now();
    // The metrics' own connection is the only one left.
    metrics_when(&server, "alti_connections", 1.0);
    assert!(gone.elapsed() < Duration::from_secs(8), "{:?}", gone.elapsed());
    server.wait_until("rest", |stats| stats.running + stats.waiting == 0);
}

#[test]
fn connections_beyond_the_bound_wait_their_turn() {
    let server = Server::with(Duration::ZERO, |_, info| info.settings.max_connections = 2);
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut held {
        connection.write_all(ask.as_bytes()).unwrap();
        assert!(connection.read(&mut [0; 1000]).unwrap() > 0);
    }
    let mut third = server.connect();
    third.write_all(ask.as_bytes()).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.read(&mut [0; 1000]).is_err(), "a third connection was served");
    held.pop();
    third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(third.read(&mut [0; 1000]).unwrap() > 0);
}

#[test]
fn answers_tell_how_much_more_can_be_asked() {
    let server = Server::with(Duration::from_millis(2), |settings, _| {
        settings.max_sequences = 1;
        settings.max_queue = 1;
    });
    let idle = server.post(TEXT, &body(1, false));
    assert_eq!(idle.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(idle.header("x-ratelimit-reset-requests"), Some("0s"));
    server.wait_until("rest", |stats| stats.running + stats.waiting == 0);
    let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut held {
        connection.write_all(post(TEXT, "", &body(1000, true).to_string()).as_bytes()).unwrap();
    }
    server.wait_until("a full queue", |stats| stats.running + stats.waiting == 2);
    let full = server.post(TEXT, &body(1, false));
    assert_eq!((full.status, full.header("x-ratelimit-remaining-requests")), (429, Some("0")));
    let wait = full.header("retry-after").unwrap();
    assert_eq!(full.header("x-ratelimit-reset-requests"), Some(format!("{wait}s").as_str()));
}
