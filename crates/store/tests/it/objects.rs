//! S3's language, and enough of Google's and Azure's to know that they are listed and read the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{Address, Environment, Error, Object, Place, Places};

use crate::server::{Asked, Objects, Reply, Server, part};
use crate::{address, bytes, manners, read};

fn environment(server: &Server) -> Environment {
    Environment::of([
        ("AWS_ENDPOINT_URL", server.address.as_str()),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-west-1"),
    ])
}

fn place(server: &Server, address: &Address) -> Place {
    Places::new(environment(server), manners()).place(address).unwrap()
}

fn list(server: &Server, text: &str) -> Result<Vec<Object>, Error> {
    let address = address(text);
    place(server, &address).list(&address)
}

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(|object| object.address().to_string()).collect()
}

#[test]
fn lists_come_in_pages_and_objects_in_ranges() {
    let objects = Objects::default();
    let content = bytes(700_000);
    for name in ["b/a/1.gz", "b/a/x y&z+ä.gz", "b/a/deep/er/2.gz", "b/ab/3.gz", "b/top"] {
        objects.put(name, content.clone());
    }
    let held = objects.clone();
    let server = Server::start(move |asked| held.answer(asked, 2));
    let found = list(&server, "s3://b/a").unwrap();
    assert_eq!(names(&found), ["s3://b/a/1.gz", "s3://b/a/deep/er/2.gz", "s3://b/a/x y&z+ä.gz"]);
    assert!(server.asked().len() >= 2, "more than one page");
    assert_eq!(list(&server, "s3://b").unwrap().len(), 5);
    assert!(list(&server, "s3://b/nothing").unwrap().is_empty());
    for object in &found {
        assert_eq!(object.bytes(), 700_000);
        assert_eq!(read(object).unwrap(), content, "{object:?}");
    }
    let asked = server.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization").is_some_and(|text| text.contains("eu-west-1")))
    );
    assert!(asked.iter().any(|asked| asked.range() == Some((300_000, Some(600_000)))));

    let top = address("s3://b/top");
    let one = place(&server, &top).find(&top).unwrap().unwrap();
    assert_eq!(one.etag(), found[0].etag());
    let none = address("s3://b/a");
    assert!(place(&server, &none).find(&none).unwrap().is_none());
}

#[test]
fn faults_pass_or_are_named() {
    let content = bytes(1_000_000);
    let objects = Objects::default();
    objects.put("b/k", content.clone());
    let fault = Arc::new(AtomicUsize::new(0));
    let (held, kind, turn) = (objects.clone(), fault.clone(), AtomicUsize::new(0));
    let server = Server::start(move |asked| {
        let even = turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let is_read = asked.range().is_some();
        let answer = held.answer(asked, 10);
        match kind.load(Ordering::SeqCst) {
            1 if even => Reply::refusal(503, "SlowDown").header("retry-after", 0),
            2 if even && is_read => answer.cut(123_456),
            3 => Reply::refusal(403, "AccessDenied"),
            4 => Reply::refusal(400, "ExpiredToken"),
            5 => Reply::refusal(301, "PermanentRedirect").header("x-amz-bucket-region", "us-west-2"),
            6 => Reply::refusal(503, "SlowDown").header("retry-after", 9_999),
            7 if is_read => Reply::refusal(403, "InvalidObjectState"),
            8 if is_read => answer.cut(0),
            9 if is_read => Reply::refusal(404, "NoSuchKey"),
            _ => answer,
        }
    });
    let outcome = |number: usize| {
        fault.store(number, Ordering::SeqCst);
        list(&server, "s3://b").and_then(|found| read(&found[0]).map_err(|(_, error)| error))
    };
    for number in [0, 1, 2] {
        assert_eq!(outcome(number).unwrap(), content, "{number}");
    }
    let check = |number: usize, wanted: fn(&Error) -> bool, hint: &str| {
        let error = outcome(number).unwrap_err();
        assert!(wanted(&error), "{number}: {error:?}");
        assert!(error.to_string().contains("s3://b"), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    };
    check(3, |error| matches!(error, Error::Refused { anonymous: false, .. }), "AWS_PROFILE");
    check(4, |error| matches!(error, Error::Refused { .. }), "AWS_SESSION_TOKEN");
    check(5, |error| matches!(error, Error::Region { .. }), "AWS_REGION=us-west-2");
    check(6, |error| matches!(error, Error::Busy { .. }), "later");
    check(7, |error| matches!(error, Error::Archived { .. }), "restore");
    check(8, |error| matches!(error, Error::EndsEarly { at: 0, .. }), "upload");
    check(9, |error| matches!(error, Error::Changed { .. }), "again");
    fault.store(0, Ordering::SeqCst);
    let error = list(&server, "s3://elsewhere").unwrap_err();
    assert_eq!(error, Error::NoPlace { address: "s3://elsewhere".into(), what: "bucket" });
}

#[test]
fn an_object_that_changes_is_not_read_on() {
    let objects = Objects::default();
    objects.put("b/k", bytes(1_000_000));
    let (held, changing) = (objects.clone(), objects.clone());
    let server = Server::start(move |asked| {
        if asked.range().is_some_and(|(from, _)| from > 0) {
            changing.put("b/k", bytes(1_000_001)[1..].to_vec());
        }
        held.answer(asked, 10)
    });
    let (came, error) = read(&list(&server, "s3://b").unwrap()[0]).unwrap_err();
    assert_eq!(came, bytes(300_000));
    assert!(matches!(&error, Error::Changed { reason, .. } if reason.contains("etag")), "{error:?}");
}

#[test]
fn nobody_signs_where_nobody_has_credentials() {
    let objects = Objects::default();
    objects.put("b/k", "text");
    let held = objects.clone();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/private/k" | "/private" => Reply::refusal(403, "AccessDenied"),
        _ => held.answer(asked, 10),
    });
    let environment = Environment::of([
        ("AWS_ENDPOINT_URL_S3", server.address.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    let list = |text: &str| {
        let address = address(text);
        Places::new(environment.clone(), manners()).place(&address)?.list(&address)
    };
    assert_eq!(read(&list("s3://b").unwrap()[0]).unwrap(), b"text");
    assert!(server.asked().iter().all(|asked| asked.header("authorization").is_none()));
    let error = list("s3://private").unwrap_err();
    assert!(error.to_string().contains("no credentials were found"), "{error}");
}

#[test]
fn google_is_listed_and_read() {
    let content = bytes(400_000);
    let objects = Objects::default();
    objects.put("b/a/k.gz", content.clone());
    let held = objects.clone();
    let server = Server::start(move |asked| held.answer(asked, 1));
    let address = address("gs://b/a");
    let environment =
        Environment::of([("STORAGE_EMULATOR_HOST", server.address.trim_start_matches("http://"))]);
    let found = Places::new(environment, manners()).place(&address).unwrap().list(&address).unwrap();
    assert_eq!(names(&found), ["gs://b/a/k.gz"]);
    assert_eq!(read(&found[0]).unwrap(), content);
}

#[test]
fn azure_is_listed_and_read() {
    let content = bytes(400_000);
    let sent = content.clone();
    let server = Server::start(move |asked| {
        match (asked.path.as_str(), asked.query.get("comp").map(String::as_str)) {
        ("/box", Some("list")) => Reply::status(200).body(format!(
            "<EnumerationResults><Blobs><Blob><Name>a/k.gz</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT\
             </Last-Modified><Etag>{}</Etag><Content-Length>400000</Content-Length><Content-Type>x</Content-Type></Properties></Blob>\
             </Blobs><NextMarker/></EnumerationResults>",
            part(asked, &sent).headers.iter().find(|(name, _)| name == "etag").unwrap().1.trim_matches('"')
        )),
        ("/box/a/k.gz", _) => part(asked, &sent),
        _ => Reply::status(404).header("x-ms-error-code", "ContainerNotFound"),
    }
    });
    let environment = Environment::of([
        ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"),
        ("AZURE_STORAGE_ENDPOINT", server.address.as_str()),
    ]);
    let list = |text: &str| {
        let address = address(text);
        Places::new(environment.clone(), manners()).place(&address)?.list(&address)
    };
    let found = list("az://box/a").unwrap();
    assert_eq!(names(&found), ["az://box/a/k.gz"]);
    assert_eq!(read(&found[0]).unwrap(), content);
    assert!(server.asked().iter().all(|asked: &Asked| asked.header("authorization").is_some()));
    assert_eq!(
        list("az://other").unwrap_err(),
        Error::NoPlace { address: "az://other".into(), what: "container" }
    );
}
