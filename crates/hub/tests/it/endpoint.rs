//! Asking a model behind an endpoint made on the spot: what is sent, what is tried again, and what is said when it fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hub::Error;
use hub::endpoint::{Endpoint, Manners};
use serde_json::json;

use crate::server::{Reply, Server};

fn manners() -> Manners {
    Manners { retry_after: Duration::from_millis(2), attempts: 4, ..Manners::default() }
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// A server that answers in turn, the last for ever.
fn in_turn(replies: Vec<Reply>) -> Server {
    let at = AtomicUsize::new(0);
    Server::start(move |_| replies[at.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1)].clone())
}

fn fine() -> Reply {
    Reply::status(200).body(json!({"choices": []}).to_string())
}

#[test]
fn what_passes_is_tried_again() {
    let cases = [
        vec![Reply::status(429).header("retry-after", 0), fine()],
        vec![Reply::status(429), Reply::status(500), Reply::status(503).header("retry-after", "0"), fine()],
        vec![Reply::status(200).body("<html>"), Reply::status(200), fine()],
        vec![Reply { cut: Some(3), ..fine() }, Reply::status(408), fine()],
    ];
    for replies in cases {
        let wanted = replies.len();
        let server = in_turn(replies);
        let manners = Manners { key: Some("secret".to_owned()), ..manners() };
        let endpoint = Endpoint::new(&format!("{}/v1/", server.address), manners).unwrap();
        let body = json!({"model": "m"});
        assert_eq!(endpoint.ask("/chat/completions", &body, &never()).unwrap(), json!({"choices": []}));
        let asked = server.asked();
        assert_eq!(asked.len(), wanted);
        for one in &asked {
            assert_eq!((one.method.as_str(), one.path.as_str()), ("POST", "/v1/chat/completions"));
            assert_eq!(one.header("authorization"), Some("Bearer secret"));
            assert_eq!(one.body, body.to_string().into_bytes());
        }
    }
}

#[test]
fn what_stays_is_said() {
    let message = json!({"error": {"message": "no such\nmodel"}}).to_string();
    let check = |reply: Reply, attempts: usize, wanted: &[&str]| {
        let server = in_turn(vec![reply]);
        let endpoint = Endpoint::new(&server.address, manners()).unwrap();
        let error = endpoint.ask("/chat/completions", &json!({}), &never()).unwrap_err();
        let said = error.to_string();
        assert!(wanted.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(server.asked().len(), attempts, "{said}");
    };
    check(Reply::status(404).body(message), 1, &["status 404: no such model"]);
    check(Reply::status(401), 1, &["refused", "401"]);
    check(Reply::status(302).header("location", "http://127.0.0.1:1/"), 1, &["status 302"]);
    check(Reply::status(429).header("retry-after", 9000), 1, &["too many requests", "9000"]);
    check(Reply::status(502).body("bad gateway"), 4, &["status 502: bad gateway"]);
    check(Reply::status(200).body("sorry"), 4, &["no JSON: sorry"]);
}

#[test]
fn silence_is_not_waited_for_beyond_the_timeout() {
    let slow = Reply { slow: Some(Duration::from_secs(5)), ..Reply::status(200).body(vec![b' '; 5000]) };
    let server = in_turn(vec![slow, fine()]);
    let manners = Manners { timeout: Duration::from_millis(200), ..manners() };
    let begun = Instant::now();
    Endpoint::new(&server.address, manners.clone()).unwrap().ask("/x", &json!({}), &never()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // Nobody listens on a port that was just given back.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = Endpoint::new(&address, manners).unwrap().ask("/x", &json!({}), &never()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn a_wait_ends_when_it_is_not_wanted_any_more() {
    let server = in_turn(vec![Reply::status(429).header("retry-after", 200)]);
    let endpoint = Endpoint::new(&server.address, manners()).unwrap();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| endpoint.ask("/x", &json!({}), &stop));
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::SeqCst);
        assert!(matches!(asking.join().unwrap(), Err(Error::RateLimited { .. })));
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn models_are_listed() {
    let list = json!({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}).to_string();
    let server = in_turn(vec![Reply::status(200).body(list), Reply::status(200).body("{}")]);
    let endpoint = Endpoint::new(&server.address, manners()).unwrap();
    assert_eq!(endpoint.models(&never()).unwrap(), ["a", "b"]);
    assert!(endpoint.models(&never()).unwrap_err().to_string().contains("no list of models"));
}

#[test]
fn addresses_that_are_none_or_not_safe_are_refused() {
    let key = || Manners { key: Some("secret".to_owned()), ..manners() };
    for (address, manners, word) in [
        ("localhost:8080", manners(), "no address"),
        ("ftp://host/v1", manners(), "no address"),
        ("http://host/v1?key=a", manners(), "no address"),
        ("http://host/v1", key(), "in the clear"),
    ] {
        let said = Endpoint::new(address, manners).unwrap_err().to_string();
        assert!(said.contains(word), "{address}: {said}");
    }
    assert!(Endpoint::new("https://host/v1", key()).is_ok());
    assert!(Endpoint::new("http://127.0.0.1:1", key()).is_ok());
}
