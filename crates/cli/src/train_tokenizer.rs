//! `alti tokenizer train`: sources to counts of pieces in a work folder, and from these to a tokenizer's folder. How
//! pieces are counted and pairs merged is the tokenizer's, how documents are read is the corpus'.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use corpus::steps::language;
use corpus::{Source, Text, TextSink, Texts};
use ledger::atomic::AtomicDir;
use ledger::digest::Digest;
use ledger::progress::{Progress, Unit};
use serde_json::{Value, json};
use tokenizer::train::{
    Begun, Counting, Counts, Language, Options, Position, Settings, Trained, Weights, train_on,
};

use crate::args::TrainTokenizer;
use crate::errors::Error;
use crate::interrupt;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, figures, percent};
use crate::resumable::{beside, check_memory, interrupted};

/// `alti tokenizer train`.
pub fn train(args: &TrainTokenizer, shown: &Shown) -> Result<(), Error> {
    let settings = Settings {
        vocab_size: args.vocab_size,
        minimum_pair_count: args.minimum_pair_count,
        ..Settings::default()
    };
    settings.validate()?;
    let weights = weights(args)?;
    check_memory(args.memory)?;
    let work = beside(&args.out, "work")?;
    let work = args.work.as_deref().unwrap_or(&work);
    let sources: Vec<Source> =
        args.sources.iter().map(|text| Ok(Source::parse(text)?)).collect::<Result<_, Error>>()?;
    let reading = corpus::Settings::default();
    // What an earlier training wrote among the sources is not read.
    let texts = Texts::find(&sources, &reading, &[&args.out, work])?;
    for skipped in texts.skipped() {
        shown.warn(&format!("left out {}: {}", skipped.place, skipped.reason));
    }

    interrupt::listen("writing down what was counted; once more to stop at once");
    let counts = count_pieces(args, work, &texts, &reading, shown)?;
    if counts.groups().iter().all(|group| group.bytes == 0) {
        let first =
            counts.left_out().first.clone().map(|first| format!(", first {first}")).unwrap_or_default();
        let left_out = counts.left_out().count;
        counts.remove()?;
        return Err(Error::Usage {
            message: format!("no text in {}: {} left out{first}", args.sources.join(", "), places(left_out)),
            hint: "give a folder, glob or file with text; JSONL needs a field text".to_owned(),
        });
    }
    if let (left_out, Some(first)) = (counts.left_out().count, &counts.left_out().first) {
        shown.warn(&format!("left out {}, such as {first}", places(left_out)));
    }

    let trained = train_on(&counts, &settings, &weights, args.memory, shown, interrupt::flag());
    let trained = trained.map_err(|error| match error {
        tokenizer::Error::Stopped => interrupted(),
        other => other.into(),
    })?;
    report(&counts, &trained, &weights, shown);
    let staged = AtomicDir::create(&args.out)?;
    trained.tokenizer.save(staged.path())?;
    let facts = facts(args, &texts, &counts, &trained, &settings, &weights);
    let mut json = serde_json::to_vec_pretty(&facts).map_err(|error| {
        Error::io("write", &staged.path().join("training.json"))(std::io::Error::other(error))
    })?;
    json.push(b'\n');
    ledger::atomic::write(&staged.path().join("training.json"), &json)?;
    staged.commit()?;
    counts.remove()?;
    let of_text = trained.loaded.bytes as f64 / trained.tokens.max(1) as f64;
    shown.line(&format!(
        "{}: {} tokens, {} bytes a token on this text",
        args.out.display(),
        count(trained.tokenizer.vocab_size() as u64),
        figures(of_text)
    ));
    Ok(())
}

fn places(count_of: u64) -> String {
    format!("{} {}", count(count_of), if count_of == 1 { "place" } else { "places" })
}

fn weights(args: &TrainTokenizer) -> Result<Weights, Error> {
    let mut sources = vec![1.0; args.sources.len()];
    for (named, weight) in &args.weights {
        let mut found =
            args.sources.iter().zip(&mut sources).filter(|(source, _)| *source == named).peekable();
        if found.peek().is_none() {
            return Err(Error::Usage {
                message: format!("--weight names {named:?}, which is not one of the sources"),
                hint: format!("the sources are {}", args.sources.join(", ")),
            });
        }
        found.for_each(|(_, of_source)| *of_source = *weight);
    }
    let weights = Weights { sources, language_exponent: args.language_exponent };
    weights.validate().map_err(|error| Error::Usage {
        message: error.to_string(),
        hint: "correct --weight and --language-exponent".to_owned(),
    })?;
    Ok(weights)
}

/// What the counts follow from. Weights, vocabulary and memory are not in it: with other ones the counts are the same.
fn fingerprint(args: &TrainTokenizer, texts: &Texts, reading: &corpus::Settings) -> Result<Digest, Error> {
    let reading = (reading.text_part_bytes, reading.max_input_document_bytes, reading.include_hidden);
    Ok(Digest::of_value(&("alti tokenizer train 1", texts.origins(), args.sources.len(), reading))?)
}

fn count_pieces(
    args: &TrainTokenizer,
    work: &Path,
    texts: &Texts,
    reading: &corpus::Settings,
    shown: &Shown,
) -> Result<Counts, Error> {
    let options = Options {
        memory: args.memory,
        threads: args.threads.map_or_else(rayon::current_num_threads, usize::from),
        checkpoint_bytes: args.checkpoint,
    };
    let detect = |text: &str| language::detect(text).map(|(language, _)| language);
    let detect = args.language_exponent.map(|_| detect as fn(&str) -> Option<&'static str>);
    let (counting, begun) = Counting::open(work, &fingerprint(args, texts, reading)?, options, detect)?;
    match begun {
        Begun::New => {}
        Begun::Continued => tell_progress(&counting, work, texts, shown),
        Begun::Anew(reason) => {
            shown.warn(&format!("counting anew in {}: {reason}", work.display()));
        }
    }
    if counting.is_complete() {
        return Ok(counting.finish()?);
    }
    let Position { input, records } = counting.position();
    let task = shown.begin("counting pieces", Some(texts.bytes()), Unit::Bytes);
    task.position(texts.bytes_before(input));
    let mut sink = Pushing { counting, failed: None };
    let ended = texts.read(input, records, task.as_ref(), &mut sink);
    drop(task);
    let Pushing { mut counting, failed } = sink;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            // An object that cannot be read for now: what was counted is kept.
            counting.checkpoint()?;
            return Err(error.into());
        }
    };
    if ended.is_break() {
        counting.checkpoint()?;
        return Err(interrupted());
    }
    Ok(counting.finish()?)
}

fn tell_progress(counting: &Counting, work: &Path, texts: &Texts, shown: &Shown) {
    let Position { input, records } = counting.position();
    let what = match counting.is_complete() {
        true => "all pieces were counted before".to_owned(),
        false => format!(
            "{} of {} files were counted before, and {} records of the next",
            count(input),
            count(texts.inputs()),
            count(records)
        ),
    };
    shown.note(&format!("continuing with {}: {what}", work.display()));
}

/// Hands texts to the counting.
struct Pushing {
    counting: Counting,
    failed: Option<tokenizer::Error>,
}

impl TextSink for Pushing {
    fn text(&mut self, text: Text) -> ControlFlow<()> {
        let language = match (&text.language, text.is_prose()) {
            (Some(language), _) => Language::Known(language),
            (None, true) => Language::Unknown,
            (None, false) => Language::None,
        };
        let position = Position { input: text.input, records: text.records };
        // More sources than this do not fit on a command line.
        let source = u16::try_from(text.source).unwrap_or(u16::MAX);
        if let Err(error) = self.counting.push(&text.text, source, language, position) {
            self.failed = Some(error);
        }
        // Only here is the position that of what was pushed and passed over.
        if self.failed.is_some() || interrupt::asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn skip(&mut self, place: String, reason: String) -> ControlFlow<()> {
        self.counting.leave_out(&place, &reason);
        ControlFlow::Continue(())
    }

    fn inputs_done(&mut self, inputs: u64) -> ControlFlow<()> {
        self.counting.pass_to(Position { input: inputs, records: 0 });
        ControlFlow::Continue(())
    }
}

/// Texts and bytes by language, with the weight of each: the sum over sources.
fn by_language(counts: &Counts, trained: &Trained) -> BTreeMap<String, (u64, u64, f64)> {
    let mut languages: BTreeMap<String, (u64, u64, f64)> = BTreeMap::new();
    for (group, weight) in counts.groups().iter().zip(&trained.weights) {
        let name = group.language.clone().unwrap_or_else(|| "none".to_owned());
        let sum = languages.entry(name).or_default();
        *sum = (sum.0 + group.texts, sum.1 + group.bytes, sum.2 + weight * group.bytes as f64);
    }
    languages
}

fn report(counts: &Counts, trained: &Trained, weights: &Weights, shown: &Shown) {
    if weights.language_exponent.is_some() {
        let languages = by_language(counts, trained);
        let all = languages.values().fold((0, 0.0), |sum, one| (sum.0 + one.1, sum.1 + one.2));
        let mut order: Vec<_> = languages.iter().collect();
        order.sort_by(|a, b| b.1.1.cmp(&a.1.1).then(a.0.cmp(b.0)));
        for (language, (texts, size, weighed)) in order {
            shown.line(&format!(
                "  {language:<5} {:>9} in {} texts: {} of the text, weighed {}",
                bytes(*size),
                count(*texts),
                percent(*size as f64 / all.0.max(1) as f64),
                percent(weighed / all.1.max(1.0)),
            ));
        }
    }
    let loaded = &trained.loaded;
    if loaded.pruned_pieces > 0 {
        shown.warn(&format!(
            "the memory does not hold all different pieces: {} of {} were left out, those that count less than {}, with {} of \
             the text; more --memory keeps them",
            count(loaded.pruned_pieces),
            count(loaded.pieces + loaded.pruned_pieces),
            figures(loaded.pruned_below as f64 / trained.one as f64),
            percent(loaded.pruned_bytes as f64 / (loaded.bytes + loaded.pruned_bytes).max(1) as f64)
        ));
    }
}

/// What `training.json` says. Nothing of it depends on how often the work was interrupted.
fn facts(
    args: &TrainTokenizer,
    texts: &Texts,
    counts: &Counts,
    trained: &Trained,
    settings: &Settings,
    weights: &Weights,
) -> Value {
    let groups = counts.groups();
    let sources: Vec<Value> = args
        .sources
        .iter()
        .enumerate()
        .map(|(index, source)| {
            let of_source = groups.iter().filter(|group| usize::from(group.source) == index);
            let sums = of_source.fold((0, 0), |sum, group| (sum.0 + group.texts, sum.1 + group.bytes));
            // Not as it was given: an address may be signed for somebody.
            let source = Source::parse(source).map_or_else(|_| source.clone(), |source| source.to_string());
            json!({"source": source, "weight": weights.sources[index], "texts": sums.0, "bytes": sums.1})
        })
        .collect();
    let origins: Vec<Value> = texts
        .origins()
        .iter()
        .map(|origin| json!({"path": origin.path, "bytes": origin.bytes, "modified_ns": origin.modified}))
        .collect();
    let languages = by_language(counts, trained);
    let languages: serde_json::Map<String, Value> = languages
        .into_iter()
        .map(|(language, (texts, size, weighed))| {
            let weight = weighed / size.max(1) as f64;
            (language, json!({"texts": texts, "bytes": size, "weight": weight}))
        })
        .collect();
    let loaded = &trained.loaded;
    json!({
        "settings": settings,
        "merge_digits": settings.merges_digits(),
        "language_exponent": weights.language_exponent,
        "sources": sources,
        "files": origins,
        "languages": if weights.language_exponent.is_some() { Value::Object(languages) } else { Value::Null },
        "left_out": counts.left_out(),
        "pieces": loaded.pieces,
        "pruned_pieces": loaded.pruned_pieces,
        "bytes_per_token": loaded.bytes as f64 / trained.tokens.max(1) as f64,
    })
}
