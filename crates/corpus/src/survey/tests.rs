use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use ledger::progress::Silent;
use proptest::prelude::*;

use super::*;
use crate::RemovedDocument;
use crate::batch;
use crate::documents::SplitWriter;
use crate::funnel::FunnelStep;

/// A document as a test says it.
#[derive(Debug, Clone)]
struct Plain {
    text: String,
    url: Option<String>,
    lang: Option<String>,
    score: Option<f64>,
    tokens: Option<i64>,
}

fn id(number: usize) -> String {
    format!("{number:032x}")
}

fn batch(documents: &[(usize, &Plain)]) -> RecordBatch {
    let scores = ["quality_of_it".to_string()];
    let schema = batch::with_scores(&batch::output_schema(), scores.iter());
    let strings = |values: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let each = |pick: fn(&Plain) -> Option<String>| {
        strings(documents.iter().map(|(_, document)| pick(document)).collect())
    };
    let numbers = |pick: fn(&Plain) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from(documents.iter().map(|(_, document)| pick(document)).collect::<Vec<_>>()))
    };
    let columns = vec![
        strings(documents.iter().map(|(number, _)| Some(id(*number))).collect()),
        each(|document| Some(document.text.clone())),
        each(|document| document.url.clone()),
        strings(documents.iter().map(|(number, _)| Some(format!("in.jsonl:line {number}"))).collect()),
        each(|_| Some("2024-04-18".to_string())),
        each(|document| document.lang.clone()),
        numbers(|document| document.score.map(|score| 1.0 - score)),
        numbers(|_| None),
        Arc::new(Int64Array::from(documents.iter().map(|(_, document)| document.tokens).collect::<Vec<_>>())),
        numbers(|document| document.score),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Writes them as curation does, every seventh held out, a file each few documents.
fn write(folder: &Path, documents: &[Plain], funnel: bool) {
    let (mut train, mut held_out) = (Count::default(), Count::default());
    let numbered: Vec<(usize, &Plain)> = documents.iter().enumerate().collect();
    for (split, count) in [(Split::Train, &mut train), (Split::HeldOut, &mut held_out)] {
        let schema = batch(&[]).schema();
        let mut writer = SplitWriter::create(folder, split, schema, 200).unwrap();
        let part: Vec<_> =
            numbered.iter().filter(|(i, _)| (i % 7 == 0) == (split == Split::HeldOut)).copied().collect();
        for some in part.chunks(5) {
            some.iter().for_each(|(_, document)| count.add(document.text.len() as u64));
            writer.write(&batch(some)).unwrap();
        }
        writer.finish().unwrap();
    }
    if funnel {
        let funnel = Funnel { train, held_out, ..Funnel::default() };
        std::fs::write(folder.join("funnel.json"), serde_json::to_vec(&funnel).unwrap()).unwrap();
        std::fs::write(folder.join("clusters.jsonl"), "").unwrap();
        std::fs::write(folder.join("skipped.jsonl"), "").unwrap();
    }
}

fn look(folder: &Path, threads: usize, memory: u64, seed: u64) -> Result<Survey, Error> {
    let work = tempfile::tempdir().unwrap();
    let options = Options { samples: 6, seed, excerpt_bytes: 40, top: 5, memory, work: work.path() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| survey(folder, &options, &Silent))
}

fn documents() -> impl Strategy<Value = Vec<Plain>> {
    let url = prop_oneof![
        Just(None),
        Just(Some("no address".to_string())),
        (0u32..12, 0u32..3).prop_map(|(host, page)| Some(format!("https://www.h{host}.org:443/{page}"))),
    ];
    let lang = proptest::option::of(prop_oneof![Just("en"), Just("de"), Just("ja")]);
    let document = (
        "[a-zäß語 \n]{0,90}",
        url,
        lang,
        proptest::option::of(prop_oneof![0.0..1.0f64, Just(f64::NAN), Just(1.0)]),
        proptest::option::of(0i64..1000),
    );
    let document = document.prop_map(|(text, url, lang, score, tokens)| Plain {
        text,
        url,
        lang: lang.map(str::to_string),
        score,
        tokens,
    });
    proptest::collection::vec(document, 0..80)
}

/// Documents and text of those for which `is` holds.
fn count(documents: &[Plain], is: impl Fn(&Plain) -> bool) -> Count {
    let mut count = Count::default();
    documents
        .iter()
        .filter(|document| is(document))
        .for_each(|document| count.add(document.text.len() as u64));
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_counts_as_a_plain_count_does_on_any_number_of_threads(documents in documents(), seed in 0u64..3) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &documents, true);
        let found = look(folder.path(), 1, 1 << 20, seed).unwrap();
        // Debug, because a value that is not a number does not equal itself.
        for (threads, memory) in [(2, 1 << 20), (5, 0)] {
            let other = look(folder.path(), threads, memory, seed).unwrap();
            prop_assert_eq!(format!("{other:?}"), format!("{found:?}"));
        }
        prop_assert_eq!(&found.faults, &Faults::default());
        prop_assert_eq!(found.documents(), count(&documents, |_| true));
        let characters = |document: &Plain| document.text.chars().count();
        prop_assert_eq!(found.characters, documents.iter().map(characters).sum::<usize>() as u64);
        let tokens: Vec<i64> = documents.iter().filter_map(|document| document.tokens).collect();
        let wanted = Tokens { documents: tokens.len() as u64, tokens: tokens.iter().sum::<i64>() as u64 };
        prop_assert_eq!(found.tokens, wanted);
        for lang in ["en", "de", "ja"] {
            let wanted = count(&documents, |document| document.lang.as_deref() == Some(lang));
            prop_assert_eq!(found.languages.get(lang).copied().unwrap_or_default(), wanted);
        }
        prop_assert_eq!(found.no_language, count(&documents, |document| document.lang.is_none()));

        let mut hosts: BTreeMap<String, Count> = BTreeMap::new();
        for document in &documents {
            if let Some(host) = document.url.as_deref().and_then(url::host) {
                hosts.entry(host).or_default().add(document.text.len() as u64);
            }
        }
        prop_assert_eq!(found.hosts.distinct, hosts.len() as u64);
        let mut ranked: Vec<u64> = hosts.values().map(|count| count.documents).collect();
        ranked.sort_by(|a, b| b.cmp(a));
        let shown: Vec<u64> = found.hosts.by_documents.iter().map(|(_, count)| count.documents).collect();
        prop_assert_eq!(&shown[..], &ranked[..ranked.len().min(5)]);
        for (host, count) in found.hosts.by_documents.iter().chain(&found.hosts.by_bytes) {
            prop_assert_eq!(hosts.get(host), Some(count), "{}", host);
        }
        let scores: Vec<f64> = documents.iter().filter_map(|document| document.score).collect();
        let nan = scores.iter().filter(|score| score.is_nan()).count() as u64;
        if let Some(column) = found.columns.get("score_quality_of_it") {
            prop_assert_eq!((column.count, column.not_finite), (scores.len() as u64 - nan, nan));
            prop_assert_eq!(column.missing, (documents.len() - scores.len()) as u64);
        }
        prop_assert_eq!(found.kept.len(), documents.len().min(6));
        for excerpt in &found.kept {
            let number = usize::from_str_radix(&excerpt.id, 16).unwrap();
            let document = &documents[number];
            prop_assert!(document.text.starts_with(&excerpt.text) && excerpt.text.len() <= 40);
            prop_assert_eq!(excerpt.bytes, document.text.len() as u64);
            prop_assert_eq!(&excerpt.source, &format!("in.jsonl:line {number}"));
            prop_assert_eq!(excerpt.held_out, number % 7 == 0);
        }
    }
}

fn some() -> Vec<Plain> {
    let document = |i: usize| Plain {
        text: format!("document {i} ").repeat(1 + i % 9),
        url: Some(format!("http://h{}.org/{i}", i % 3)),
        lang: Some("en".to_string()),
        score: Some(i as f64 / 100.0),
        tokens: None,
    };
    (0..100).map(document).collect()
}

#[test]
fn samples_come_from_everywhere_and_follow_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &some(), true);
    let numbers = |seed| -> Vec<usize> {
        let kept = look(folder.path(), 2, 1 << 20, seed).unwrap().kept;
        kept.iter().map(|excerpt| usize::from_str_radix(&excerpt.id, 16).unwrap()).collect()
    };
    let one = numbers(1);
    assert_eq!(one, numbers(1));
    assert_ne!(one, numbers(2));
    assert!(one.iter().any(|number| *number >= 50) && one.iter().any(|number| *number < 50), "{one:?}");
}

#[test]
fn damaged_files_cost_themselves_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &some(), true);
    let whole = look(folder.path(), 2, 1 << 20, 1).unwrap();
    assert_eq!((whole.documents().documents, whole.faults.count), (100, 0));
    let damage = |name: &str, change: fn(&mut Vec<u8>)| {
        let path = folder.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    // A file without its end, and one whose pages are not what was compressed.
    damage("train-00001.parquet", |bytes| bytes.truncate(bytes.len() / 2));
    damage("train-00003.parquet", |bytes| bytes[4..400].fill(0xff));
    std::fs::remove_file(folder.path().join("clusters.jsonl")).unwrap();
    std::fs::write(folder.path().join("funnel.json"), "{\"steps\": 3}").unwrap();
    let left = look(folder.path(), 3, 1 << 20, 1).unwrap();
    let places: Vec<&str> = left.faults.listed.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(places[..3], ["funnel.json", "clusters.jsonl", "train-00001.parquet"], "{:?}", left.faults);
    assert!(places[3].starts_with("train-00003.parquet: rows 1 to "), "{places:?}");
    assert_eq!((left.faults.count, left.funnel.is_none(), left.clusters.is_none()), (4, true, true));
    let documents = left.documents().documents;
    assert!((75..100).contains(&documents), "{documents}");
    assert_eq!(left.bytes.count, documents);
}

#[test]
fn other_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| look(path, 1, 1 << 20, 1).unwrap_err();
    assert!(matches!(refused(folder.path()), Error::NotCurated { .. }));
    assert!(matches!(refused(&folder.path().join("nowhere")), Error::Io { .. }));
    std::fs::write(folder.path().join("train-00000.parquet"), "PAR1 nothing").unwrap();
    let survey = look(folder.path(), 1, 1 << 20, 1).unwrap();
    assert_eq!(survey.documents(), Count::default());
    assert!(survey.faults.listed.iter().any(|fault| fault.place == "train-00000.parquet"));
}

#[test]
fn an_account_that_says_other_than_the_files_is_told() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &some(), true);
    std::fs::remove_file(folder.path().join("train-00002.parquet")).unwrap();
    let faults = look(folder.path(), 1, 1 << 20, 1).unwrap().faults;
    assert!(faults.listed[0].reason.starts_with("counts 100 documents"), "{faults:?}");
}

#[test]
fn clusters_and_removed_documents_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &some(), true);
    let path = folder.path();
    let cluster = |number: usize, same_text: u64| {
        format!(
            "{{\"id\":\"{}\",\"source\":\"s\",\"same_url\":1,\"same_text\":{same_text},\"similar_text\":0}}\n",
            id(number)
        )
    };
    let clusters: String = (0..20).map(|i| cluster(i, i as u64)).collect();
    // One whose document a later rule removed, and a line that is torn.
    std::fs::write(path.join("clusters.jsonl"), format!("{clusters}{}{{\"id\":", cluster(1000, 500)))
        .unwrap();
    let skip =
        |line: u64| format!("{{\"place\":\"a:line {line}\",\"reason\":\"is not JSON at column {line}\"}}\n");
    std::fs::write(path.join("skipped.jsonl"), (1..30).map(skip).collect::<String>()).unwrap();
    std::fs::create_dir(path.join("removed")).unwrap();
    let lines: String = (0..40u8)
        .map(|i| {
            let document = RemovedDocument {
                reason: if i % 4 == 0 { "short".into() } else { "long".into() },
                paper: "Somebody 2020".into(),
                value: Some(f64::from(i)),
                limit: Some(50.0),
                id: id(usize::from(i)),
                source: "s".into(),
                url: None,
                lang: None,
                bytes: 9,
                text: Some("ä".repeat(100)),
                part: None,
                duplicate_of: None,
            };
            format!("{}\n", serde_json::to_string(&document).unwrap())
        })
        .collect();
    std::fs::write(path.join("removed/gopher.jsonl"), lines).unwrap();

    let survey = look(path, 2, 1 << 20, 1).unwrap();
    let clusters = survey.clusters.unwrap();
    assert_eq!((clusters.clusters, clusters.same_url, clusters.same_text), (21, 21, 190 + 500));
    assert_eq!(
        clusters.sizes,
        BTreeMap::from([
            (2, (1, 1)),
            (4, (2, 5)),
            (8, (4, 22)),
            (16, (8, 92)),
            (32, (5, 90)),
            (512, (1, 501))
        ])
    );
    let largest: Vec<(u64, bool)> =
        clusters.largest.iter().map(|cluster| (cluster.removed(), cluster.document.is_some())).collect();
    assert_eq!(largest, [(501, false), (20, true), (19, true), (18, true), (17, true)]);
    assert_eq!(clusters.largest[1].document.as_ref().unwrap().id, id(19));

    let removed = survey.removed.unwrap();
    assert_eq!((removed.len(), removed[0].step.as_str()), (1, "gopher"));
    let long = &removed[0].reasons["long"];
    assert_eq!((long.listed, long.limit, long.value), (30, Some((50.0, 50.0)), Some((1.0, 39.0))));
    assert_eq!((long.samples.len(), long.samples[0].text.as_deref()), (6, Some("ä".repeat(20).as_str())));
    assert_eq!(survey.skipped.len(), 1);
    assert_eq!((survey.skipped[0].0.place.as_str(), survey.skipped[0].1), ("a:line 1", 29));
    let places: Vec<&str> = survey.faults.listed.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(places, ["clusters.jsonl: line 22"]);
    let step =
        FunnelStep { removed: BTreeMap::from([("short".to_string(), 1)]), ..FunnelStep::new("gopher") };
    let funnel = Funnel { steps: vec![step], ..survey.funnel.unwrap() };
    std::fs::write(path.join("funnel.json"), serde_json::to_vec(&funnel).unwrap()).unwrap();
    std::fs::remove_dir_all(path.join("removed")).unwrap();
    let faults = look(path, 2, 1 << 20, 1).unwrap().faults;
    assert!(faults.listed.iter().any(|fault| fault.place == "removed/"), "{faults:?}");
}
