//! Sources in a bucket of a server that the test starts: the same as from a folder, after kills, while connections break; and
//! what a person is told when the store does not do as he wishes.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use corpus::Split;
use ledger::digest::Digest;
use serde_json::json;

use crate::Place;
use crate::corpus::prose;

#[path = "../../../store/tests/it/server.rs"]
#[expect(dead_code, reason = "the tests of `store` use the rest")]
mod server;
use server::{Objects, Reply, Server};

fn command(place: &Place, server: &Server, args: &[&str]) -> Command {
    let mut command = place.command(args);
    let variables = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("AWS_"));
    variables.for_each(|name| _ = command.env_remove(name));
    command
        .env("AWS_ENDPOINT_URL", &server.address)
        .env("AWS_REGION", "eu-west-1")
        .env("HOME", place.path("home"));
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

/// Runs the program, which must end with this code.
fn run(place: &Place, server: &Server, args: &[&str], code: i32) -> String {
    let output = command(place, server, args).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}:\n{said}");
    said
}

/// What documents say, and where they stand below the source.
fn documents(place: &Place, out: &str, source: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for split in [Split::Train, Split::HeldOut] {
        for document in corpus::documents(&place.path(out), split).unwrap() {
            let document = document.unwrap();
            all.push((document.source.strip_prefix(source).unwrap().to_owned(), document.text));
        }
    }
    all
}

#[test]
fn a_bucket_is_curated_as_a_folder_is() {
    let place = Place::new();
    fs::create_dir_all(place.path("in/deep")).unwrap();
    let lines = |from: u64, to: u64| -> String {
        (from..to).map(|i| format!("{}\n", json!({"text": prose(i % 1_900)}))).collect()
    };
    fs::write(place.path("in/a.jsonl"), lines(0, 1_500) + "not json\n").unwrap();
    fs::write(place.path("in/deep/b.jsonl"), lines(1_500, 2_500)).unwrap();
    fs::write(place.path("in/c.txt"), prose(7_000)).unwrap();
    fs::write(place.path("in/d.png"), "x").unwrap();
    let objects = Objects::default();
    for name in ["a.jsonl", "deep/b.jsonl", "c.txt", "d.png"] {
        objects.put(&format!("crawl/in/{name}"), fs::read(place.path(&format!("in/{name}"))).unwrap());
    }
    let (held, refuses, turn) = (objects.clone(), Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let refused = refuses.clone();
    let server = Server::start(move |asked| {
        let reply = held.answer(asked, 2);
        let is_fifth = asked.range().is_some() && turn.fetch_add(1, Ordering::SeqCst) % 5 == 4;
        match () {
            () if refused.load(Ordering::SeqCst) && asked.path.ends_with("b.jsonl") => {
                Reply::refusal(403, "ExpiredToken")
            }
            () if is_fifth => {
                let half = reply.body.len() / 2;
                reply.cut(half)
            }
            () => reply,
        }
    });
    let curate = |source: &'static str, out: &'static str| {
        [
            "curate",
            source,
            "--out",
            out,
            "--checkpoint",
            "100kB",
            "--threads",
            "2",
            "--set",
            "curate.held_out.fraction=0.1",
            // One sentence with other words each time is just what these rules are against.
            "--set",
            "curate.gopher_repetition.enabled=false",
        ]
    };
    run(&place, &server, &curate("in", "here"), 0);
    let said = run(&place, &server, &curate("s3://crawl/in", "there"), 0);
    assert!(said.contains("s3://crawl/in/a.jsonl:line 1501"), "{said}");
    let wanted = documents(&place, "here", "in/");
    assert!(wanted.len() > 1_000, "{}", wanted.len());
    assert!(documents(&place, "there", "s3://crawl/in/") == wanted);

    // Killed, refused in the middle, killed, and at last let through.
    let parts = || fs::read_dir(place.path("stormy.work")).map_or(0, |entries| entries.count());
    for stage in 0..4 {
        refuses.store(stage == 1, Ordering::SeqCst);
        if stage == 1 {
            let said = run(&place, &server, &curate("s3://crawl/in", "stormy"), 1);
            for wanted in ["s3://crawl/in/deep/b.jsonl", "ExpiredToken", "AWS_SESSION_TOKEN"] {
                assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
            }
            continue;
        }
        let before = parts();
        let mut child = command(&place, &server, &curate("s3://crawl/in", "stormy"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while parts() <= before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(&place, &server, &curate("s3://crawl/in", "stormy"), 0);
    assert_eq!(Digest::of_dir(&place.path("stormy")).unwrap(), Digest::of_dir(&place.path("there")).unwrap());

    let globbed = curate("s3://crawl/in/**/*.jsonl", "globbed");
    let said = run(&place, &server, &globbed, 0);
    assert!(!said.contains("c.txt"), "{said}");
    assert!(documents(&place, "globbed", "s3://crawl/in/").len() + 1 >= wanted.len());

    let train = |source| ["tokenizer", "train", source, "--vocab-size", "600", "--out"];
    run(&place, &server, &[&train("in")[..], &["here-tokens"]].concat(), 0);
    run(&place, &server, &[&train("s3://crawl/in")[..], &["there-tokens"]].concat(), 0);
    let ranks = |out: &str| fs::read(place.path(&format!("{out}/tokenizer.model"))).unwrap();
    assert!(ranks("here-tokens") == ranks("there-tokens"));
}

#[test]
fn a_bucket_that_cannot_be_had_is_named_with_the_remedy() {
    let place = Place::new();
    let server = Server::start(|asked| match asked.path.split('/').nth(1) {
        Some("private") => Reply::refusal(403, "AccessDenied"),
        Some("busy") => Reply::refusal(503, "SlowDown").header("retry-after", 100_000),
        Some("abroad") => Reply::refusal(301, "PermanentRedirect").header("x-amz-bucket-region", "us-west-2"),
        _ => Reply::refusal(404, "NoSuchBucket"),
    });
    for (bucket, reason, remedy) in [
        ("private", "access refused", "AWS_PROFILE"),
        ("busy", "slow down", "later"),
        ("abroad", "us-west-2", "AWS_REGION=us-west-2"),
        ("nothing", "there is no such bucket", "AWS_ENDPOINT_URL"),
    ] {
        let source = format!("s3://{bucket}/in");
        let said = run(&place, &server, &["curate", &source, "pages", "--out", "out"], 1);
        for wanted in [source.trim_end_matches("/in"), reason, "hint:", remedy] {
            assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
        }
        assert!(!place.path("out").exists());
    }
}
