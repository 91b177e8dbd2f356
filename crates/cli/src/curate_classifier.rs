//! `alti curate classifier train`: labelled documents to a classifier's folder. How it is trained and measured is the corpus'.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;

use corpus::classifier::measure::{AtThreshold, Measured};
use corpus::classifier::{Card, Provenance, References, Sample, Settings, train as train_classifier};
use corpus::{Source, Text, TextSink, Texts};
use ledger::atomic::AtomicDir;
use ledger::progress::{Progress, Unit};
use serde_json::Value;

use crate::args::{ClassifierTrain, CurateClassifier};
use crate::errors::Error;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, figures, percent};

/// `alti curate classifier`.
pub fn classifier(verb: &CurateClassifier, shown: &Shown) -> Result<(), Error> {
    match verb {
        CurateClassifier::Train(args) => train(args, shown),
    }
}

/// What is read, and what it is to be called.
struct Plan {
    labels: Vec<String>,
    /// The place of the label whose probability is the score.
    positive: usize,
    sources: Vec<(Labelling, String)>,
    references: References,
}

/// How a source's documents get their label.
#[derive(Clone, Copy)]
enum Labelling {
    Label(usize),
    References,
}

fn plan(args: &ClassifierTrain) -> Result<Plan, Error> {
    let mut labels: Vec<String> = Vec::new();
    let mut sources = Vec::new();
    for (label, source) in &args.labels {
        let known = labels.iter().position(|one| one == label).unwrap_or_else(|| {
            labels.push(label.clone());
            labels.len() - 1
        });
        sources.push((Labelling::Label(known), source.clone()));
    }
    if labels.is_empty() {
        labels = vec!["positive".to_owned(), "negative".to_owned()];
        for (label, given) in [(0, &args.positive), (1, &args.negative)] {
            sources.extend(given.iter().map(|source| (Labelling::Label(label), source.clone())));
        }
        sources.extend(args.source.iter().map(|source| (Labelling::References, source.clone())));
        if sources.is_empty() && args.ratings.is_none() {
            return Err(Error::Usage {
                message: "there is nothing to learn from".to_owned(),
                hint: "give --positive and --negative, --label, --ratings, or --references with --source"
                    .to_owned(),
            });
        }
    }
    let positive = match &args.score {
        None => 0,
        Some(name) => labels.iter().position(|label| label == name).ok_or_else(|| Error::Usage {
            message: format!("--score names {name:?}, which is no label"),
            hint: format!("the labels are {}", labels.join(", ")),
        })?,
    };
    let references = args.references.as_deref().map(References::read).transpose()?.unwrap_or_default();
    if args.references.is_some() && references.is_empty() {
        return Err(Error::Usage {
            message: "the file of --references is empty".to_owned(),
            hint: "write an address or a host on each line".to_owned(),
        });
    }
    Ok(Plan { labels, positive, sources, references })
}

fn train(args: &ClassifierTrain, shown: &Shown) -> Result<(), Error> {
    let plan = plan(args)?;
    let settings = Settings {
        dimension: args.dimension,
        epochs: args.epochs,
        learning_rate: args.learning_rate,
        word_ngrams: args.word_ngrams,
        min_chars: if args.max_chars == 0 { 0 } else { args.min_chars },
        max_chars: args.max_chars,
        buckets: args.buckets,
        max_words: args.max_words,
        held_out: args.held_out,
        seed: args.seed,
        ..Settings::default()
    };
    settings.validate()?;
    let staged = AtomicDir::create(&args.out)?;
    let work = staged.path().join("work");
    std::fs::create_dir(&work).map_err(Error::io("create", &work))?;
    let mut left_out = LeftOut::default();
    let trained = train_classifier(&settings, &plan.labels, &work, shown, |push| {
        feed(args, &plan, shown, &mut left_out, push)
    })?;
    if let Some(first) = &left_out.first {
        shown.warn(&format!("left out {} places, such as {first}", count(left_out.count)));
    }
    if trained.empty > 0 {
        shown.warn(&format!("left out {} texts without a word", count(trained.empty)));
    }
    let provenance = Provenance {
        sources: plan.sources.iter().map(|(how, source)| (how.name(&plan.labels), source.clone())).collect(),
        ratings: args.ratings.as_ref().map(|path| (path.display().to_string(), args.threshold)),
        references: args.references.as_ref().map(|path| path.display().to_string()),
        left_out: left_out.count,
    };
    let card =
        trained.save(staged.path(), &plan.labels, &plan.labels[plan.positive], &settings, provenance)?;
    let (words, buckets) = trained.rows();
    let line = format!(
        "{}: {} words and {} n-grams of {} of text",
        args.out.display(),
        count(words.into()),
        count(buckets.into()),
        bytes(trained.bytes)
    );
    drop(trained);
    std::fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
    staged.commit()?;
    shown.line(&line);
    anstream::print!("{}", describe(&card));
    Ok(())
}

impl Labelling {
    fn name(self, labels: &[String]) -> String {
        match self {
            Labelling::Label(label) => labels[label].clone(),
            Labelling::References => "by references".to_owned(),
        }
    }
}

/// What could not be read.
#[derive(Default)]
struct LeftOut {
    count: u64,
    first: Option<String>,
}

impl LeftOut {
    fn add(&mut self, place: &str, reason: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{place}: {reason}"));
    }
}

type Push<'p> = &'p mut dyn FnMut(Sample) -> Result<(), corpus::Error>;

fn feed(
    args: &ClassifierTrain,
    plan: &Plan,
    shown: &Shown,
    left_out: &mut LeftOut,
    push: Push,
) -> Result<(), Error> {
    if !plan.sources.is_empty() {
        let parsed: Vec<Source> =
            plan.sources.iter().map(|(_, text)| Ok(Source::parse(text)?)).collect::<Result<_, Error>>()?;
        let texts = Texts::find(&parsed, &corpus::Settings::default(), &[&args.out])?;
        for skipped in texts.skipped() {
            shown.warn(&format!("left out {}: {}", skipped.place, skipped.reason));
        }
        let task = shown.begin("reading documents", Some(texts.bytes()), Unit::Bytes);
        let mut sink = Labelled { plan, left_out, push, without_address: 0, failed: None };
        let read = texts.read(0, 0, task.as_ref(), &mut sink);
        drop(task);
        if let Some(error) = sink.failed {
            return Err(error.into());
        }
        let _ = read?;
        if sink.without_address > 0 {
            shown.warn(&format!(
                "{} documents have no address, so that no reference can mean them; they count as negative",
                count(sink.without_address)
            ));
        }
    }
    match &args.ratings {
        None => Ok(()),
        Some(path) => ratings(path, args.threshold, shown, left_out, push),
    }
}

/// Hands documents with their labels to the training.
struct Labelled<'a> {
    plan: &'a Plan,
    left_out: &'a mut LeftOut,
    push: Push<'a>,
    without_address: u64,
    failed: Option<corpus::Error>,
}

impl TextSink for Labelled<'_> {
    fn text(&mut self, text: Text) -> ControlFlow<()> {
        let label = match self.plan.sources[text.source].0 {
            Labelling::Label(label) => label,
            Labelling::References => {
                self.without_address += u64::from(text.url.is_none());
                let cited = text.url.is_some_and(|url| self.plan.references.hold(&url));
                usize::from(!cited)
            }
        };
        match (self.push)(Sample { label, text: text.text }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn skip(&mut self, place: String, reason: String) -> ControlFlow<()> {
        self.left_out.add(&place, &reason);
        ControlFlow::Continue(())
    }

    fn inputs_done(&mut self, _inputs: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Rated texts, a JSON object a line. Lines without a text or a number are left out and counted.
fn ratings(
    path: &Path,
    threshold: f64,
    shown: &Shown,
    left_out: &mut LeftOut,
    push: Push,
) -> Result<(), Error> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let size = file.metadata().map_err(Error::io("open", path))?.len();
    let task = shown.begin("reading ratings", Some(size), Unit::Bytes);
    let mut reader = std::io::BufReader::new(file);
    let (mut line, mut number) = (Vec::new(), 0u64);
    loop {
        line.clear();
        number += 1;
        let read = reader.read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(());
        }
        task.advance(read as u64);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match rating(&line) {
            Ok((text, score)) => push(Sample { label: usize::from(score < threshold), text })?,
            Err(reason) => left_out.add(&format!("{}:line {number}", path.display()), reason),
        }
    }
}

fn rating(line: &[u8]) -> Result<(String, f64), &'static str> {
    let value: Value = serde_json::from_slice(line).map_err(|_| "is not JSON")?;
    let text = value.get("text").and_then(Value::as_str).ok_or("has no text")?;
    let score = value.get("score").and_then(Value::as_f64).ok_or("has no number as its score")?;
    Ok((text.to_owned(), score))
}

/// What was learned and how good it is, for people.
fn describe(card: &Card) -> String {
    let mut text = String::new();
    let labels = card.labels.iter().zip(&card.trained_on);
    let counts: Vec<String> = labels.map(|(label, texts)| format!("{} {label}", count(*texts))).collect();
    text.push_str(&format!("trained on  {} texts, loss {}\n", counts.join(" and "), figures(card.loss)));
    let Some(held) = &card.held_out else {
        text.push_str("held out    nothing, so nothing is measured\n");
        return text;
    };
    text.push_str(&format!(
        "held out    {} texts, {} told right\n",
        count(held.texts),
        percent(held.accuracy)
    ));
    // Of two labels one says it all.
    for (label, measured) in card.labels.iter().zip(&held.labels) {
        if card.labels.len() > 2 || *label == card.positive {
            text.push_str(&describe_label(label, measured));
        }
    }
    text
}

fn describe_label(label: &str, measured: &Measured) -> String {
    let auc =
        measured.auc.map_or("none, as only one of the two is held out".to_owned(), |auc| format!("{auc:.4}"));
    let mut text = format!(
        "\n{label}: {} of {} held out; AUC {auc}, calibration error {}, Brier score {}\n",
        count(measured.positives),
        count(measured.positives + measured.negatives),
        figures(measured.calibration_error),
        figures(measured.brier),
    );
    text.push_str("  score from  precision   recall       F1     kept\n");
    let row = |at: &AtThreshold, note: &str| {
        let AtThreshold { threshold, precision, recall, f1, kept } = *at;
        format!("  {threshold:>10.3} {precision:>10.4} {recall:>8.4} {f1:>8.4} {:>8}{note}\n", percent(kept))
    };
    let mut rows: Vec<(AtThreshold, &str)> = measured.thresholds.iter().map(|at| (*at, "")).collect();
    let best = rows.partition_point(|(at, _)| at.threshold <= measured.best.threshold);
    rows.insert(best, (measured.best, "  the best F1"));
    text.extend(rows.iter().map(|(at, note)| row(at, note)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_need_a_text_and_a_number() {
        let check = |line: &str, expected: Result<(&str, f64), &str>| {
            let found = rating(line.as_bytes());
            assert_eq!(found, expected.map(|(text, score)| (text.to_owned(), score)), "{line}");
        };
        check(r#"{"text": "a", "score": 4, "id": 7}"#, Ok(("a", 4.0)));
        check(r#"{"text": "a", "score": 2.5}"#, Ok(("a", 2.5)));
        check(r#"{"text": "a", "score": "4"}"#, Err("has no number as its score"));
        check(r#"{"score": 4}"#, Err("has no text"));
        check("text", Err("is not JSON"));
    }
}
