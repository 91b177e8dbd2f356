//! `alti curate judge` and `alti curate classifier train` as a person has them: a model in the process and an endpoint that
//! refuses, stumbles and talks nonsense, killed and run again; what is learned from the ratings; documents removed by it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Asked, Reply, Server};
use crate::{LOOSE, PATIENCE, Place, both};

/// Documents that a judge can tell apart: those about rivers, and those that sell.
fn documents(place: &Place, count: usize) {
    let mut lines = String::new();
    for n in 0..count {
        let text = match n % 2 {
            0 => format!(
                "The river of valley {n} carries stones, and pupils measure how fast its water flows in spring."
            ),
            _ => format!(
                "Buy now, offer {n} ends soon! Click here for the best price and free shipping on every order."
            ),
        };
        lines.push_str(
            &json!({"text": text, "url": format!("https://host{}.example/{n}", n % 2)}).to_string(),
        );
        lines.push('\n');
    }
    fs::write(place.path("web.jsonl"), lines).unwrap();
}

fn ratings(place: &Place, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a judge would say of a request, in OpenAI's form.
fn answer(asked: &Asked) -> Reply {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let text = body["messages"][1]["content"].as_str().unwrap();
    let score = if text.contains("river") { 4 } else { 1 };
    completion(&json!({"reason": "It says so.", "score": score}).to_string())
}

fn completion(content: &str) -> Reply {
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 20},
    });
    Reply::status(200).body(body.to_string())
}

#[test]
fn an_endpoint_judges_and_a_classifier_learns_from_it() {
    let place = Place::new();
    documents(&place, 400);
    // It knows no schemas, is busy at times, falls over at times, and sometimes talks.
    let (number, schemas) = (AtomicU64::new(0), AtomicU64::new(0));
    let talked = Mutex::new(HashSet::new());
    let server = Server::start(move |asked| {
        if asked.path.ends_with("/models") {
            return Reply::status(200).body(json!({"data": [{"id": "wise-llama"}]}).to_string());
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        if body["response_format"]["type"] == "json_schema" {
            schemas.fetch_add(1, Ordering::SeqCst);
            return Reply::status(400)
                .body(json!({"error": {"message": "unknown response_format"}}).to_string());
        }
        assert_eq!(body["model"], "wise-llama");
        // Nonsense once for each document, so that the second time counts; each time is asked in other words.
        let document = body["messages"][1]["content"].as_str().unwrap();
        let first = || talked.lock().unwrap().insert(document.to_owned());
        match number.fetch_add(1, Ordering::SeqCst) {
            3 => Reply::status(429).header("retry-after", 0),
            5 => Reply::status(500),
            7 if first() => Reply::status(200).body("<html>"),
            9 if first() => Reply::status(200).body("{}"),
            n if n % 11 == 0 && first() => completion("I would give this text 3 points."),
            _ => answer(asked),
        }
    });
    let judge = ["curate", "judge", "web.jsonl", "--endpoint", &server.address, "--out", "ratings.jsonl"];
    let said = place.run(&[&judge[..], &["--sample", "60", "--price-in", "1", "--price-out", "2"]].concat());
    assert!(said.contains("60 documents rated by wise-llama for educational, 60 of them now"), "{said}");
    assert!(said.contains("tokens read") && said.contains("cost 0.03"), "{said}");
    let first = ratings(&place, "ratings.jsonl");
    assert_eq!(first.len(), 60);
    for line in &first {
        let river = line["text"].as_str().unwrap().contains("river");
        assert_eq!(line["score"], if river { 4 } else { 1 }, "{line}");
        assert!(line["source"].as_str().unwrap().starts_with("web.jsonl:line "), "{line}");
    }

    // More of them go on where it was; a torn line costs itself.
    let mut bytes = fs::read(place.path("ratings.jsonl")).unwrap();
    bytes.truncate(bytes.len() - 20);
    fs::write(place.path("ratings.jsonl"), bytes).unwrap();
    server.asked();
    let said = place.run(&[&judge[..], &["--sample", "300"]].concat());
    assert!(said.contains("59 of 300 documents were rated before"), "{said}");
    let all = ratings(&place, "ratings.jsonl");
    let ids: HashSet<&str> = all.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((all.len(), ids.len()), (300, 300));
    assert!(server.asked().len() < 300);

    for (args, wanted) in [
        (&["--rubric", "code"][..], "rating by another rubric, educational"),
        (&["--model", "other"], "is a rating by wise-llama, and the judge now is other"),
    ] {
        let said = place.fails(&[&judge[..], args].concat(), 2);
        assert!(said.contains(wanted) && said.contains("ratings.jsonl:line 1"), "{said}");
    }
    assert_eq!(ratings(&place, "ratings.jsonl").len(), 300);

    learn(&place);
}

/// From ratings, and from references, to a classifier; from that to documents with scores, and fewer of them.
fn learn(place: &Place) {
    let train = ["curate", "classifier", "train", "--ratings", "ratings.jsonl", "--out", "educational"];
    let said =
        place.run(&[&train[..], &["--epochs", "20", "--learning-rate", "0.5", "--held-out", "0.2"]].concat());
    for wanted in ["told right", "AUC 1.0000", "the best F1", "score from"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let card: Value =
        serde_json::from_slice(&fs::read(place.path("educational/classifier.json")).unwrap()).unwrap();
    assert_eq!(card["positive"], "positive");
    assert!(card["held_out"]["accuracy"].as_f64().unwrap() > 0.95, "{card}");
    assert!(!place.path("educational/work").exists());

    fs::write(place.path("cited.txt"), "# rivers\nhttps://www.host0.example\n").unwrap();
    place.run(&[
        "curate",
        "classifier",
        "train",
        "--references",
        "cited.txt",
        "--source",
        "web.jsonl",
        "--out",
        "cited",
    ]);
    let card: Value =
        serde_json::from_slice(&fs::read(place.path("cited/classifier.json")).unwrap()).unwrap();
    assert!(card["held_out"]["labels"][0]["auc"].as_f64().unwrap() > 0.99, "{card}");

    for (args, code, wanted) in [
        (&["--out", "x"][..], 2, "nothing to learn from"),
        (
            &["--ratings", "ratings.jsonl", "--threshold", "9", "--out", "x"],
            1,
            "no text has the label positive",
        ),
        (&["--label", "a=web.jsonl", "--out", "x"], 1, "1 labels"),
        (
            &["--positive", "web.jsonl", "--negative", "absent", "--out", "x"],
            1,
            "no text has the label negative",
        ),
        (&["--ratings", "ratings.jsonl", "--score", "good", "--out", "x"], 2, "no label"),
        (&["--ratings", "ratings.jsonl", "--epochs", "0", "--out", "x"], 1, "0 epochs"),
    ] {
        let said = place.fails(&[&["curate", "classifier", "train"], args].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
    }
    assert!(!place.path("x").exists());

    let raise = |out: &'static str, rule: &'static str| {
        let rule = format!("curate.classifiers.educational={{path='educational'{rule}}}");
        let args = ["raise", "--out", out, "--size", "nano", "--source", "web.jsonl", "--until", "curate"];
        let mut args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        for set in LOOSE.into_iter().chain([&*rule]) {
            args.extend(["--set".to_owned(), set.to_owned()]);
        }
        place.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let funnel = fs::read(place.path(out).join("documents/funnel.json")).unwrap();
        let funnel: Value = serde_json::from_slice(&funnel).unwrap();
        let steps = funnel["steps"].as_array().unwrap();
        steps.iter().find(|step| step["name"] == "classifiers").unwrap().clone()
    };
    let step = raise("scored", "");
    assert_eq!(step["documents_out"], 400, "{step}");
    let step = raise("ruled", ", min_score=0.5");
    assert_eq!(
        (&step["documents_out"], &step["removed"]["educational"]),
        (&json!(200), &json!(200)),
        "{step}"
    );
}

#[test]
fn a_judge_that_is_killed_or_says_nothing_loses_nothing() {
    let place = Place::new();
    documents(&place, 200);
    let server = Server::start(|asked| {
        std::thread::sleep(Duration::from_millis(5));
        answer(asked)
    });
    let judge = |out: &'static str, address: &str| {
        let args = ["curate", "judge", "web.jsonl", "--model", "m", "--endpoint", address, "--out", out];
        let more = ["--sample", "200", "--rubric", "quality", "--concurrency", "3"];
        args.iter().chain(&more).map(|arg| arg.to_string()).collect::<Vec<_>>()
    };
    fn words(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let args = judge("killed.jsonl", &server.address);
    for kill in 1..4 {
        let lines = || fs::read_to_string(place.path("killed.jsonl")).unwrap_or_default().lines().count();
        let mut child =
            place.command(&words(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        while lines() < 30 * kill {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            assert!(since.elapsed() < PATIENCE, "nothing is rated");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    server.asked();
    let said = place.run(&words(&args));
    assert!(said.contains("were rated before"), "{said}");
    let of_file = |file: &str| -> BTreeMap<String, i64> {
        let of = |line: &Value| (line["id"].as_str().unwrap().to_owned(), line["score"].as_i64().unwrap());
        ratings(&place, file).iter().map(of).collect()
    };
    assert!(server.asked().len() <= 200 - 90, "what was rated is asked for again");
    place.run(&words(&judge("calm.jsonl", &server.address)));
    assert_eq!(
        (of_file("killed.jsonl"), ratings(&place, "killed.jsonl").len()),
        (of_file("calm.jsonl"), 200)
    );

    let nonsense = Server::start(|_| completion("Three."));
    let said = place.fails(&words(&judge("none.jsonl", &nonsense.address)), 2);
    assert!(said.contains("20 documents in a row could not be rated, the last: no JSON: Three."), "{said}");
    let refusing = AtomicBool::new(false);
    let locked = Server::start(move |asked| match refusing.swap(true, Ordering::SeqCst) {
        false => answer(asked),
        true => Reply::status(401),
    });
    let said = place.fails(&words(&judge("locked.jsonl", &locked.address)), 1);
    assert!(said.contains("401"), "{said}");
    assert_eq!(ratings(&place, "locked.jsonl").len(), 1);

    for (args, wanted) in [
        (&["web.jsonl", "--out", "x.jsonl"][..], "nobody is named to judge"),
        (&["web.jsonl", "--rubric", "rubric", "--out", "x.jsonl", "--model", "m"], "no rubric \"rubric\""),
    ] {
        let said = place.fails(&[&["curate", "judge"], args].concat(), 2);
        assert!(said.contains(wanted) && said.contains("hint:"), "{said}");
    }
}

/// The tuned model of the run as a judge: small and foolish, but its answers have the form.
pub fn run(place: &Place) {
    documents(place, 12);
    fs::create_dir(place.path("fool")).unwrap();
    for entry in fs::read_dir(place.path("runs/calm/aligned")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, place.path("fool").join(path.file_name().unwrap())).unwrap();
    }
    let judge = ["curate", "judge", "web.jsonl", "--model", "fool", "--out", "fool.jsonl", "--sample", "6"];
    let said = place.fails(&judge, 2);
    assert!(said.contains("the model's context is"), "{said}");

    let path = place.path("fool/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = 3000.into();
    fs::write(&path, config.to_string()).unwrap();
    fs::write(place.path("short.toml"), "name = 'short'\nleast = 1\nmost = 7\ntext = 'Is it good?'\n")
        .unwrap();
    let judge = [&judge[..], &["--rubric", "short.toml", "--concurrency", "4"]].concat();
    let output = place.command(&judge).output().unwrap();
    let said = both(&output);
    assert!(output.status.success(), "{said}");
    let scores: Vec<i64> =
        ratings(place, "fool.jsonl").iter().map(|line| line["score"].as_i64().unwrap()).collect();
    assert_eq!(scores.len(), 6, "{said}");
    assert!(scores.iter().all(|score| (1..=7).contains(score)), "{scores:?}");
}
