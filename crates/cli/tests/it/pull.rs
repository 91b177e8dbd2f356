//! `alti pull` from a hub made on the spot: a model that is killed on its way, opened by its name, converted, and the errors
//! of a person who names what is not there.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Asked, COMMIT, Reply, Repo, Server};
use crate::{PATIENCE, Place, both};

/// The files of the tuned model, its weights in the large file storage.
fn repo(place: &Place) -> Repo {
    let mut files: Vec<(String, Vec<u8>, bool)> = fs::read_dir(place.path("runs/calm/aligned"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let large = name.ends_with(".safetensors");
            (name, fs::read(path).unwrap(), large)
        })
        .collect();
    files.push(("README.md".to_owned(), b"# Calm\n".to_vec(), false));
    files.push(("original/consolidated.00.pth".to_owned(), vec![7; 5000], true));
    files.sort();
    Repo { name: "altiplano/calm".to_owned(), files, ..Repo::default() }
}

pub fn run(place: &Place) {
    let slow = Arc::new(AtomicBool::new(true));
    let (of_store, slowly) = (repo(place), Arc::clone(&slow));
    let store = Server::start(move |asked| Reply {
        slow: slowly.load(Ordering::SeqCst).then_some(Duration::from_millis(20)),
        ..of_store.store(asked)
    });
    let repo = Repo { storage: store.address.clone(), ..repo(place) };
    let of_hub = repo.clone();
    let hub = Server::start(move |asked: &Asked| {
        if asked.path.contains("/models/altiplano/gated/") {
            return Reply::status(401).header("x-error-code", "GatedRepo");
        }
        of_hub.answer(asked)
    });
    let pull = ["pull", "altiplano/calm", "--endpoint", &hub.address];

    let said = place.fails(&["chat", "altiplano/calm"], 2);
    assert!(
        said.contains("no model of this name was pulled") && said.contains("pull altiplano/calm"),
        "{said}"
    );

    // Killed while the weights come, it goes on where it was.
    let weights = place.path("hub/models--altiplano--calm/blobs").join(repo.etag("model.safetensors"));
    let partial = weights.with_extension("incomplete");
    let mut child = place.command(&pull).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while partial.metadata().map_or(0, |found| found.len()) < 8192 {
        assert!(child.try_wait().unwrap().is_none(), "the program ended before it could be killed");
        assert!(since.elapsed() < PATIENCE, "nothing came");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!weights.exists() && !place.path("hub/models--altiplano--calm/refs").exists());
    let had = partial.metadata().unwrap().len() as usize;
    slow.store(false, Ordering::SeqCst);
    store.asked();
    let output = place.command(&pull).output().unwrap();
    let said = both(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(store.asked().iter().map(|asked| asked.from()).collect::<Vec<_>>(), [Some(had)], "{said}");
    for wanted in ["altiplano/calm at 0123456", "left  2 files", "original/consolidated.00.pth", "next  "] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let folder = place.path("hub/models--altiplano--calm/snapshots").join(COMMIT);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), folder.to_str().unwrap());
    assert!(
        fs::read(&weights).unwrap() == fs::read(place.path("runs/calm/aligned/model.safetensors")).unwrap()
    );
    assert!(place.run(&pull).contains("all of it was there"));

    // By its name, with and without its revision, it is the model that it was.
    let ask = |model: &str| {
        let output = place
            .command(&["chat", model, "--prompt", "What is 12 plus 30?", "--max-tokens", "12"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", both(&output));
        output.stdout
    };
    let answer = ask("runs/calm");
    assert_eq!(ask("altiplano/calm"), answer);
    assert_eq!(ask(&format!("altiplano/calm@{COMMIT}")), answer);
    place.run(&["convert", "altiplano/calm", "pulled.gguf"]);
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["inspect", "pulled.gguf", "--json"])).unwrap();
    assert_eq!(json["name"], "calm");

    // Into a folder of its own, a part of it.
    place.run(&[&pull[..], &["--to", "plain", "--include", "*.safetensors"]].concat());
    assert_eq!(ask("plain"), answer);

    // What another program fetched in part is no model yet.
    let lone = place.path("hub/models--owner--part/snapshots").join(COMMIT);
    fs::create_dir_all(&lone).unwrap();
    fs::create_dir_all(place.path("hub/models--owner--part/refs")).unwrap();
    fs::write(place.path("hub/models--owner--part/refs/main"), COMMIT).unwrap();
    fs::write(lone.join("config.json"), "{}").unwrap();
    fs::write(place.path("empty-token"), "\n").unwrap();
    let endpoint = ["--endpoint", &hub.address];
    for (args, code, wanted) in [
        (&["chat", "owner/part"][..], 2, "without its weights"),
        (&["inspect", "runs/absent"], 2, "in the cache are altiplano/calm, owner/part"),
        (&["pull", "a/b/c"], 1, "no name of a model"),
        (&[&["pull", "altiplano/absent"], &endpoint[..]].concat(), 1, "has no model altiplano/absent"),
        (&[&["pull", "altiplano/gated"], &endpoint[..]].concat(), 1, "only accounts that agreed"),
        (&[&pull[..], &["--include", "*.gguf"]].concat(), 1, "no file that *.gguf means"),
        (&[&pull[..], &["--revision", "v9"]].concat(), 1, "has no revision \"v9\""),
        (&[&pull[..], &["--token-file", "empty-token"]].concat(), 1, "holds no token"),
        (&["pull", "altiplano/calm", "--endpoint", "http://127.0.0.1:9"], 1, "check the network"),
    ] {
        let said = place.fails(args, code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
    }
}
