//! Curation of what lies on a server that the tests start, beside the same files in a folder; with connections that break, a
//! server that refuses for a while, and objects that change.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ledger::progress::Silent;
use ledger::seed::Seed;

use super::elsewhere_tests::Here;
use super::tests::{corpus, files};
use super::*;
use crate::funnel::Funnel;
use crate::{Found, Origin, Texts, records};

#[path = "../../../store/tests/it/server.rs"]
#[expect(dead_code, reason = "the tests of `store` use the rest")]
mod server;
use server::{Reply, Server, part};

/// What the server does beside answering.
#[derive(Clone, Default)]
struct Weather {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// From this answer with bytes on it asks for more patience than there is; 0 for never.
    busy_from: Arc<AtomicUsize>,
    /// One answer in so many is cut; 0 for none.
    cut_each: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
}

/// The files of the test's corpus and a table, on a server; its address with the names in the order of a folder.
fn serve(folder: &Path) -> (Weather, Server, Vec<Source>) {
    corpus(folder);
    let lines = std::fs::read(folder.join("in/b.jsonl")).unwrap();
    std::fs::write(folder.join("in/d.jsonl.zst"), zstd::encode_all(&lines[..], 1).unwrap()).unwrap();
    let texts: Vec<String> = (0..90).map(|row| format!("row {row} {}", "of a table ".repeat(300))).collect();
    crate::read::tests::write_table(&folder.join("in/e.parquet"), &texts, 20);
    let weather = Weather::default();
    *weather.files.lock().unwrap() = files(&folder.join("in"));
    let state = weather.clone();
    let server = Server::start(move |asked| {
        let files = state.files.lock().unwrap();
        let Some(bytes) = files.get(asked.path.trim_start_matches("/in/")) else { return Reply::status(404) };
        if asked.range() == Some((0, Some(1))) {
            return part(asked, bytes);
        }
        let turn = 1 + state.answers.fetch_add(1, Ordering::SeqCst);
        let (busy, cut) = (state.busy_from.load(Ordering::SeqCst), state.cut_each.load(Ordering::SeqCst));
        let reply = part(asked, bytes);
        match () {
            () if busy > 0 && turn >= busy => Reply::status(503).header("retry-after", 100_000),
            () if cut > 0 && turn.is_multiple_of(cut) => {
                let half = reply.body.len() / 2;
                reply.cut(half)
            }
            () => reply,
        }
    });
    let address = format!("{}/in/", server.address);
    let sources =
        weather.files.lock().unwrap().keys().map(|name| Source::Store(format!("{address}{name}"))).collect();
    (weather, server, sources)
}

fn found(sources: &[Source], place: &str) -> Vec<String> {
    let mut all = Vec::new();
    records(sources, &Settings::default(), |found: Found| {
        all.push(format!("{found:?}").replace(place, ""));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    all
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.gopher_quality.min_words = 20;
    settings
}

fn run(sources: &[Source], out: &Path, options: &Options) -> Result<Funnel, Error> {
    curate_with(&settings(), sources, &[], out, Seed(9), &Silent, options)
}

#[test]
fn files_and_objects_are_read_alike() {
    let place = tempfile::tempdir().unwrap();
    let (weather, server, sources) = serve(place.path());
    let folder = place.path().join("in");
    let here = found(&[Source::Path(folder.to_str().unwrap().into())], folder.to_str().unwrap());
    assert!(here.len() > 200, "{}", here.len());
    weather.cut_each.store(4, Ordering::SeqCst);
    assert_eq!(found(&sources, &format!("{}/in", server.address)), here);
}

#[test]
fn a_store_that_fails_ends_the_work_which_goes_on_there() {
    let place = tempfile::tempdir().unwrap();
    let (weather, _server, sources) = serve(place.path());
    let (calm, out, work) = (place.path().join("calm"), place.path().join("out"), place.path().join("work"));
    run(&sources, &calm, &Options::default()).unwrap();
    let options = Options { work: Some(&work), checkpoint_bytes: 2_500, ..Options::default() };
    let answers = weather.answers.swap(0, Ordering::SeqCst);
    let mut reached = 0;
    for from in [1, 3, 6] {
        weather.busy_from.store(from, Ordering::SeqCst);
        weather.answers.store(0, Ordering::SeqCst);
        let error = run(&sources, &out, &options).unwrap_err();
        assert!(matches!(error, Error::Store(store::Error::Busy { .. })), "{error:?}");
        assert!(error.to_string().contains("/in/") && error.hint().unwrap().contains("later"), "{error}");
        assert!(!out.exists());
        let parts = std::fs::read_dir(&work)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".json"));
        let parts = parts.count();
        assert!(parts > reached || from == 1, "{from}: {parts}");
        reached = parts;
    }
    weather.busy_from.store(0, Ordering::SeqCst);
    weather.answers.store(0, Ordering::SeqCst);
    run(&sources, &out, &options).unwrap();
    assert!(files(&out) == files(&calm));
    assert!(weather.answers.load(Ordering::SeqCst) < answers, "what was read is not read again");
}

#[test]
fn what_changed_is_read_anew() {
    let place = tempfile::tempdir().unwrap();
    let (weather, server, sources) = serve(place.path());
    let (out, work) = (place.path().join("out"), place.path().join("work"));
    let options = Options { work: Some(&work), keep_work: true, ..Options::default() };
    run(&sources, &out, &options).unwrap();
    let first = files(&out);
    weather.answers.store(0, Ordering::SeqCst);
    run(&sources, &out, &options).unwrap();
    assert!(files(&out) == first);
    assert_eq!(weather.answers.load(Ordering::SeqCst), 0, "nothing is read where nothing changed");

    let origins = || -> Vec<Origin> { Texts::find(&sources, &settings(), &[]).unwrap().origins() };
    let digest = || crate::digest_listing(&format!("{}/in/c1.txt", server.address), &settings()).unwrap();
    let before = (origins(), digest());
    let changed = {
        let mut held = weather.files.lock().unwrap();
        let bytes = held.get_mut("c1.txt").unwrap();
        // The same length.
        bytes[0] = b'X';
        bytes.clone()
    };
    assert!(origins() != before.0 && digest() != before.1);
    run(&sources, &out, &options).unwrap();
    assert!(files(&out) != first);
    std::fs::write(place.path().join("in/c1.txt"), changed).unwrap();
    let anew = place.path().join("anew");
    run(&sources, &anew, &Options::default()).unwrap();
    assert!(files(&out) == files(&anew));
}

#[test]
fn what_is_wrong_with_one_object_is_counted() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/in/cold.txt" if asked.range() != Some((0, Some(1))) => Reply::refusal(403, "InvalidObjectState"),
        _ => part(asked, b"a line of text"),
    });
    let sources = ["cold.txt", "warm.txt"].map(|name| Source::Store(format!("{}/in/{name}", server.address)));
    let found = found(&sources, &server.address);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("/in/cold.txt") && found[0].contains("archived"), "{found:?}");
    assert!(found[1].contains("a line of text"), "{found:?}");
}

#[test]
fn workers_elsewhere_read_objects_where_they_lie() {
    let place = tempfile::tempdir().unwrap();
    let (weather, _server, sources) = serve(place.path());
    let (calm, out) = (place.path().join("calm"), place.path().join("out"));
    run(&sources, &calm, &Options::default()).unwrap();
    let here = Here::new(5_000, 7);
    let options = Options { elsewhere: Some(&here), ..Options::default() };
    run(&sources, &out, &options).unwrap();
    assert!(files(&out) == files(&calm));

    let inputs = source::expand_without(&sources, &settings(), &[]).unwrap();
    let worker = Worker::new(&Job::new(&settings(), &[], &Options::default()).unwrap()).unwrap();
    weather.files.lock().unwrap().get_mut("c3.txt").unwrap()[0] ^= 1;
    let error = worker.run(Portion::new(&inputs.inputs, 0), &AtomicBool::new(false), |_| Ok(())).unwrap_err();
    assert!(matches!(&error, Error::Store(store::Error::Changed { .. })), "{error:?}");
    assert!(error.to_string().contains("c3.txt"), "{error}");
}

#[test]
fn places_that_are_not_there_are_named() {
    let sources =
        [Source::parse(&format!("{}/none.txt?secret", Server::start(|_| Reply::status(404)).address))
            .unwrap()];
    let error = Texts::find(&sources, &settings(), &[]).err().unwrap();
    let said = error.to_string();
    assert!(
        said.contains("none.txt") && said.contains("does not exist") && !said.contains("secret"),
        "{said}"
    );
    #[cfg(not(feature = "object-store"))]
    {
        let error = Texts::find(&[Source::parse("s3://bucket/in").unwrap()], &settings(), &[]).err().unwrap();
        assert!(
            error.to_string().contains("s3://bucket/in") && error.hint().unwrap().contains("object-store"),
            "{error}"
        );
    }
}
