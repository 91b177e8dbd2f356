//! The whole way, with the real program: raise a model from a corpus made on the spot, talk to it, serve it; then kill
//! the program in each stage and see that it ends with the same weights.

mod bench;
mod cluster;
mod corpus;
mod curate;
mod curate_report;
mod judge;
mod kills;
mod mix;
mod perplexity;
mod pull;
mod semantic;
#[path = "../../../hub/tests/it/server.rs"]
#[expect(dead_code, reason = "the hub's own tests use the rest")]
mod server;
#[cfg(feature = "object-store")]
mod stores;
mod tokens;
mod train_tokenizer;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ledger::digest::Digest;
use ledger::events;
use ledger::run::Run;

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// A folder with a corpus, in which the program is run.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        corpus::write(folder.path());
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alti"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null()).env("NO_COLOR", "1");
        // What a person has pulled or agreed to is not this test's.
        let hub = self.path("hub");
        command.env("HF_HUB_CACHE", &hub).env("HF_HOME", &hub).env_remove("HF_TOKEN");
        command
    }

    /// Runs the program to its end and gives what it wrote; it must succeed.
    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = both(&output);
        assert!(output.status.success(), "alti {args:?} failed with {}:\n{text}", output.status);
        text
    }

    /// Runs the program, which must fail with this code, and gives what it wrote.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.command(args).output().unwrap();
        let text = both(&output);
        assert_eq!(output.status.code(), Some(code), "alti {args:?}:\n{text}");
        text
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `alti raise` on the corpus, small enough for a test.
fn raise(out: &str) -> Vec<&str> {
    vec![
        "raise",
        "--out",
        out,
        "--size",
        "nano",
        "--source",
        "pages",
        "--set",
        "curate.registry=registry",
        "--set",
        "curate.held_out.fraction=0.1",
        // The corpus is one sentence with other words each time, which is just what these rules are against.
        "--set",
        "curate.gopher_repetition.enabled=false",
        "--set",
        "tokenizer.vocab_size=600",
        "--set",
        "train.tokens=50K tokens",
        "--set",
        "train.checkpoint_steps=5",
        "--set",
        "sft.tokens=30K tokens",
        "--set",
        "eval.items_per_kind=2",
    ]
}

/// Curation's rules against repetition and copies, off, for texts that are a few sentences with other words each time.
const LOOSE: [&str; 5] = [
    "curate.gopher_quality.enabled=false",
    "curate.gopher_repetition.enabled=false",
    "curate.fineweb.enabled=false",
    "curate.minhash.enabled=false",
    "curate.line_dedup.enabled=false",
];

fn weights(run: &Path) -> (Digest, Digest) {
    let of = |part: &str| Digest::of_file(&run.join(part).join("model.safetensors")).unwrap();
    (of("base"), of("aligned"))
}

#[test]
fn the_whole_way() {
    let place = Place::new();
    let said = place.run(&raise("runs/calm"));
    for wanted in ["curate", "tokenizer", "pack", "pretrain", "sft", "eval", "report.html", "chat runs/calm"]
    {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let run = place.path("runs/calm");
    let funnel = fs::read_to_string(run.join("documents/funnel.json")).unwrap();
    let funnel: serde_json::Value = serde_json::from_str(&funnel).unwrap();
    let steps = funnel["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|step| step["documents_out"].as_u64() < step["documents_in"].as_u64()),
        "{funnel}"
    );

    for part in ["base", "aligned"] {
        for file in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
        ] {
            assert!(run.join(part).join(file).is_file(), "{part}/{file} is missing");
        }
    }
    for file in ["recipe.toml", "resolved.toml", "manifest.json", "metrics.jsonl", "events.jsonl"] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }

    // What is complete is kept, and the run knows its own settings.
    let again = place.run(&["raise", "--out", "runs/calm"]);
    assert_eq!(again.matches("(kept)").count(), 6, "{again}");
    // What will be done is told before it begins, and only that is counted.
    assert!(said.contains("do      curate → tokenizer → pack → pretrain → sft → eval → report\n"), "{said}");
    assert!(again.contains("do      report\n") && again.contains("about a minute"), "{again}");
    let again = place.run(&["raise", "--out", "runs/calm", "--until", "sft"]);
    assert!(again.contains("do      nothing: all of it is complete\n"), "{again}");
    assert_eq!(again.matches("(kept)").count(), 5, "{again}");

    let status = place.run(&["status", "runs/calm"]);
    assert_eq!(status.matches("done").count(), 7, "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["status", "runs/calm", "--json"])).unwrap();
    assert_eq!(json["seed"], 42);

    bench::run(&place);
    lineage(&run);
    report(&run);
    talk(&place);
    convert(&place);
    perplexity::run(&place);
    pull::run(&place);
    judge::run(&place);
    semantic::run(&place);
    mix::run(&place);
    disturbed(&place, &weights(&run));
}

/// Every input that a stage made is what that stage recorded as its output.
fn lineage(run: &Path) {
    let run = Run::open_read_only(run).unwrap();
    for (stage, input, maker) in [
        ("tokenizer", "documents", "curate"),
        ("pack", "documents", "curate"),
        ("pack", "tokenizer", "tokenizer"),
        ("pretrain", "tokens", "pack"),
        ("sft", "base", "pretrain"),
        ("eval", "aligned", "sft"),
    ] {
        let used = &run.stage(stage).unwrap().inputs[input];
        assert_eq!(used, &run.stage(maker).unwrap().outputs[input], "{stage} was not made from this {input}");
    }
}

fn report(run: &Path) {
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    for wanted in [
        "Curation",
        "Tokenizer",
        "Pretraining",
        "Tuning",
        "Evaluation",
        "Samples",
        "Lineage",
        "<svg",
        "</html>",
    ] {
        assert!(html.contains(wanted), "{wanted} is missing in the report");
    }
    for outside in ["src=\"http", "href=\"http", "<script", "@import", "url(http", "<link rel=\"stylesheet"] {
        assert!(!html.contains(outside), "the report reaches outside: {outside}");
    }
    let hash = Run::open_read_only(run).unwrap().stage("sft").unwrap().outputs["aligned"].to_string();
    assert!(html.contains(&hash), "the report does not name the tuned model by its hash");
}

/// The tuned model through every format and back: the same weights, the same words, and errors that say what to do.
fn convert(place: &Place) {
    let ask =
        |model: &str| place.run(&["chat", model, "--prompt", "What is 12 plus 30?", "--max-tokens", "12"]);
    let json = |model: &str| -> serde_json::Value {
        serde_json::from_str(&place.run(&["inspect", model, "--json"])).unwrap()
    };
    let (answer, run) = (ask("runs/calm"), json("runs/calm"));
    assert_eq!(run["format"], "Hugging Face");
    for (from, to, more) in [
        ("runs/calm", "calm.gguf", &[][..]),
        ("calm.gguf", "hf", &["--to", "hf", "--shard-bytes", "300000"]),
        ("hf", "meta", &["--to", "meta"]),
        ("meta", "again", &["--to", "hf"]),
    ] {
        let said = place.run(&[&["convert", from, to], more].concat());
        assert!(said.contains(to) && said.contains("from"), "{said}");
        assert_eq!(json(to)["parameters"], run["parameters"], "{to}");
    }
    let folder = |path: &str| place.path(path).join("model.safetensors");
    assert!(fs::read(folder("again")).unwrap() == fs::read(folder("runs/calm/aligned")).unwrap());
    assert!(place.path("hf/model.safetensors.index.json").is_file());
    for (file, same) in [("tokenizer.json", true), ("tokenizer.model", true), ("tokenizer_config.json", true)]
    {
        let [ours, theirs] =
            ["runs/calm/aligned", "hf"].map(|dir| fs::read(place.path(dir).join(file)).unwrap());
        assert_eq!(ours == theirs, same, "{file}");
    }
    for model in ["hf", "calm.gguf", "again"] {
        assert_eq!(ask(model), answer, "{model}");
    }
    let said = place.run(&["convert", "runs/calm", "small.gguf", "--quantize", "q8_0", "--name", "Calm"]);
    assert!(said.contains("small.gguf"), "{said}");
    let said = place.run(&["inspect", "small.gguf", "--tensors"]);
    for wanted in ["Calm", "Q8_0", "blk.0.attn_q.weight", "bits a value"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let said = place.run(&["inspect", "runs/calm/tokens/train"]);
    assert!(said.contains("Megatron") && said.contains("documents"), "{said}");
    let bytes = fs::read(place.path("small.gguf")).unwrap();
    fs::write(place.path("cut.gguf"), &bytes[..bytes.len() - 1000]).unwrap();
    for (args, code, wanted) in [
        (&["convert", "runs/calm", "calm.gguf"][..], 2, "is there already"),
        (&["convert", "runs/calm", "other"], 2, "--to hf"),
        (
            &["convert", "runs/calm", "other", "--to", "hf", "--quantize", "q8_0"],
            1,
            "q8_0 is a format of GGUF",
        ),
        (&["convert", "cut.gguf", "other.gguf"], 1, "cut.gguf, byte "),
        (&["inspect", "pages"], 1, "holds no model"),
    ] {
        let said = place.fails(args, code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
    }
    assert!(!place.path("other").exists() && !place.path("other.gguf").exists());
}

/// Chat, in all ways that need no terminal, and the server.
fn talk(place: &Place) {
    let chat = |args: &[&str]| {
        let output = place.command(args).output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let ask = ["chat", "runs/calm", "--prompt", "What is 12 plus 30?", "--max-tokens", "12"];
    let answer = chat(&ask);
    assert!(answer.ends_with('\n'), "{answer:?}");
    assert_eq!(answer, chat(&ask), "the same question at temperature 0 has two answers");

    let folder = loud_adapter(place);
    let loud = chat(&[&ask[..], &["--adapter", &folder]].concat());
    assert_ne!(loud, answer, "the adapter changes nothing");

    let mut child = place
        .command(&["chat", "runs/calm", "--max-tokens", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Hello.\n/reset\nWho are you?\n/exit\nnever read\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().lines().count() >= 2);

    let mut server = place
        .command(&["serve", "runs/calm", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .args(["--adapter", &format!("loud={folder}")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (address, log) = address_of(&mut server);
    let health = http(&address, "GET", "/healthz", "");
    let models = http(&address, "GET", "/v1/models", "");
    let ask_of = |model: &str| {
        let request = serde_json::json!({
            "model": model, "messages": [{"role": "user", "content": "What is 12 plus 30?"}], "max_tokens": 12, "temperature": 0,
        });
        http(&address, "POST", "/v1/chat/completions", &request.to_string())
    };
    let completions = ["calm", "loud"].map(ask_of);
    let page = http(&address, "GET", "/", "");
    stop_in_mid_stream(&address, &mut server);
    stop_at_once(place);
    let log: Vec<serde_json::Value> =
        log.join().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let paths: Vec<&str> = log.iter().filter_map(|line| line["path"].as_str()).collect();
    let asks = "/v1/chat/completions";
    let asked = ["/healthz", "/v1/models", asks, asks, "/", "/v1/completions"];
    assert_eq!(paths, asked, "{log:?}");
    assert!(log.iter().all(|line| line["status"] == 200), "{log:?}");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(models.contains("\"calm\"") && models.contains("\"loud\""), "{models}");
    assert!(page.contains("<html") || page.contains("<!doctype html"), "{page}");
    for (completion, answer) in completions.iter().zip([answer, loud]) {
        let body = completion.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {completion}"));
        // The chat leaves out what would steer a terminal.
        let served = body["choices"][0]["message"]["content"].as_str().unwrap();
        let served: String = served.chars().filter(|c| !c.is_control() || c.is_whitespace()).collect();
        assert_eq!(
            served.trim(),
            answer.trim().trim_end_matches('…').trim(),
            "the server and the chat differ"
        );
    }
}

/// The folder of a random adapter for the run's model, which drowns what that has learned.
fn loud_adapter(place: &Place) -> String {
    let config = model::hf::load(&place.path("runs/calm/aligned")).unwrap().config;
    let mut random = ledger::seed::Seed(1).stream("adapters", 0);
    let settings = model::AdapterSettings { rank: 4, ..Default::default() };
    let mut adapters = model::Adapters::init(&config, &settings, &mut random).unwrap();
    adapters.data.iter_mut().for_each(|value| *value += 0.3 * random.normal());
    let folder = place.path("loud");
    fs::create_dir(&folder).unwrap();
    model::peft::save(&folder, &adapters, None).unwrap();
    folder.to_string_lossy().into_owned()
}

/// The system asks the server to end while an answer is on its way: the answer is finished, and so is the process.
fn stop_in_mid_stream(address: &str, server: &mut Child) {
    let request = serde_json::json!({ "prompt": "the", "max_tokens": 60, "stream": true }).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
         {request}",
        request.len()
    )
    .unwrap();
    let mut answer = vec![0; 16];
    stream.read_exact(&mut answer).unwrap();
    let told = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", server.id())).status().unwrap();
    assert!(told.success());
    // Ends because the connection does, although the client did not ask for that.
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("data: [DONE]"), "{answer}");
    assert!(server.wait().unwrap().success());
    assert!(TcpStream::connect(address).is_err());
}

/// A second request to end does not wait for what runs: here a body that never comes whole.
fn stop_at_once(place: &Place) {
    let mut server = place
        .command(&["serve", "runs/calm", "--listen", "127.0.0.1:0", "--shutdown-grace", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (address, log) = address_of(&mut server);
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    )
    .unwrap();
    // Another connection is answered behind it, so the first is being read.
    http(&address, "GET", "/healthz", "");
    let id = server.id();
    let interrupt = || Command::new("sh").arg("-c").arg(format!("kill -INT {id}")).status().unwrap();
    assert!(interrupt().success());
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.try_wait().unwrap().is_none(), "it does not wait for what runs");
    assert!(interrupt().success());
    let started = Instant::now();
    while server.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it waits although it was asked twice");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.wait().unwrap().code(), Some(130));
    assert!(log.join().unwrap().iter().any(|line| line.contains("Ctrl-C again")));
}

/// The address that the server says it listens on, and the lines that it says after that.
fn address_of(server: &mut Child) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("http://"))).unwrap().unwrap();
    // The rest must be read, or a chatty server would block.
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect());
    let address = line.split_once("http://").unwrap().1.split_whitespace().next().unwrap();
    (address.trim_end_matches('/').to_owned(), rest)
}

fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Kills the program once in each stage of a second run, and compares the weights with those of the calm one.
fn disturbed(place: &Place, calm: &(Digest, Digest)) {
    let run = place.path("runs/stormy");
    for stage in ["curate", "tokenizer", "pack", "pretrain", "pretrain", "sft", "eval"] {
        // In the training stages after a whole checkpoint of this attempt, elsewhere as soon as it begins.
        let trains = matches!(stage, "pretrain" | "sft");
        let reached = || if trains { newest_checkpoint(&run, stage) } else { count(&run, stage, "start") };
        let before = reached();
        let mut child =
            place.command(&raise("runs/stormy")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        while reached() == before {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the program ended before it could be killed in {stage}"
            );
            assert!(since.elapsed() < PATIENCE, "the stage {stage} did not begin");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.run(&raise("runs/stormy"));
    assert!(
        count(&run, "pretrain", "resume") >= 1 && count(&run, "sft", "resume") >= 1,
        "nothing was resumed"
    );
    assert_eq!(&weights(&run), calm, "a disturbed run ended with other weights");
    // The losses too are those of the calm run, each step once.
    let losses = |run: &str| -> Vec<_> {
        let points = ledger::metrics::read(&place.path(run)).unwrap();
        points.into_iter().map(|point| (point.stage, point.step, point.values["loss"].to_bits())).collect()
    };
    assert_eq!(losses("runs/stormy"), losses("runs/calm"));
}

/// How many events of this kind the stage has.
fn count(run: &Path, stage: &str, kind: &str) -> usize {
    let events = events::read(run).unwrap_or_default();
    events.iter().filter(|event| event.kind == kind && event.fields["stage"] == stage).count()
}

/// The step of the stage's newest whole checkpoint, 0 without one.
fn newest_checkpoint(run: &Path, stage: &str) -> usize {
    let folder = run.join("checkpoints").join(stage);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let whole = entries.filter(|entry| entry.path().join("COMPLETE").is_file());
    let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    whole.filter_map(step).max().unwrap_or(0)
}

#[test]
fn mistakes_are_named_with_a_hint() {
    let place = Place::new();
    fs::write(place.path("wrong.toml"), "size = \"nano\"\n[train]\nlearning_rat = 1\n").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    for (args, code, wanted) in [
        (&["raise", "--recipe", "wrong.toml"][..], 2, "wrong.toml:3: unknown field `learning_rat`"),
        (&["raise", "--set", "train.rows=0"][..], 2, "rows is 0"),
        (&["raise", "--size", "9b"][..], 1, "9b"),
        (&["raise", "--size", "nano", "--until", "pretrian"][..], 2, "pretrain"),
        (&["raise", "--size", "nano", "--source", "empty"][..], 1, "empty"),
        (&["chat", "nowhere"][..], 1, "nowhere"),
        (&["chat", "empty"][..], 2, "neither a run nor a model"),
        (&["status", "empty"][..], 1, "not a run"),
        (&["eval", "empty"][..], 1, "not a run"),
        (&["eval", "perplexity", "empty", "--source", "nowhere.txt"][..], 1, "nowhere.txt"),
        (&["eval", "perplexity", "empty", "--source", "empty"][..], 1, "empty holds no heldout documents"),
        (&["eval", "perplexity", "empty", "--source", "wrong.toml"][..], 2, "neither a run nor a model"),
        (&["bench", "train", "wrong.toml"][..], 2, "wrong.toml:3: unknown field `learning_rat`"),
        (&["bench", "train", "empty"][..], 2, "the folder empty is no run"),
        (&["bench", "train", "--shape", "tall"][..], 1, "no shape is called \"tall\""),
        (&["bench", "train", "--shape", "nano", "--set", "size=tiny"][..], 2, "both choose the model"),
        (&["bench", "train", "--set", "train.rows=0"][..], 2, "rows is 0"),
        (&["bench", "train", "--set", "size=405b"][..], 2, "this machine has"),
    ] {
        let said = place.fails(args, code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
    }
}
