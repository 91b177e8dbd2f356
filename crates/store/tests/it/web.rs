//! Files on web servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{Environment, Error, Object, Places};

use crate::server::{Asked, Reply, Server, part};
use crate::{address, bytes, manners, read};

fn find(server: &Server, path: &str) -> Result<Option<Object>, Error> {
    let places = Places::new(Environment::default(), manners());
    let address = address(&format!("{}/{path}", server.address));
    places.place(&address)?.find(&address)
}

#[test]
fn a_file_is_read_by_ranges() {
    let content = bytes(1_000_000);
    let sent = content.clone();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/a b.gz" => part(asked, &sent),
        "/empty" => part(asked, b""),
        _ => Reply::status(404),
    });
    let object = find(&server, "a%20b.gz?signature=secret").unwrap().unwrap();
    assert_eq!(object.bytes(), 1_000_000);
    assert!(object.etag().is_some() && object.modified().is_some());
    assert!(!format!("{object:?} {:?}", object.listed()).contains("secret"));
    assert_eq!(read(&object).unwrap(), content);
    let asked = server.asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.range().unwrap().0).collect();
    assert_eq!(ranges, [0, 0, 300_000, 600_000, 900_000]);
    assert!(asked.iter().all(|asked| asked.query["signature"] == "secret"));
    let elsewhere = Places::new(Environment::default(), manners()).object(&object.listed()).unwrap();
    assert_eq!(read(&elsewhere).unwrap(), content);

    let empty = find(&server, "empty").unwrap().unwrap();
    assert_eq!((empty.bytes(), read(&empty).unwrap().len()), (0, 0));
    assert!(find(&server, "nothing").unwrap().is_none());
}

#[test]
fn broken_connections_are_gone_on_with() {
    let content = bytes(1_000_000);
    let sent = content.clone();
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |asked| match turn.fetch_add(1, Ordering::SeqCst) % 4 {
        1 => part(asked, &sent).cut(70_001),
        2 => Reply::status(503).header("retry-after", 0),
        3 => Reply::status(500),
        _ => part(asked, &sent),
    });
    let object = find(&server, "a").unwrap().unwrap();
    assert_eq!(read(&object).unwrap(), content);
    let begins: Vec<_> = server.asked().iter().filter_map(Asked::range).map(|(from, _)| from).collect();
    assert!(begins.contains(&70_001), "{begins:?}");
}

#[test]
fn servers_without_ranges_send_all_at_once() {
    let content = bytes(1_000_000);
    let sent = content.clone();
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let whole = Reply::status(200).header("etag", "\"x\"").body(&sent[..]);
        if turn.fetch_add(1, Ordering::SeqCst) == 1 { whole.cut(500_000) } else { whole }
    });
    let object = find(&server, "a").unwrap().unwrap();
    assert_eq!(read(&object).unwrap(), content);
    assert_eq!(server.asked().len(), 3, "once to look, twice to read");
}

#[test]
fn what_cannot_be_had_is_told_apart() {
    let content = bytes(500_000);
    let (sent, other) = (content.clone(), bytes(500_001)[1..].to_vec());
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = turns.clone();
    let server = Server::start(move |asked| {
        let first = seen.fetch_add(1, Ordering::SeqCst) == 0;
        match asked.path.as_str() {
            "/short" if !first => {
                part(asked, &sent).cut(if asked.range() == Some((0, Some(300_000))) { 1_234 } else { 0 })
            }
            "/changed" if !first => part(asked, &other),
            "/gone" if !first => Reply::status(404),
            "/busy" if !first => Reply::status(429).header("retry-after", 100_000),
            "/down" if !first => Reply::status(502),
            "/forbidden" => Reply::status(403),
            "/unsized" => Reply::status(206).header("content-range", "bytes 0-0/*").body("x"),
            _ => part(asked, &sent),
        }
    });
    let check = |path: &str, before: usize, wanted: fn(&Error) -> bool, of_object: bool| {
        turns.store(0, Ordering::SeqCst);
        let error = match find(&server, path) {
            Ok(object) => {
                let (came, error) = read(&object.unwrap()).unwrap_err();
                assert_eq!(came, content[..before], "{path}");
                error
            }
            Err(error) => error,
        };
        assert!(wanted(&error), "{path}: {error:?}");
        assert_eq!(error.is_of_object(), of_object, "{error}");
        assert!(error.to_string().contains(path), "{error}");
        assert!(error.hint().is_some() || matches!(error, Error::Answer { .. }), "{error}");
    };
    check("short", 1_234, |error| matches!(error, Error::EndsEarly { at: 1_234, bytes: 500_000, .. }), true);
    check("changed", 0, |error| matches!(error, Error::Changed { .. }), false);
    check("gone", 0, |error| matches!(error, Error::Changed { .. }), false);
    check("busy", 0, |error| matches!(error, Error::Busy { seconds: Some(100_000), .. }), false);
    check("down", 0, |error| matches!(error, Error::Unreachable { .. }), false);
    check("forbidden", 0, |error| matches!(error, Error::Refused { .. }), false);
    check("unsized", 0, |error| matches!(error, Error::Answer { .. }), false);

    let nobody = address("http://127.0.0.1:9/a");
    let places = Places::new(Environment::default(), manners());
    let error = places.place(&nobody).unwrap().find(&nobody).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(places.place(&nobody).unwrap().list(&nobody).is_err(), "a web server has no list");
}

#[test]
fn any_part_is_read_with_few_requests() {
    let content = bytes(9_000_000);
    let sent = content.clone();
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let whole = part(asked, &sent);
        if turn.fetch_add(1, Ordering::SeqCst) == 1 { whole.cut(1_000_000) } else { whole }
    });
    let ranges = find(&server, "table").unwrap().unwrap().ranges();
    server.asked();
    let check = |at: usize, length: usize| {
        let end = content.len().min(at + length);
        assert_eq!(ranges.read(at as u64, length).unwrap(), content[at.min(end)..end], "{at} {length}");
    };
    // Two columns forward, side by side.
    for step in 0..40 {
        check(step * 100_000, 100_000);
        check(4_500_000 + step * 100_000, 90_000);
    }
    let fetched: Vec<_> = server.asked().iter().filter_map(Asked::range).collect();
    assert_eq!(fetched.len(), 3, "one of them broken and gone on with: {fetched:?}");
    check(8_999_990, 100);
    check(9_000_000, 10);
    check(0, 9_000_000);
}

#[test]
#[cfg(not(feature = "objects"))]
fn without_the_feature_stores_are_refused_by_its_name() {
    let error =
        Places::new(Environment::default(), manners()).place(&address("s3://bucket/key")).unwrap_err();
    assert!(
        error.to_string().contains("s3://bucket/key") && error.hint().unwrap().contains("object-store"),
        "{error}"
    );
}
