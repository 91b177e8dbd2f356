//! `alti eval perplexity`: how well models foretell held-out text, and how far each is from the first. Models are opened
//! as `alti chat` and `alti serve` open them, but that what is not in blocks of integers is multiplied in f32.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corpus::Split;
use evals::perplexity::{Estimate, Report, Settings};
use kernels::int8;
use model::formats::Stored;
use model::infer::Llama;
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::args::EvalPerplexity;
use crate::convert::size_of_model;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{bytes, count};

/// Inputs of a window where the models have room for them and nothing else is said.
const CONTEXT: usize = 2048;
/// Of what is written for programs. A number that changes its meaning raises it.
const VERSION: u32 = 1;

/// A model that is measured.
struct Subject {
    /// As the person called it.
    name: String,
    /// Bytes of its files.
    size: u64,
    llama: Arc<Llama>,
}

/// `alti eval perplexity`.
pub fn perplexity(args: &EvalPerplexity, shown: &Shown) -> Result<(), Error> {
    // Texts first: reading large models in vain would be a pity.
    let texts = args.sources.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let paths: Vec<&Path> = std::iter::once(&args.model).chain(&args.against).map(PathBuf::as_path).collect();
    check_room(&paths, ledger::machine::available_memory())?;
    let (first, tokenizer) = load(&args.model, shown)?;
    let mut subjects = vec![first];
    for path in &args.against {
        let (subject, other) = load(path, shown)?;
        refuse_other_tokens(&texts, (&args.model, &tokenizer), (path, &other))?;
        subjects.push(subject);
    }
    let models: Vec<&Llama> = subjects.iter().map(|subject| &*subject.llama).collect();
    let room = models.iter().map(|model| model.max_seq_len()).min().unwrap_or(CONTEXT);
    let context = args.context.map_or(CONTEXT.min(room), usize::from);
    let stride = args.stride.map_or((context / 2).max(1), usize::from);
    let settings = Settings { context, stride, max_tokens: args.tokens.map(u64::from) };
    let report = evals::perplexity(&models, &tokenizer, &texts, settings, shown)?;
    if args.json {
        anstream::println!("{:#}", to_json(&subjects, settings, &report));
    } else {
        anstream::print!("{}", page(&subjects, settings, &report));
    }
    Ok(())
}

/// All models are in memory at once, since every token is scored by all of them before the next.
fn check_room(paths: &[&Path], free: Option<u64>) -> Result<(), Error> {
    let mut needed = Vec::new();
    for path in paths {
        let checkpoint = model::formats::open(&open::find(path)?.folder)?;
        needed.push(checkpoint.stored().iter().map(|tensor| in_memory(tensor) as u64).sum::<u64>());
    }
    let total: u64 = needed.iter().sum();
    let Some(free) = free.filter(|free| total > *free) else { return Ok(()) };
    let each: Vec<String> = paths
        .iter()
        .zip(&needed)
        .map(|(path, &needed)| format!("{} {}", path.display(), bytes(needed)))
        .collect();
    let hint = match paths {
        [_] => "measure a quantised copy, such as `alti convert … --quantize q8_0` makes".to_owned(),
        _ => {
            format!("measure fewer at once, each beside the same first model: they take {}", each.join(", "))
        }
    };
    Err(Error::Usage {
        message: format!("the models take {} of memory, and {} are free", bytes(total), bytes(free)),
        hint,
    })
}

/// Bytes of a tensor that is ready to be multiplied, more or less: blocks that are multiplied as they are stay so, other
/// values become f32.
fn in_memory(tensor: &Stored) -> usize {
    let cols = tensor.shape.last().copied().unwrap_or(1);
    if tensor.shape.len() == 2 && int8::Matrix::takes(tensor.encoding, cols) {
        return tensor.bytes.len();
    }
    size_of::<f32>() * tensor.values()
}

fn load(path: &Path, shown: &Shown) -> Result<(Subject, Tokenizer), Error> {
    let found = open::find(path)?;
    let size = size_of_model(&model::formats::open(&found.folder)?);
    // What the file lost is to be measured, not what this processor's bf16 adds to it.
    let (llama, tokenizer) = open::load(&found, engine::Precision::F32, shown)?;
    Ok((Subject { name: path.display().to_string(), size, llama }, tokenizer))
}

/// The texts of a path: a file of UTF-8 is one; a folder of curated documents holds those that were held out.
fn read(path: &Path) -> Result<Vec<String>, Error> {
    if path.is_dir() {
        let inside = path.join("documents");
        let folder: PathBuf = if inside.is_dir() { inside } else { path.to_owned() };
        let mut texts = Vec::new();
        for document in corpus::documents(&folder, Split::HeldOut)? {
            texts.push(document?.text);
        }
        return Ok(texts);
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(vec![text]),
        Err(error) => Err(Error::Usage {
            message: format!("{}, byte {}: is no UTF-8", path.display(), error.utf8_error().valid_up_to()),
            hint: "--source takes files of plain text, a run, or a run's documents/".into(),
        }),
    }
}

/// Perplexities of models that cut text in other ways are no two figures of one thing.
fn refuse_other_tokens(
    texts: &[String],
    (path, tokenizer): (&Path, &Tokenizer),
    (other_path, other): (&Path, &Tokenizer),
) -> Result<(), Error> {
    let same = tokenizer.vocab_size() == other.vocab_size()
        && tokenizer.bos() == other.bos()
        && texts.iter().all(|text| tokenizer.encode(text) == other.encode(text));
    if same {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "{} and {} turn this text into other tokens, of which each has its own perplexity",
            path.display(),
            other_path.display()
        ),
        hint: "measure them one at a time and compare their bits per byte".into(),
    })
}

/// What was measured, how, and a table with a line for each model.
fn page(subjects: &[Subject], settings: Settings, report: &Report) -> String {
    let plural = |n: u64, one: &str| format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" });
    let mut text = format!(
        "{}  {} of {} ({})\n",
        "perplexity".bold(),
        plural(report.tokens, "token"),
        plural(report.documents, "text"),
        bytes(report.bytes)
    );
    let how = format!(
        "{} of up to {} inputs, the first of them <|begin_of_text|>; each but a text's first scores {} new ones; \
         ± one standard error",
        plural(report.windows, "window"),
        count(settings.context as u64),
        count(settings.stride as u64)
    );
    text.push_str(&format!("  {}\n\n", how.dimmed()));
    let compared = subjects.len() > 1;
    let mut rows =
        vec![["model", "size", "nats a token", "perplexity", "bits a byte"].map(str::to_owned).to_vec()];
    if compared {
        rows[0].extend(["of the first", "divergence", "99% below", "same top"].map(str::to_owned));
    }
    for (subject, measured) in subjects.iter().zip(&report.models) {
        let mut row = vec![
            subject.name.clone(),
            bytes(subject.size),
            with_error(measured.nats_per_token, 1.0),
            with_error(measured.perplexity, 1.0),
            with_error(measured.bits_per_byte, 1.0),
        ];
        if let Some(beside) = &measured.beside_first {
            row.extend([
                with_error(beside.ratio, 1.0),
                with_error(beside.divergence, 1.0),
                format!("{:.4}", beside.divergence_99),
                format!("{}%", with_error(beside.same_top, 100.0)),
            ]);
        } else if compared {
            row.extend(["1", "–", "–", "–"].map(str::to_owned));
        }
        rows.push(row);
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::from(" ");
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&if column == 0 { format!(" {cell:width$}") } else { format!("  {cell:>width$}") });
        }
        text.push_str(&if number == 0 { format!("{}\n", line.dimmed()) } else { format!("{line}\n") });
    }
    text
}

/// A value and its error with as many decimals as the error's second figure has: `10.44 ±0.13`.
fn with_error(estimate: Estimate, times: f64) -> String {
    let (value, error) = (estimate.value * times, estimate.standard_error * times);
    let decimals = if error > 0.0 { (1 - error.log10().floor() as i32).clamp(0, 6) as usize } else { 4 };
    format!("{value:.decimals$} ±{error:.decimals$}")
}

fn to_json(subjects: &[Subject], settings: Settings, report: &Report) -> Value {
    let models: Vec<Value> = subjects
        .iter()
        .zip(&report.models)
        .map(|(subject, measured)| {
            let mut model = json!({"model": subject.name, "bytes": subject.size});
            if let (Some(model), Value::Object(more)) = (model.as_object_mut(), json!(measured)) {
                model.extend(more);
            }
            model
        })
        .collect();
    json!({
        "eval": "perplexity",
        "version": VERSION,
        "context": settings.context,
        "stride": settings.stride,
        "begin_of_text": "first input of every window",
        "documents": report.documents,
        "windows": report.windows,
        "tokens": report.tokens,
        "bytes": report.bytes,
        "models": models,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_do_not_fit_together_are_refused_before_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let config = model::Config {
            layers: 1,
            dim: 64,
            ffn_dim: 64,
            heads: 2,
            kv_heads: 1,
            head_dim: 32,
            vocab_size: 64,
            ..model::Config::preset("1b").unwrap()
        };
        let mut random = ledger::seed::Seed(1).stream("weights", 0);
        let weights = model::Weights::init(&config, &mut random).unwrap();
        let options = model::formats::hf::SaveOptions::new(1, vec![2]);
        model::formats::hf::save(dir.path(), &weights, &options).unwrap();
        let one = 4 * weights.data.len() as u64;
        let path = dir.path();
        assert!(check_room(&[path, path], Some(2 * one)).is_ok());
        assert!(check_room(&[path, path], None).is_ok());
        let error = check_room(&[path, path], Some(2 * one - 1)).unwrap_err();
        assert!(error.hint().unwrap().contains("fewer at once"), "{error}");
        let error = check_room(&[path], Some(one - 1)).unwrap_err();
        assert!(
            error.to_string().contains("are free") && error.hint().unwrap().contains("quantised"),
            "{error}"
        );
    }

    #[test]
    fn figures_have_as_many_decimals_as_their_error_bears() {
        for (value, standard_error, wanted) in [
            (10.436, 0.13, "10.44 ±0.13"),
            (1234.5, 25.0, "1234 ±25"),
            (0.012_345, 0.000_32, "0.01235 ±0.00032"),
            (0.0, 0.0, "0.0000 ±0.0000"),
        ] {
            assert_eq!(with_error(Estimate { value, standard_error }, 1.0), wanted);
        }
    }
}
