//! Results on disk, in the shape of lm-evaluation-harness 0.4.13 (`results_<date>.json` with one `samples_<task>_<date>.jsonl`
//! a task beside it), and `generations.jsonl`. Its table and its readers take them; what is ours besides are the
//! metrics' Wilson intervals.

use crate::accuracy::{Answer, Score};
use crate::bits::BitsPerByte;
use crate::generations::Generation;
use crate::{Error, Settings};
use align::tasks::{Item, Kind};
use ledger::atomic::AtomicDir;
use ledger::digest::Digest;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

/// Raised when a generator or a check changes, so that scores of different versions are not compared.
const VERSION: f64 = 1.0;
/// The name of the task that holds bits per byte.
const HELD_OUT: &str = "held_out_documents";

/// Everything that was measured of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The model's name: `base`, `aligned`.
    pub model: String,
    /// When, RFC 3339 in UTC.
    pub date: String,
    /// On held-out documents, where there are any.
    pub bits: Option<BitsPerByte>,
    /// Accuracy by kind.
    pub scores: Vec<Score>,
    /// What it wrote.
    pub generations: Vec<Generation>,
}

impl Evaluation {
    /// The score of a kind, where it was measured.
    pub fn score(&self, kind: Kind) -> Option<&Score> {
        self.scores.iter().find(|score| score.kind == kind)
    }

    /// Writes the folder `dir` whole: results, samples of each task, generations.
    pub fn write(
        &self,
        dir: &Path,
        items: &[Item],
        answers: &[Answer],
        settings: &Settings,
    ) -> Result<(), Error> {
        let folder = AtomicDir::create(dir)?;
        let stamp = self.date.replace(':', "-");
        let results = serde_json::to_vec_pretty(&self.results(settings)).expect("results are plain JSON");
        let path = folder.path().join(format!("results_{stamp}.json"));
        write_file(&path, &results)?;
        for score in &self.scores {
            let lines = answers.iter().filter(|answer| items[answer.item].kind == score.kind);
            let lines =
                lines.enumerate().map(|(index, answer)| sample(index, &items[answer.item], answer, settings));
            let path = folder.path().join(format!("samples_{}_{stamp}.jsonl", score.kind));
            write_file(&path, &json_lines(lines))?;
        }
        let generations = self.generations.iter().map(|generation| json!(generation));
        write_file(&folder.path().join("generations.jsonl"), &json_lines(generations))?;
        Ok(folder.commit()?)
    }

    /// Reads back what [`Evaluation::write`] wrote: the newest results of the folder and the generations.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let fault = |path: &Path, reason: String| Error::Results { path: path.to_owned(), reason };
        let entries = std::fs::read_dir(dir).map_err(|error| fault(dir, error.to_string()))?;
        let newest = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("results_") && name.ends_with(".json"))
            .max()
            .ok_or_else(|| fault(dir, "there is no results_<date>.json".to_owned()))?;
        let path = dir.join(newest);
        let text = std::fs::read(&path).map_err(|error| fault(&path, error.to_string()))?;
        let results: Value =
            serde_json::from_slice(&text).map_err(|error| fault(&path, error.to_string()))?;
        let generations = dir.join("generations.jsonl");
        let text =
            std::fs::read_to_string(&generations).map_err(|error| fault(&generations, error.to_string()))?;
        let generations = text
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| fault(&generations, error.to_string())))
            .collect::<Result<_, _>>()?;
        let part = |name: &str| fault(&path, format!("{name} is missing or malformed"));
        let text = |name: &str| results[name].as_str().map(str::to_owned).ok_or_else(|| part(name));
        let mut scores = Vec::new();
        for kind in Kind::ALL {
            if let Some(accuracy) = results["results"][kind.name()]["acc,none"].as_f64() {
                let items = results["n-samples"][kind.name()]["effective"]
                    .as_u64()
                    .ok_or_else(|| part("n-samples"))?;
                scores.push(Score::new(kind, (accuracy * items as f64).round() as usize, items as usize));
            }
        }
        let bits = &results[HELD_OUT];
        let bits = (!bits.is_null())
            .then(|| serde_json::from_value(bits.clone()).map_err(|_| part(HELD_OUT)))
            .transpose()?;
        Ok(Self { model: text("model_name")?, date: text("date")?, bits, scores, generations })
    }

    fn results(&self, settings: &Settings) -> Value {
        let [mut results, mut configs, mut versions, mut shots, mut higher, mut counts, mut subtasks] =
            std::array::from_fn(|_| Map::new());
        for score in &self.scores {
            let name = score.kind.name();
            results.insert(
                name.to_owned(),
                json!({
                    "alias": name,
                    "acc,none": score.accuracy,
                    "acc_stderr,none": score.standard_error(),
                    "acc_wilson95_low,none": score.interval.low,
                    "acc_wilson95_high,none": score.interval.high,
                }),
            );
            configs.insert(
                name.to_owned(),
                json!({
                    "task": name,
                    "dataset_path": "align::tasks",
                    "test_split": "held out by ".to_owned() + score.kind.held_out_by(),
                    "output_type": "generate_until",
                    "num_fewshot": 0,
                    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": true}],
                    "generation_kwargs": generation_arguments(settings),
                    "metadata": {"version": VERSION},
                }),
            );
            higher.insert(name.to_owned(), json!({"acc": true}));
            counts.insert(name.to_owned(), json!({"original": score.items, "effective": score.items}));
        }
        if let Some(bits) = &self.bits {
            results.insert(
                HELD_OUT.to_owned(),
                json!({
                    "alias": HELD_OUT,
                    "bits_per_byte,none": bits.bits_per_byte,
                    "bits_per_byte_stderr,none": "N/A",
                    "byte_perplexity,none": bits.bits_per_byte.exp2(),
                    "byte_perplexity_stderr,none": "N/A",
                }),
            );
            configs.insert(
                HELD_OUT.to_owned(),
                json!({
                    "task": HELD_OUT,
                    "dataset_path": "tokens/heldout",
                    "output_type": "loglikelihood_rolling",
                    "num_fewshot": 0,
                    "metric_list": [
                        {"metric": "bits_per_byte", "higher_is_better": false},
                        {"metric": "byte_perplexity", "higher_is_better": false},
                    ],
                    "metadata": {"version": VERSION, "window": settings.seq_len, "stride": settings.seq_len},
                }),
            );
            higher.insert(HELD_OUT.to_owned(), json!({"bits_per_byte": false, "byte_perplexity": false}));
            counts.insert(
                HELD_OUT.to_owned(),
                json!({"original": bits.documents, "effective": bits.documents}),
            );
        }
        for name in results.keys() {
            versions.insert(name.clone(), json!(VERSION));
            shots.insert(name.clone(), json!(0));
            subtasks.insert(name.clone(), json!([]));
        }
        json!({
            "results": results,
            "group_subtasks": subtasks,
            "configs": configs,
            "versions": versions,
            "n-shot": shots,
            "higher_is_better": higher,
            "n-samples": counts,
            "config": {"model": "altiplano", "model_args": {"pretrained": self.model}, "limit": settings.items_per_kind},
            "date": self.date,
            "model_source": "altiplano",
            "model_name": self.model,
            "model_name_sanitized": self.model,
            "chat_template": "llama 3",
            HELD_OUT: self.bits,
        })
    }
}

fn generation_arguments(settings: &Settings) -> Value {
    json!({"until": ["<|eot_id|>", "<|end_of_text|>"], "do_sample": false, "temperature": 0.0, "max_gen_toks": settings.max_tokens})
}

/// A line of `samples_<task>_<date>.jsonl`.
fn sample(index: usize, item: &Item, answer: &Answer, settings: &Settings) -> Value {
    let doc = json!({
        "fact": item.fact,
        "question": item.question(),
        "reply": item.reply,
        "answer": item.answer,
        "check": item.check,
    });
    let hash = |text: &str| Digest::of_bytes(text.as_bytes());
    json!({
        "doc_id": index,
        "target": item.answer,
        "arguments": {"gen_args_0": {"arg_0": answer.prompt, "arg_1": generation_arguments(settings)}},
        "resps": [[answer.reply]],
        "filtered_resps": [answer.reply],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": hash(&doc.to_string()),
        "prompt_hash": hash(&answer.prompt),
        "target_hash": hash(&item.answer),
        "acc": if answer.right { 1.0 } else { 0.0 },
        "doc": doc,
    })
}

fn json_lines(lines: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend(line.to_string().into_bytes());
        text.push(b'\n');
    }
    text
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || std::fs::File::create(path).and_then(|mut file| file.write_all(bytes));
    write().map_err(|error| Error::Results { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
