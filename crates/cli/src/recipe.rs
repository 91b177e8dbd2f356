//! A recipe: every crate's settings in one TOML file, each section owned by the crate that it configures.
//! Parsed to the typed form once, with all faults and their places; nothing downstream checks again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::errors::Error;

/// Everything that decides what a run becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The one dial: `nano` to `405b`.
    pub size: String,
    /// What everything random follows from.
    pub seed: u64,
    /// What is read: `registry`, folders, files, globs.
    pub sources: Vec<String>,
    /// Curation.
    pub curate: corpus::Settings,
    /// The tokenizer's training.
    pub tokenizer: TokenizerSettings,
    /// Pretraining.
    pub train: train::Settings,
    /// Tuning.
    pub sft: align::Settings,
    /// Evaluation.
    pub eval: evals::Settings,
    /// Inference, as the evaluation uses it.
    pub engine: engine::Settings,
    /// The server: bounds and defaults.
    pub serve: serve::Settings,
}

/// The section `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerSettings {
    /// A tokenizer that is there already, which is taken instead of training one: a run, a folder, a `tokenizer.json` or a
    /// `tokenizer.model` of Llama 3's form. The vocabulary's size is then its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Size of the vocabulary with its 256 special tokens; absent: what the size says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// A pair of tokens that occurs less often is not merged.
    pub minimum_pair_count: u64,
    /// Whether digits are merged into tokens of two and three; absent: from 32,768 tokens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_digits: Option<bool>,
    /// At most this many bytes of curated text are read; a vocabulary settles long before a corpus ends.
    pub max_bytes: u64,
}

impl Default for TokenizerSettings {
    fn default() -> Self {
        Self { path: None, vocab_size: None, minimum_pair_count: 2, merge_digits: None, max_bytes: 64 << 20 }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            size: "tiny".to_owned(),
            seed: 42,
            sources: vec!["registry".to_owned()],
            curate: corpus::Settings::default(),
            tokenizer: TokenizerSettings::default(),
            train: train::Settings::default(),
            sft: align::Settings::default(),
            eval: evals::Settings::default(),
            engine: engine::Settings::default(),
            serve: serve::Settings::default(),
        }
    }
}

/// What a person gave: a sparse recipe, from a file and from options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    table: toml::Table,
}

impl Given {
    /// Reads a recipe file, if any, and applies `key=value` settings in their order.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the file and line, or the setting, and what is wrong there.
    pub fn load(file: Option<&Path>, set: &[String]) -> Result<Self, Error> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            parse(path, &text)?;
            table = toml::from_str(&text).map_err(|error| fault(path, &text, &error))?;
        }
        for setting in set {
            put(&mut table, setting)?;
            // Checked one by one, so that the message names the one that is wrong.
            Recipe::deserialize(table.clone()).map_err(|error: toml::de::Error| Error::Recipe {
                message: format!("--set {setting}: {}", error.message().trim()),
                hint: hint(&error, "the run's resolved.toml shows every section and key with its value"),
            })?;
        }
        Ok(Self { table })
    }

    /// Everything that was not given at its default, and all of it checked.
    pub fn recipe(&self) -> Result<Recipe, Error> {
        let recipe = self.recipe_unchecked()?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// [`Given::recipe`] without the check of the values.
    pub fn recipe_unchecked(&self) -> Result<Recipe, Error> {
        Recipe::deserialize(self.table.clone()).map_err(|error| Error::Recipe {
            message: error.message().trim().to_owned(),
            hint: "the run's resolved.toml shows every section and key with its value".to_owned(),
        })
    }

    /// What was given, as a recipe that gives it again.
    pub fn to_toml(&self) -> Result<String, Error> {
        to_toml(&self.table)
    }
}

impl Recipe {
    /// All faults of all sections at once.
    ///
    /// # Errors
    /// [`Error::Recipe`] with a line a section.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut check = |outcome: Result<(), Error>| {
            if let Err(error) = outcome {
                faults.push(error.to_string());
            }
        };
        check(self.curate.validate().map_err(Error::from));
        check(self.train.validate().map_err(Error::from));
        check(self.sft.validate().map_err(Error::from));
        check(self.eval.validate().map_err(Error::from));
        check(self.engine.validate().map_err(Error::from));
        check(self.serve.validate().map_err(Error::from));
        if self.tokenizer.vocab_size.is_some_and(|size| size < 512) {
            faults.push(
                "[tokenizer] vocab_size is below 512: 256 bytes and 256 special tokens are the least"
                    .to_owned(),
            );
        }
        if self.tokenizer.path.is_some() && self.tokenizer.vocab_size.is_some() {
            faults.push(
                "[tokenizer] vocab_size is that of the tokenizer at path: leave one of them out".to_owned(),
            );
        }
        if self.sources.is_empty() {
            faults.push("sources is empty".to_owned());
        }
        if faults.is_empty() {
            return Ok(());
        }
        let hint = "correct these values in the recipe or with --set".to_owned();
        Err(Error::Recipe { message: faults.join("\n       "), hint })
    }

    /// The recipe with the numbers that the size decided written out.
    pub fn resolved(&self, plan: &train::Plan) -> Self {
        let mut all = self.clone();
        if self.tokenizer.path.is_none() {
            all.tokenizer.vocab_size = Some(self.tokenizer.vocab_size.unwrap_or(plan.model.vocab_size));
        }
        all.train.tokens = Some(train::quantity::Tokens(plan.tokens));
        all.train.rows = Some(plan.rows);
        all.train.seq_len = Some(plan.seq_len);
        all.train.accumulation = Some(plan.accumulation);
        all.train.learning_rate = Some(plan.learning_rate);
        all.train.warmup_fraction = Some(plan.warmup_fraction);
        // Settings without a plan are refused before a run begins.
        if let Ok(sft) = self.sft.plan(&plan.model) {
            all.sft.tokens = Some(train::quantity::Tokens(sft.tokens()));
            all.sft.rows = Some(sft.rows);
            all.sft.seq_len = Some(sft.seq_len);
            all.sft.learning_rate = Some(sft.schedule.peak);
        }
        all
    }

    /// The recipe as TOML with every value.
    pub fn to_toml(&self) -> Result<String, Error> {
        to_toml(self)
    }
}

fn to_toml(value: &impl Serialize) -> Result<String, Error> {
    toml::to_string_pretty(value).map_err(|error| Error::Recipe {
        message: format!("the settings have no TOML form: {error}"),
        hint: "a number beyond 2^63 is the usual reason".to_owned(),
    })
}

fn parse(path: &Path, text: &str) -> Result<Recipe, Error> {
    toml::from_str(text).map_err(|error| fault(path, text, &error))
}

/// `recipes/x.toml:3: unknown field …` with the line itself below.
fn fault(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text[..start].matches('\n').count();
    let shown = text.lines().nth(line).unwrap_or_default().trim_end();
    Error::Recipe {
        message: format!("{}:{}: {}\n       | {shown}", path.display(), line + 1, error.message().trim()),
        hint: hint(error, "recipes/ has examples; a run's resolved.toml shows every section and key"),
    }
}

/// The known key that an unknown one was probably meant to be, else what helps in general.
fn hint(error: &toml::de::Error, general: &str) -> String {
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let meant = error.message().contains("unknown field").then(|| {
        let given = quoted.next()?;
        let near = quoted.map(|known| (edits(given, known), known)).min()?;
        (near.0 <= given.chars().count().div_ceil(3)).then_some(near.1)
    });
    meant.flatten().map_or_else(|| general.to_owned(), |known| format!("did you mean `{known}`?"))
}

/// How many letters must be changed, added or left out to make one word of the other (Levenshtein 1966).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// Puts `a.b=c` into the table. `c` is TOML if it reads as such, else text.
fn put(table: &mut toml::Table, setting: &str) -> Result<(), Error> {
    let wrong = |reason: &str| Error::Recipe {
        message: format!("--set {setting}: {reason}"),
        hint: "write it as section.key=value, such as --set train.learning_rate=0.001".to_owned(),
    };
    let (key, value) = setting.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let value = value.trim();
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .filter(|parsed| parsed.len() == 1)
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let (last, sections) = parts.split_last().ok_or_else(|| wrong("the key is empty"))?;
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong("a part of the key is empty"));
    }
    let mut here = table;
    for section in sections {
        here = here
            .entry(*section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| wrong(&format!("`{section}` is a value, not a section")))?;
    }
    here.insert((*last).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_the_round_trip() {
        let recipe = Recipe::default();
        recipe.validate().unwrap();
        let text = recipe.to_toml().unwrap();
        assert_eq!(parse(Path::new("x"), &text).unwrap(), recipe, "{text}");
        assert_eq!(parse(Path::new("x"), "").unwrap(), recipe);
    }

    #[test]
    fn what_the_size_decides_is_written_out() {
        let recipe = Recipe::default();
        let plan = recipe.train.plan("tiny".parse().unwrap()).unwrap();
        let resolved = recipe.resolved(&plan);
        assert_eq!(resolved.train.tokens, Some(train::quantity::Tokens(plan.tokens)));
        let sft = recipe.sft.plan(&plan.model).unwrap();
        assert_eq!(resolved.sft.tokens, Some(train::quantity::Tokens(sft.tokens())));
        // Written out, the numbers give the same plans.
        assert_eq!(resolved.sft.plan(&plan.model).unwrap(), sft);
        assert_eq!(resolved.train.plan("tiny".parse().unwrap()).unwrap(), plan);
    }

    #[test]
    fn a_wrong_key_is_named_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        for (text, line, word) in [
            ("size = \"nano\"\n\n[tokenizer]\nvocab = 3\n", 4, "vocab"),
            ("seed = 1\nsed = 2\n", 2, "sed"),
            ("seed = \"x\"\n", 1, "invalid type"),
            ("[curate\n", 1, "["),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = Given::load(Some(&path), &[]).unwrap_err().to_string();
            assert!(message.contains(&format!("mine.toml:{line}:")) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn settings_override_the_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "seed = 1\n[tokenizer]\nvocab_size = 600\n").unwrap();
        let set = [
            "tokenizer.vocab_size=700",
            "size=small",
            "tokenizer.vocab_size = 800",
            "sources=[\"a\", \"b\"]",
        ];
        let given = Given::load(Some(&path), &set.map(str::to_owned)).unwrap();
        let recipe = given.recipe().unwrap();
        assert_eq!(toml::from_str::<Recipe>(&given.to_toml().unwrap()).unwrap(), recipe);
        assert_eq!((recipe.seed, recipe.size.as_str(), recipe.tokenizer.vocab_size), (1, "small", Some(800)));
        assert_eq!(recipe.sources, ["a", "b"]);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (setting, word) in [
            ("seed", "no `=`"),
            ("tokenizer.vocab=3", "unknown field"),
            ("seed.x=3", "seed"),
            ("seed=many", "invalid type"),
            ("a..b=1", "empty"),
        ] {
            let message = Given::load(None, &[setting.to_owned()]).unwrap_err().to_string();
            assert!(message.contains(setting) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_typo_is_answered_with_the_key_that_was_meant() {
        for (setting, wanted) in [
            ("train.learning_rat=1", "did you mean `learning_rate`?"),
            ("trian.rows=1", "did you mean `train`?"),
            ("train.itemsperkind=1", "resolved.toml"),
            ("eval.itemsperkind=1", "did you mean `items_per_kind`?"),
            ("seed=many", "resolved.toml"),
        ] {
            let hint = Given::load(None, &[setting.to_owned()]).unwrap_err().hint().unwrap();
            assert!(hint.contains(wanted), "{setting}: {hint}");
        }
        assert_eq!([edits("", "ab"), edits("kitten", "sitting"), edits("same", "same")], [2, 3, 0]);
    }
}
