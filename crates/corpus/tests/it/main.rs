//! Curation and packing as a whole, on tiny corpora made on the spot.

mod injection;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use corpus::{
    Error, Funnel, RemovedDocument, Settings, Source, Split, curate, documents, indexed, pack, registry,
};
use ledger::progress::Silent;
use ledger::seed::{Rng, Seed};

/// Varied sentences in something like English, different for every state of the generator.
fn prose(rng: &mut Rng, sentences: usize) -> String {
    const NOUNS: &str = "farmer neighbour captain teacher engineer librarian bridge letter boat map clock cellar bread \
        chapter river garden window street winter market doctor island horse kitchen summer village song mountain \
        question answer paper machine forest harbour picture story morning evening journey church castle table";
    const VERBS: &str = "remembered described repaired painted carried bought forgot followed watched opened closed \
        found lost built sold kept brought understood believed promised finished crossed visited ordered";
    const ADJECTIVES: &str = "old young narrow green broken heavy quiet famous empty wooden distant simple careful \
        strange early golden honest useful bitter gentle";
    const JOINS: &str = "before after while because although until where and but so";
    let mut pick = |list: &'static str| -> &'static str {
        let words: Vec<&str> = list.split_whitespace().collect();
        words[rng.below(words.len() as u64) as usize]
    };
    let mut text = String::new();
    for i in 0..sentences {
        let mut clause = || {
            let (adjective, noun, verb) = (pick(ADJECTIVES), pick(NOUNS), pick(VERBS));
            format!("the {adjective} {noun} {verb} the {} of the {}", pick(NOUNS), pick(NOUNS))
        };
        let (first, second) = (clause(), clause());
        text.push_str(&format!("It was so that {first} {} {second}.", pick(JOINS)));
        text.push_str(if i % 4 == 3 { "\n\n" } else { " " });
    }
    text
}

fn function(rng: &mut Rng) -> String {
    let name = |rng: &mut Rng| (0..8).map(|_| char::from(b'a' + rng.below(26) as u8)).collect::<String>();
    let mut text = String::new();
    for _ in 0..6 {
        let (f, a, b) = (name(rng), name(rng), name(rng));
        text.push_str(&format!("/// Adds {a} to {b}.\npub fn {f}({a}: u64, {b}: u64) -> u64 {{\n    let sum = {a} + {b};\n    sum * {}\n}}\n\n", rng.below(1000)));
    }
    text
}

struct Corpus {
    folder: tempfile::TempDir,
    sources: Vec<Source>,
}

impl Corpus {
    /// Sixty documents in every format, with duplicates, secrets and malformed inputs among them.
    fn new() -> Corpus {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("in");
        std::fs::create_dir_all(root.join("docs/deep")).unwrap();
        let mut rng = Seed(7).stream("corpus", 0);
        for i in 0..12 {
            std::fs::write(root.join(format!("docs/note{i:02}.txt")), prose(&mut rng, 12)).unwrap();
            std::fs::write(root.join(format!("docs/deep/code{i:02}.rs")), function(&mut rng)).unwrap();
            std::fs::write(
                root.join(format!("docs/guide{i:02}.md")),
                format!("# Guide\n\n{}", prose(&mut rng, 10)),
            )
            .unwrap();
        }
        let first = std::fs::read_to_string(root.join("docs/note00.txt")).unwrap();
        std::fs::write(root.join("docs/zcopy.txt"), first.to_uppercase()).unwrap();
        let near = first.replacen("the ", "every ", 1);
        std::fs::write(root.join("docs/znear.txt"), near).unwrap();
        std::fs::write(root.join("docs/short.txt"), "Too short.").unwrap();
        std::fs::write(root.join("docs/picture.png"), [0x89, b'P']).unwrap();
        std::fs::write(root.join("docs/broken.rs"), b"fn \xFF").unwrap();
        let mail = format!("{} Write to jane.doe@posteo.de about it.", prose(&mut rng, 10));
        let page = format!(
            "<html><body><article><p>{}</p><p>{}</p></article></body></html>",
            prose(&mut rng, 9),
            prose(&mut rng, 9)
        );
        std::fs::write(root.join("docs/page.html"), page).unwrap();
        let mut lines = format!("{}\nnot json\n", serde_json::json!({ "text": mail }));
        for _ in 0..12 {
            lines.push_str(&format!(
                "{}\n",
                serde_json::json!({ "text": prose(&mut rng, 10), "url": "http://x/" })
            ));
        }
        let packed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
        std::fs::write(root.join("lines.jsonl.zst"), packed).unwrap();
        let body = prose(&mut rng, 10);
        let mut warc = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        write!(warc, "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}\r\n\r\n", body.len()).unwrap();
        std::fs::write(root.join("crawl.warc.gz"), warc.finish().unwrap()).unwrap();
        let path = |name: &str| Source::parse(root.join(name).to_str().unwrap()).unwrap();
        let sources = vec![path("docs"), path("*.jsonl.zst"), path("crawl.warc.gz"), path("missing.txt")];
        Corpus { folder, sources }
    }

    fn curate(&self, out: &str, settings: &Settings, evaluation_texts: &[String]) -> Result<Funnel, Error> {
        let out = self.folder.path().join(out);
        curate(settings, &self.sources, evaluation_texts, &out, Seed(1), &Silent)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_corpus_of_every_format_is_curated() {
    let corpus = Corpus::new();
    let funnel = corpus.curate("out", &Settings::default(), &[]).unwrap();
    let step = |name: &str| funnel.steps.iter().find(|step| step.name == name).unwrap();
    assert_eq!(step("read").documents_out, 54);
    assert_eq!(step("gopher_quality").removed, BTreeMap::from([("too_few_words".to_string(), 1)]));
    assert_eq!(step("exact_duplicates").removed, BTreeMap::from([("same_text".to_string(), 1)]));
    assert_eq!(step("near_duplicates").removed, BTreeMap::from([("similar_text".to_string(), 1)]));
    assert_eq!(step("near_duplicates").samples[0].source.rsplit('/').next(), Some("znear.txt"));
    assert_eq!(step("scrub").edits, BTreeMap::from([("emails".to_string(), 1)]));
    assert_eq!(funnel.ignored, BTreeMap::from([("png".to_string(), 1)]));
    assert_eq!(funnel.skipped.count, 3, "{:?}", funnel.skipped);
    for pair in funnel.steps.windows(2) {
        assert_eq!((pair[0].documents_out, pair[0].bytes_out), (pair[1].documents_in, pair[1].bytes_in));
    }
    for step in &funnel.steps {
        assert_eq!(
            step.documents_in - step.documents_out,
            step.removed.values().sum::<u64>(),
            "{}",
            step.name
        );
    }
    let kept = step("near_duplicates").documents_out;
    assert_eq!(funnel.train.documents + funnel.held_out.documents, kept);
    assert_eq!(funnel.kinds.values().map(|count| count.documents).sum::<u64>(), kept);
    assert_eq!(funnel.languages["none"].documents, 12);

    let out = corpus.path("out");
    let read = |split| documents(&out, split).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let (train, held_out) = (read(Split::Train), read(Split::HeldOut));
    assert_eq!(
        (train.len() as u64, held_out.len() as u64),
        (funnel.train.documents, funnel.held_out.documents)
    );
    assert!(!held_out.is_empty());
    let all: Vec<_> = train.iter().chain(&held_out).collect();
    assert!(all.iter().any(|document| document.text.contains("Write to <EMAIL> about it.")));
    assert!(all.iter().all(|document| document.id.len() == 32 && document.token_count.is_none()));
    let code = all.iter().find(|document| document.source.ends_with(".rs")).unwrap();
    assert_eq!((&code.lang, code.date.as_deref()), (&None, None));
    assert!(code.quality.is_some_and(|quality| (0.0..=1.0).contains(&quality)));
    let line = all.iter().find(|document| document.source.ends_with(":line 3")).unwrap();
    assert_eq!((line.lang.as_deref(), line.url.as_deref()), (Some("en"), Some("http://x/")));
    let removed =
        ["exact_duplicates", "gopher_quality", "near_duplicates"].map(|step| format!("removed/{step}.jsonl"));
    let [exact, quality, near] = removed.each_ref().map(String::as_str);
    let names = [
        "clusters.jsonl",
        "curation.json",
        "funnel.json",
        "heldout-00000.parquet",
        exact,
        quality,
        near,
        "skipped.jsonl",
        "train-00000.parquet",
    ];
    assert_eq!(files(&out).keys().map(String::as_str).collect::<Vec<_>>(), names);
    let made: corpus::Made = serde_json::from_slice(&files(&out)["curation.json"]).unwrap();
    assert_eq!(made.settings, serde_json::to_value(Settings::default()).unwrap());
    assert!(!made.sources.is_empty());
    let short: RemovedDocument = serde_json::from_slice(&files(&out)[quality]).unwrap();
    assert_eq!((short.reason.as_str(), short.text.as_deref()), ("too_few_words", Some("Too short.\n")));
    assert_eq!((short.value, short.limit), (Some(2.0), Some(50.0)));
    assert!(short.paper.starts_with("Gopher") && short.source.ends_with("short.txt"));
    assert_eq!(step("gopher_quality").papers["too_few_words"], short.paper);
    let clusters = String::from_utf8(files(&out)["clusters.jsonl"].clone()).unwrap();
    let clusters: Vec<serde_json::Value> =
        clusters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<_> = clusters.iter().map(|c| (&c["same_text"], &c["similar_text"])).collect();
    assert_eq!(counts, [(&1.into(), &1.into())], "{clusters:?}");
    assert!(clusters.iter().all(|cluster| all.iter().any(|document| cluster["id"] == document.id.as_str())));
    let json: Funnel = serde_json::from_slice(&files(&out)["funnel.json"]).unwrap();
    assert_eq!(json, funnel);
    assert_eq!(files(&out)["skipped.jsonl"].iter().filter(|&&byte| byte == b'\n').count(), 3);
}

#[test]
fn the_output_is_the_same_bytes_for_any_number_of_threads() {
    let corpus = Corpus::new();
    let outputs: Vec<_> = [1, 2, 8]
        .into_iter()
        .map(|threads| {
            let out = format!("out{threads}");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| corpus.curate(&out, &Settings::default(), &[])).unwrap();
            files(&corpus.path(&out))
        })
        .collect();
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
}

#[test]
fn the_split_follows_the_seed_and_its_cap() {
    let corpus = Corpus::new();
    let held_out = |fraction: f64, max_bytes: u64, seed: u64| {
        let mut settings = Settings::default();
        (settings.held_out.fraction, settings.held_out.max_bytes) = (fraction, max_bytes);
        let out = corpus.path("split");
        let funnel = curate(&settings, &corpus.sources, &[], &out, Seed(seed), &Silent).unwrap();
        let ids: Vec<String> = documents(&out, Split::HeldOut).unwrap().map(|d| d.unwrap().id).collect();
        assert_eq!(ids.len() as u64, funnel.held_out.documents);
        (ids, funnel)
    };
    let (half, funnel) = held_out(0.5, 1 << 20, 1);
    assert!((10..41).contains(&half.len()), "{}", half.len());
    assert_eq!(held_out(0.5, 1 << 20, 1).0, half);
    assert_ne!(held_out(0.5, 1 << 20, 2).0, half);
    let (capped, _) = held_out(0.5, funnel.held_out.bytes / 2, 1);
    assert!(capped.len() < half.len() && capped.iter().all(|id| half.contains(id)));
    assert_eq!(held_out(0.0, 1 << 20, 1).0, Vec::<String>::new());
}

#[test]
fn limits_keep_a_sample() {
    let corpus = Corpus::new();
    let settings = Settings { max_documents: Some(9), max_bytes: Some(1 << 20), ..Settings::default() };
    let funnel = corpus.curate("out", &settings, &[]).unwrap();
    assert_eq!(funnel.train.documents + funnel.held_out.documents, 9);
    assert!(funnel.kinds.len() > 1, "the sample is not the first nine: {:?}", funnel.kinds);
    let settings = Settings { max_bytes: Some(10_000), ..Settings::default() };
    let funnel = corpus.curate("out", &settings, &[]).unwrap();
    assert!((5000..=10_000).contains(&(funnel.train.bytes + funnel.held_out.bytes)));
}

#[test]
fn documents_that_hold_evaluation_texts_are_removed() {
    let corpus = Corpus::new();
    let text = std::fs::read_to_string(corpus.path("in/docs/note03.txt")).unwrap();
    let question = text.split_whitespace().skip(20).take(15).collect::<Vec<_>>().join(" ");
    let funnel = corpus.curate("out", &Settings::default(), &[question]).unwrap();
    let step = funnel.steps.iter().find(|step| step.name == "decontaminate").unwrap();
    assert_eq!(step.removed, BTreeMap::from([("shares_an_ngram".to_string(), 1)]));
    assert!(step.samples[0].source.ends_with("note03.txt"));
}

#[test]
fn a_failed_run_leaves_the_former_output() {
    let corpus = Corpus::new();
    corpus.curate("out", &Settings::default(), &[]).unwrap();
    let before = files(&corpus.path("out"));
    let mut strict = Settings::default();
    (strict.gopher_quality.min_words, strict.code.min_bytes) = (50_000, 1 << 20);
    match corpus.curate("out", &strict, &[]) {
        Err(error @ Error::NothingKept { read: 54, .. }) => assert!(error.hint().is_some()),
        other => panic!("{other:?}"),
    }
    // What a killed run leaves beside it is neither read nor in the way.
    let beside: Vec<_> =
        std::fs::read_dir(corpus.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    assert!(files(&corpus.path("out")) == before);
}

#[test]
fn no_readable_input_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let path = folder.path().join("broken.parquet");
    std::fs::write(&path, "no").unwrap();
    let file = Source::Path(path.to_str().unwrap().into());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("a.pdf"), "%PDF").unwrap();
    for (sources, reason) in [
        (vec![], "0 inputs skipped"),
        (vec![file], "1 input skipped, first "),
        (
            vec![Source::Path(other.to_str().unwrap().into())],
            "0 inputs skipped, files of kinds that are not read: 1 pdf",
        ),
        (vec![Source::Path("no/such*".into())], "1 input skipped, first no/such*: matches no file"),
    ] {
        match curate(&Settings::default(), &sources, &[], &out, Seed(1), &Silent) {
            Err(error @ Error::NothingReadable { .. }) => {
                assert!(error.hint().unwrap().contains("--source"));
                assert!(error.to_string().contains(reason), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!out.exists());
    match documents(folder.path(), Split::Train) {
        Err(error @ Error::NoDocuments { .. }) => assert!(error.hint().is_some()),
        other => panic!("{:?}", other.is_ok()),
    }
}

#[test]
fn shards_are_read_in_order() {
    let corpus = Corpus::new();
    let whole = corpus.curate("one", &Settings::default(), &[]).unwrap();
    let settings = Settings { shard_bytes: 1 << 10, ..Settings::default() };
    // Batches are not divided, so this corpus of one batch stays one file; the limit is a least size.
    assert_eq!(corpus.curate("many", &settings, &[]).unwrap(), whole);
    let read = |out: &str| {
        documents(&corpus.path(out), Split::Train).unwrap().map(|d| d.unwrap().id).collect::<Vec<_>>()
    };
    assert_eq!(read("one"), read("many"));
}

#[test]
fn the_registry_is_listed_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index.crates.io-0123");
    let mut rng = Seed(3).stream("registry", 0);
    for (name, manifest) in [
        ("demo-0.9.0", "[package]\nname = \"demo\"\nversion = \"0.9.0\"\n"),
        (
            "demo-0.10.0",
            "[package]\nname = \"demo\"\nversion = \"0.10.0\"\ndescription = \"Shows\\n  things.\"\nkeywords = [\"show\"]\n\
             license = \"MIT\"\n[dependencies]\nserde = \"1\"\nold = { package = \"new\", version = \"1\" }\n\
             extra = { version = \"1\", optional = true }\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n",
        ),
        ("demo-1.0.0-beta.1", "[package]\nname = \"demo\"\nversion = \"1.0.0-beta.1\"\n"),
        ("broken-1.0.0", "[package\n"),
    ] {
        std::fs::create_dir_all(index.join(name).join("src")).unwrap();
        std::fs::write(index.join(name).join("Cargo.toml"), manifest).unwrap();
        std::fs::write(index.join(name).join("src/lib.rs"), function(&mut rng)).unwrap();
        std::fs::write(index.join(name).join("README.md"), prose(&mut rng, 10)).unwrap();
    }
    let packages = registry::packages_in(folder.path()).unwrap();
    assert_eq!(packages.len(), 1);
    let package = &packages[0];
    assert_eq!((package.name.as_str(), package.version.as_str()), ("demo", "0.10.0"));
    assert_eq!(package.description.as_deref(), Some("Shows things."));
    assert_eq!(package.dependencies, ["libc", "new", "serde"]);
    assert_eq!((package.license.as_deref(), &package.repository), (Some("MIT"), &None));

    let settings = Settings { registry: Some(folder.path().to_str().unwrap().into()), ..Settings::default() };
    let out = folder.path().join("out");
    curate(&settings, &[Source::Registry], &[], &out, Seed(1), &Silent).unwrap();
    let read = |split| documents(&out, split).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let all = [read(Split::Train), read(Split::HeldOut)].concat();
    let code = all.iter().find(|document| document.source == "registry/demo-0.10.0/src/lib.rs").unwrap();
    assert_eq!(code.url.as_deref(), Some("https://docs.rs/crate/demo/0.10.0/source/src/lib.rs"));
    assert!(!all.iter().any(|document| document.source.contains("0.9.0")));
    assert!(registry::packages_in(&folder.path().join("nowhere")).is_err());
}

#[test]
fn documents_are_packed_for_training() {
    let corpus = Corpus::new();
    let funnel = corpus.curate("documents", &Settings::default(), &[]).unwrap();
    let texts: Vec<String> = documents(&corpus.path("documents"), Split::Train)
        .unwrap()
        .map(|document| document.unwrap().text)
        .collect();
    let settings = tokenizer::train::Settings { vocab_size: 800, ..Default::default() };
    let tokenizer = tokenizer::train::train(texts.iter(), &settings, &Silent).unwrap();
    let packed: Vec<_> = [1, 2, 8]
        .into_iter()
        .map(|threads| {
            let out = corpus.path(&format!("tokens{threads}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let summary =
                pool.install(|| pack(&corpus.path("documents"), &tokenizer, &out, &Silent)).unwrap();
            (summary, files(&out))
        })
        .collect();
    assert!(packed[0] == packed[1] && packed[1] == packed[2]);
    let summary = &packed[0].0;
    assert_eq!((summary.train.documents, summary.train.bytes), (funnel.train.documents, funnel.train.bytes));
    assert_eq!(
        (summary.held_out.documents, summary.held_out.bytes),
        (funnel.held_out.documents, funnel.held_out.bytes)
    );
    let dataset = indexed::Dataset::open(&corpus.path("tokens1/train")).unwrap();
    assert_eq!(dataset.total_tokens(), summary.train.tokens);
    for (index, text) in texts.iter().enumerate() {
        let tokens = dataset.document(index).to_vec();
        assert_eq!((tokens[0], tokens[tokens.len() - 1]), (tokenizer.bos(), tokenizer.eos()));
        assert_eq!(&tokenizer.decode(&tokens[1..tokens.len() - 1]), text);
    }
    assert!(dataset.greatest_token().unwrap() < 800);
}

#[test]
fn rules_over_the_whole_corpus_are_applied_and_accounted() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Seed(9).stream("corpus", 0);
    let notice = "This site uses biscuits to make it better for everybody who reads the pages of it.";
    let (mut lines, mut bodies) = (String::new(), Vec::new());
    for i in 0..12 {
        let body = prose(&mut rng, 12);
        // Seven documents have the one line, six the other.
        let notice = if i < 7 { notice } else { "" };
        let other = if i >= 6 { "Read the other pages of this author too, which are many." } else { "" };
        let text = format!("{notice}\n\n{}\n\n{other}\n", body.trim());
        let url = if i == 11 { "https://bad.example/page" } else { "https://good.example/page" };
        lines.push_str(&format!("{}\n", serde_json::json!({ "text": text, "url": url })));
        bodies.push(body);
    }
    // Words that nobody else has, English nonetheless.
    let others: Vec<&str> = "quantum lattice enzyme protein voltage membrane polymer spectrum neutron plasma catalyst \
        isotope photon reactor synthesis molecule electron magnetic crystal diffraction oxidation solvent kinetic \
        thermal entropy viscosity laminar turbulent gradient tensor matrix eigenvalue boundary parameter coefficient"
        .split_whitespace()
        .collect();
    let strange: Vec<&str> = (0..300).map(|_| others[rng.below(others.len() as u64) as usize]).collect();
    let strange = strange
        .chunks(12)
        .map(|words| format!("It was with the {}.", words.join(" ")))
        .collect::<Vec<_>>()
        .join(" ");
    let strange = serde_json::json!({ "text": strange, "url": "https://good.example/strange" });
    lines.push_str(&format!("{strange}\n"));
    let input = folder.path().join("pages.jsonl");
    std::fs::write(&input, lines).unwrap();
    let list = folder.path().join("domains");
    std::fs::write(&list, "bad.example\n").unwrap();

    let mut settings = Settings::default();
    settings.url.domain_files = vec![list.to_str().unwrap().into()];
    settings.token_distribution.min_language_tokens = 500;
    settings.token_distribution.max_divergence = 1.0;
    settings.gopher_quality.enabled = false;
    settings.gopher_repetition.enabled = false;
    settings.fineweb.enabled = false;
    assert_eq!(settings.files(), [list.to_str().unwrap()]);
    let out = folder.path().join("out");
    let source = Source::parse(input.to_str().unwrap()).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let funnel = pool
            .install(|| curate(&settings, std::slice::from_ref(&source), &[], &out, Seed(1), &Silent))
            .unwrap();
        (funnel, files(&out))
    };
    let (funnel, made) = run(1);
    let step = |name: &str| funnel.steps.iter().find(|step| step.name == name).unwrap();
    assert_eq!(step("url").removed, BTreeMap::from([("blocked_domain".to_string(), 1)]));
    assert_eq!(step("line_dedup").edits, BTreeMap::from([("frequent_lines".to_string(), 7)]));
    let outliers = BTreeMap::from([("outlier".to_string(), 1)]);
    assert_eq!(step("token_distribution").removed, outliers, "{:?}", funnel.languages);
    let removed = |step: &str| -> Vec<RemovedDocument> {
        let text = String::from_utf8(made[&format!("removed/{step}.jsonl")].clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(removed("url")[0].url.as_deref(), Some("https://bad.example/page"));
    assert_eq!(removed("line_dedup").len(), 7);
    assert_eq!(removed("line_dedup")[0].part.as_deref(), Some(notice));
    let outlier = &removed("token_distribution")[0];
    assert!(outlier.value > outlier.limit && outlier.url.as_deref() == Some("https://good.example/strange"));
    let texts: Vec<String> = [Split::Train, Split::HeldOut]
        .into_iter()
        .flat_map(|split| documents(&out, split).unwrap())
        .map(|document| document.unwrap().text)
        .collect();
    assert_eq!(texts.len(), 11);
    assert!(texts.iter().all(|text| !text.contains("biscuits")));
    assert_eq!(texts.iter().filter(|text| text.contains("this author")).count(), 5);
    assert!(bodies[..11].iter().all(|body| texts.iter().any(|text| text.contains(body.trim()))));
    assert_eq!(run(2).1, made);
}
