//! The recipe's `[curate]` section: every threshold of every rule, with the published value as default.
//! It holds no behaviour beyond its own validation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

mod filters;
mod semantic;

pub use filters::{DirtyWords, LineDedup, Nsfw, RemovedSamples, Scrub, TokenDistribution, TokenUnit, Url};
pub use semantic::{KeepSimilar, Pooling, Semantic};

/// The section `[curate]`. Unknown keys are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where cargo keeps unpacked crates; by default `$CARGO_HOME/registry/src`, else `~/.cargo/registry/src`.
    pub registry: Option<String>,
    /// Read files and folders whose name begins with a dot.
    pub include_hidden: bool,
    /// Plain text files are cut at blank lines into documents of about this many bytes, so that a book does
    /// not fall to the word limit and no file need fit in memory.
    pub text_part_bytes: u64,
    /// Longer single documents (a page, a code file, a line of JSONL, a WARC record) are skipped.
    pub max_input_document_bytes: u64,
    /// Keep at most this many documents, chosen by hash; none for all.
    pub max_documents: Option<u64>,
    /// Keep at most this many bytes of text, chosen by hash; none for all.
    pub max_bytes: Option<u64>,
    /// Bytes of text in one Parquet file of the output.
    pub shard_bytes: u64,
    /// Blocked domains, addresses and words in addresses.
    pub url: Url,
    /// Language rules.
    pub language: Language,
    /// Gopher's quality rules.
    pub gopher_quality: GopherQuality,
    /// Gopher's repetition rules.
    pub gopher_repetition: GopherRepetition,
    /// C4's rules.
    pub c4: C4,
    /// FineWeb's own rules.
    pub fineweb: FineWeb,
    /// Dirty words by their count and share.
    pub dirty_words: DirtyWords,
    /// The threshold on a score for what is not safe for work.
    pub nsfw: Nsfw,
    /// Rules for source code, which replace all of those for prose.
    pub code: Code,
    /// Replacement of personal data and secrets.
    pub scrub: Scrub,
    /// Overlap with the evaluation texts.
    pub decontaminate: Decontaminate,
    /// Removal of all but one document of an address.
    pub url_dedup: UrlDedup,
    /// Removal of all but one document of a text.
    pub exact_dedup: ExactDedup,
    /// Near-duplicate removal.
    pub minhash: MinHash,
    /// Removal of runs of words that stand before in the corpus.
    pub substring: Substring,
    /// Frequent lines.
    pub line_dedup: LineDedup,
    /// Outliers by their distribution of tokens.
    pub token_distribution: TokenDistribution,
    /// Removal of documents that mean the same as another one.
    pub semantic: Semantic,
    /// The held-out split.
    pub held_out: HeldOut,
    /// Which removed documents can be read afterwards.
    pub removed: RemovedSamples,
    /// Classifiers whose scores are written into the documents, by the name of the column `score_NAME`.
    pub classifiers: BTreeMap<String, Classifier>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            registry: None,
            include_hidden: false,
            text_part_bytes: 256 << 10,
            max_input_document_bytes: 32 << 20,
            max_documents: None,
            max_bytes: None,
            shard_bytes: 256 << 20,
            url: Url::default(),
            language: Language::default(),
            gopher_quality: GopherQuality::default(),
            gopher_repetition: GopherRepetition::default(),
            c4: C4::default(),
            fineweb: FineWeb::default(),
            dirty_words: DirtyWords::default(),
            nsfw: Nsfw::default(),
            code: Code::default(),
            scrub: Scrub::default(),
            decontaminate: Decontaminate::default(),
            url_dedup: UrlDedup::default(),
            exact_dedup: ExactDedup::default(),
            minhash: MinHash::default(),
            substring: Substring::default(),
            line_dedup: LineDedup::default(),
            token_distribution: TokenDistribution::default(),
            semantic: Semantic::default(),
            held_out: HeldOut::default(),
            removed: RemovedSamples::default(),
            classifiers: BTreeMap::new(),
        }
    }
}

/// Which natural languages stay. Source code has none and is not touched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Language {
    /// ISO 639-1 codes to keep; empty keeps all.
    pub keep: Vec<String>,
    /// Least confidence of the detector, 0 to 1, asked of a document when `keep` is given.
    pub min_score: f64,
}

/// Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", section A1.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GopherQuality {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Fewest words with a letter or digit.
    pub min_words: u64,
    /// Most words with a letter or digit.
    pub max_words: u64,
    /// Least mean word length in characters; not asked of scripts written without spaces.
    pub min_mean_word_length: f64,
    /// Greatest mean word length in characters; not asked of scripts written without spaces.
    pub max_mean_word_length: f64,
    /// Most hash signs, and most ellipses, to a word; hash signs are not counted in Markdown, where they head.
    pub max_symbol_to_word_ratio: f64,
    /// Greatest fraction of lines that begin with a bullet.
    pub max_bullet_line_fraction: f64,
    /// Greatest fraction of lines that end with an ellipsis.
    pub max_ellipsis_line_fraction: f64,
    /// Least fraction of words with a letter.
    pub min_alphabetic_word_fraction: f64,
    /// Fewest distinct words of {the, be, to, of, and, that, have, with}; asked of English only.
    pub min_stop_words: u64,
}

impl Default for GopherQuality {
    fn default() -> Self {
        GopherQuality {
            enabled: true,
            min_words: 50,
            max_words: 100_000,
            min_mean_word_length: 3.0,
            max_mean_word_length: 10.0,
            max_symbol_to_word_ratio: 0.1,
            max_bullet_line_fraction: 0.9,
            max_ellipsis_line_fraction: 0.3,
            min_alphabetic_word_fraction: 0.8,
            min_stop_words: 2,
        }
    }
}

/// Rae et al. 2021, table A1: fractions of a document that may lie in repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GopherRepetition {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Fraction of lines that repeat an earlier line.
    pub max_duplicate_line_fraction: f64,
    /// Fraction of paragraphs that repeat an earlier paragraph.
    pub max_duplicate_paragraph_fraction: f64,
    /// Fraction of the text inside repeated lines.
    pub max_duplicate_line_character_fraction: f64,
    /// Fraction of the text inside repeated paragraphs.
    pub max_duplicate_paragraph_character_fraction: f64,
    /// Fraction of the text inside the most frequent 2-, 3- and 4-gram.
    pub max_top_ngram_fractions: [f64; 3],
    /// Fraction of the text inside repeated 5- to 10-grams.
    pub max_duplicate_ngram_fractions: [f64; 6],
}

impl Default for GopherRepetition {
    fn default() -> Self {
        GopherRepetition {
            enabled: true,
            max_duplicate_line_fraction: 0.30,
            max_duplicate_paragraph_fraction: 0.30,
            max_duplicate_line_character_fraction: 0.20,
            max_duplicate_paragraph_character_fraction: 0.20,
            max_top_ngram_fractions: [0.20, 0.18, 0.16],
            max_duplicate_ngram_fractions: [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        }
    }
}

/// Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2, without the rule on terminal
/// punctuation, which FineWeb found to cost too much. Applied to web pages only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct C4 {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Fewest sentences left after the line rules.
    pub min_sentences: u64,
    /// Lines with fewer words are dropped.
    pub min_words_per_line: u64,
    /// Lines with a longer word, in characters, are dropped.
    pub max_word_length: u64,
    /// Remove pages with the filler text "lorem ipsum".
    pub remove_lorem_ipsum: bool,
    /// Remove pages with an opening curly bracket.
    pub remove_curly_bracket: bool,
    /// Drop lines that mention JavaScript.
    pub drop_javascript_lines: bool,
    /// Drop lines about cookies, privacy policies and terms of use.
    pub drop_policy_lines: bool,
}

impl Default for C4 {
    fn default() -> Self {
        C4 {
            enabled: true,
            min_sentences: 5,
            min_words_per_line: 3,
            max_word_length: 1000,
            remove_lorem_ipsum: true,
            remove_curly_bracket: true,
            drop_javascript_lines: true,
            drop_policy_lines: true,
        }
    }
}

/// Penedo et al. 2024, "The FineWeb Datasets", section 3.6. Applied to web pages and plain text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FineWeb {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Least fraction of lines that end with punctuation.
    pub min_punctuated_line_fraction: f64,
    /// Greatest fraction of the text inside repeated lines.
    pub max_duplicate_line_character_fraction: f64,
    /// Greatest fraction of lines of at most `short_line_characters`.
    pub max_short_line_fraction: f64,
    /// What counts as a short line, in characters.
    pub short_line_characters: u64,
    /// Most line breaks to a word.
    pub max_newline_to_word_ratio: f64,
}

impl Default for FineWeb {
    fn default() -> Self {
        FineWeb {
            enabled: true,
            min_punctuated_line_fraction: 0.12,
            max_duplicate_line_character_fraction: 0.1,
            max_short_line_fraction: 0.67,
            short_line_characters: 30,
            max_newline_to_word_ratio: 0.3,
        }
    }
}

/// Code rules of Codex (Chen et al. 2021), The Stack (Kocetkov et al. 2022), StarCoder (Li et al. 2023) and
/// RedPajama (2023).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Code {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Smallest file in bytes, blanks at both ends not counted.
    pub min_bytes: u64,
    /// Largest file in bytes (The Stack: 1 MB).
    pub max_bytes: u64,
    /// Longest line in characters (Codex, The Stack, RedPajama).
    pub max_line_characters: u64,
    /// Greatest mean line length in characters (Codex, The Stack, RedPajama).
    pub max_mean_line_characters: f64,
    /// Least fraction of letters and digits among all characters (Codex, The Stack, RedPajama).
    pub min_alphanumeric_fraction: f64,
    /// Least fraction of letters (StarCoder's alpha filter).
    pub min_alphabetic_fraction: f64,
    /// Least fraction of letters in JSON, YAML and the like (StarCoder).
    pub data_min_alphabetic_fraction: f64,
    /// Most characters in JSON, YAML and the like (StarCoder).
    pub data_max_characters: u64,
    /// Remove files that say in their first lines that a program wrote them (Codex, The Stack).
    pub remove_generated: bool,
    /// Remove files with `<?xml version=` near their start that are not XML by name (StarCoder).
    pub remove_xml: bool,
    /// Greatest fraction of the text inside base64, hexadecimal or numeric runs of data (StarCoder2).
    pub max_encoded_data_fraction: f64,
}

impl Default for Code {
    fn default() -> Self {
        Code {
            enabled: true,
            min_bytes: 50,
            max_bytes: 1 << 20,
            max_line_characters: 1000,
            max_mean_line_characters: 100.0,
            min_alphanumeric_fraction: 0.25,
            min_alphabetic_fraction: 0.25,
            data_min_alphabetic_fraction: 0.5,
            data_max_characters: 5000,
            remove_generated: true,
            remove_xml: true,
            max_encoded_data_fraction: 0.5,
        }
    }
}

/// Overlap with evaluation texts (Brown et al. 2020, appendix C).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decontaminate {
    /// Whether documents are compared with the evaluation texts.
    pub enabled: bool,
    /// Words in a row that count as an overlap.
    pub ngram_words: u64,
    /// A shorter evaluation text counts if it stands whole in the document and has at least so many words;
    /// below that, only if it is the whole document.
    pub short_min_words: u64,
}

impl Default for Decontaminate {
    fn default() -> Self {
        Decontaminate { enabled: true, ngram_words: 13, short_min_words: 8 }
    }
}

/// One document an address (Llama Team 2024, "The Llama 3 Herd of Models", section 3.1.1: the most recent version of each
/// page stays).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UrlDedup {
    /// Whether documents of the same address are removed.
    pub enabled: bool,
    /// Which one stays.
    pub keep: KeepUrl,
    /// Ask it of lines of JSONL and rows of Parquet too, not of web pages alone. Not for sources whose documents are
    /// parts of one address.
    pub tables: bool,
}

/// Which of several documents of an address stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepUrl {
    /// The one with the most bytes of text; of equal ones the first.
    Longest,
    /// The one with the latest date; of equal ones the first. Without a date counts as earliest.
    Last,
}

impl Default for UrlDedup {
    fn default() -> Self {
        UrlDedup { enabled: true, keep: KeepUrl::Last, tables: false }
    }
}

/// The same text but for case and white space: the first stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactDedup {
    /// Whether documents of the same text are removed.
    pub enabled: bool,
}

impl Default for ExactDedup {
    fn default() -> Self {
        ExactDedup { enabled: true }
    }
}

/// MinHash near-duplicates with the parameters of FineWeb (14 bands of 8 rows, 5-grams of words).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinHash {
    /// Whether near-duplicates are removed.
    pub enabled: bool,
    /// Bands; a pair that agrees on all rows of any one band is compared.
    pub bands: u64,
    /// Rows a band.
    pub rows: u64,
    /// Words in a shingle.
    pub ngram_words: u64,
    /// Least Jaccard similarity, estimated from the whole signature, of two documents that count as the same.
    /// 0 joins every pair that shares a band, as FineWeb does.
    pub min_similarity: f64,
}

impl Default for MinHash {
    fn default() -> Self {
        MinHash { enabled: true, bands: 14, rows: 8, ngram_words: 5, min_similarity: 0.7 }
    }
}

/// Exact substrings (Lee et al. 2021, "Deduplicating Training Data Makes Language Models Better", section 4.1), with words in
/// place of tokens. Not asked of code and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Substring {
    /// Whether repeated runs are cut out of documents.
    pub enabled: bool,
    /// Words of the shortest run that counts as repeated.
    pub min_words: u64,
}

impl Default for Substring {
    fn default() -> Self {
        Substring { enabled: false, min_words: 50 }
    }
}

/// The documents set aside for evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeldOut {
    /// Fraction of the documents, by hash of their text. With a fraction above 0 and two or more documents, at
    /// least one is held out.
    pub fraction: f64,
    /// Most bytes of text.
    pub max_bytes: u64,
}

impl Default for HeldOut {
    fn default() -> Self {
        HeldOut { fraction: 0.01, max_bytes: 8 << 20 }
    }
}

/// A classifier (see [`crate::classifier`]) and what its score does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// The folder that `alti curate classifier train` wrote, or a `.bin` of fastText's.
    pub path: String,
    /// The label whose probability is the score. By default the one that the folder names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Which documents are scored; the others keep an empty score and stay.
    #[serde(default)]
    pub scores: Scored,
    /// Remove documents with a lower score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f64>,
    /// Remove documents with a higher score, for what is not wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_score: Option<f64>,
    /// Keep a document if a number drawn from the Pareto distribution of this exponent (Lomax's form, from 0 on) is above
    /// one less its score: nearly all of the best and a few of the rest (Brown et al. 2020, appendix A, with 9). The
    /// draw follows from the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pareto_alpha: Option<f64>,
}

/// Which documents a classifier scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scored {
    /// Text, Markdown and pages.
    #[default]
    Prose,
    /// Source code and data.
    Code,
    /// All.
    All,
}

impl Settings {
    /// Checks every value and reports all faults at once.
    ///
    /// # Errors
    /// [`Error::Settings`] with one sentence a fault.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut fraction = |name: &str, value: f64| {
            if !(0.0..=1.0).contains(&value) {
                faults.push(format!("{name} = {value} is not between 0 and 1"));
            }
        };
        let (quality, repetition) = (&self.gopher_quality, &self.gopher_repetition);
        fraction("language.min_score", self.language.min_score);
        fraction("gopher_quality.max_bullet_line_fraction", quality.max_bullet_line_fraction);
        fraction("gopher_quality.max_ellipsis_line_fraction", quality.max_ellipsis_line_fraction);
        fraction("gopher_quality.min_alphabetic_word_fraction", quality.min_alphabetic_word_fraction);
        fraction("gopher_repetition.max_duplicate_line_fraction", repetition.max_duplicate_line_fraction);
        fraction(
            "gopher_repetition.max_duplicate_paragraph_fraction",
            repetition.max_duplicate_paragraph_fraction,
        );
        fraction(
            "gopher_repetition.max_duplicate_line_character_fraction",
            repetition.max_duplicate_line_character_fraction,
        );
        fraction(
            "gopher_repetition.max_duplicate_paragraph_character_fraction",
            repetition.max_duplicate_paragraph_character_fraction,
        );
        for value in repetition.max_top_ngram_fractions {
            fraction("gopher_repetition.max_top_ngram_fractions", value);
        }
        for value in repetition.max_duplicate_ngram_fractions {
            fraction("gopher_repetition.max_duplicate_ngram_fractions", value);
        }
        fraction("fineweb.min_punctuated_line_fraction", self.fineweb.min_punctuated_line_fraction);
        fraction(
            "fineweb.max_duplicate_line_character_fraction",
            self.fineweb.max_duplicate_line_character_fraction,
        );
        fraction("fineweb.max_short_line_fraction", self.fineweb.max_short_line_fraction);
        fraction("code.min_alphanumeric_fraction", self.code.min_alphanumeric_fraction);
        fraction("code.min_alphabetic_fraction", self.code.min_alphabetic_fraction);
        fraction("code.data_min_alphabetic_fraction", self.code.data_min_alphabetic_fraction);
        fraction("code.max_encoded_data_fraction", self.code.max_encoded_data_fraction);
        fraction("minhash.min_similarity", self.minhash.min_similarity);
        fraction("held_out.fraction", self.held_out.fraction);
        fraction("dirty_words.max_fraction", self.dirty_words.max_fraction);
        fraction("nsfw.max_score", self.nsfw.max_score);
        fraction("removed.fraction", self.removed.fraction);
        for (name, classifier) in &self.classifiers {
            for (key, value) in [("min_score", classifier.min_score), ("max_score", classifier.max_score)] {
                fraction(&format!("classifiers.{name}.{key}"), value.unwrap_or(0.0));
            }
        }

        let mut ratio = |name: &str, value: f64| {
            if !(value.is_finite() && value >= 0.0) {
                faults.push(format!("{name} = {value} is not a number of at least 0"));
            }
        };
        ratio("gopher_quality.min_mean_word_length", quality.min_mean_word_length);
        ratio("gopher_quality.max_mean_word_length", quality.max_mean_word_length);
        ratio("gopher_quality.max_symbol_to_word_ratio", quality.max_symbol_to_word_ratio);
        ratio("fineweb.max_newline_to_word_ratio", self.fineweb.max_newline_to_word_ratio);
        ratio("token_distribution.max_divergence", self.token_distribution.max_divergence);
        ratio("code.max_mean_line_characters", self.code.max_mean_line_characters);
        for (name, classifier) in &self.classifiers {
            ratio(&format!("classifiers.{name}.pareto_alpha"), classifier.pareto_alpha.unwrap_or(0.0));
        }

        let mut range = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(format!("{name} = {value} is not between {least} and {most}"));
            }
        };
        range("text_part_bytes", self.text_part_bytes, 1 << 10, 64 << 20);
        range("max_input_document_bytes", self.max_input_document_bytes, 1 << 10, 512 << 20);
        range("shard_bytes", self.shard_bytes, 1 << 10, 1 << 40);
        range("minhash.bands", self.minhash.bands, 1, 256);
        range("minhash.rows", self.minhash.rows, 1, 64);
        range("minhash.ngram_words", self.minhash.ngram_words, 1, 64);
        range("substring.min_words", self.substring.min_words, 10, 10_000);
        range("decontaminate.ngram_words", self.decontaminate.ngram_words, 2, 64);
        range(
            "decontaminate.short_min_words",
            self.decontaminate.short_min_words,
            1,
            self.decontaminate.ngram_words,
        );
        range("url.min_soft_words", self.url.min_soft_words, 1, 1000);
        range("line_dedup.bucket_documents", self.line_dedup.bucket_documents, 1, 1 << 40);
        range("line_dedup.max_occurrences", self.line_dedup.max_occurrences, 1, 1 << 32);
        range("token_distribution.places", self.token_distribution.places, 1 << 8, 1 << 26);
        range("removed.max_text_bytes", self.removed.max_text_bytes, 0, 1 << 20);
        if !self.token_distribution.places.is_power_of_two() {
            faults.push(format!(
                "token_distribution.places = {} is no power of two",
                self.token_distribution.places
            ));
        }
        faults.extend(self.semantic.faults());
        for language in self.dirty_words.files.keys().filter(|language| *language != "all") {
            if !crate::steps::language::is_known_code(language) {
                faults
                    .push(format!("dirty_words.files names {language:?}, which is neither `all` nor known"));
            }
        }
        for name in self.classifiers.keys() {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(letter) {
                faults
                    .push(format!("classifiers.{name} is no name of a column: small letters, digits and _"));
            }
        }
        for language in &self.language.keep {
            if !crate::steps::language::is_known_code(language) {
                faults.push(format!("language.keep names {language:?}, which the detector does not know"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }

    /// The files and folders that the settings name: what they hold decides too what comes out.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        if self.url.enabled {
            files.extend(self.url.domain_files.iter().chain(&self.url.address_files).map(String::as_str));
        }
        if self.dirty_words.enabled || self.nsfw.enabled {
            files.extend(self.dirty_words.files.values().map(String::as_str));
        }
        if self.token_distribution.enabled {
            files.extend(self.token_distribution.tokenizer.as_deref());
        }
        files.extend(self.classifiers.values().map(|classifier| classifier.path.as_str()));
        files
    }
    /// Lets `change` write another path in the place of each that [`Settings::files`] may name.
    pub(crate) fn each_file(&mut self, mut change: impl FnMut(&mut String)) {
        self.url.domain_files.iter_mut().chain(&mut self.url.address_files).for_each(&mut change);
        self.dirty_words.files.values_mut().for_each(&mut change);
        self.token_distribution.tokenizer.iter_mut().for_each(&mut change);
        self.classifiers.values_mut().for_each(|classifier| change(&mut classifier.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_a_round_trip() {
        let defaults = Settings::default();
        defaults.validate().unwrap();
        let text = toml::to_string(&defaults).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), defaults);
        assert_eq!(toml::from_str::<Settings>("").unwrap(), defaults);
    }

    #[test]
    fn unknown_keys_are_rejected_and_all_faults_are_reported() {
        assert!(toml::from_str::<Settings>("min_words = 3").is_err());
        assert!(toml::from_str::<Settings>("[gopher_quality]\nmin_word = 3").is_err());
        let text = "[held_out]\nfraction = 1.5\n[minhash]\nbands = 0\n[language]\nkeep = ['en', 'xx']";
        match toml::from_str::<Settings>(text).unwrap().validate() {
            Err(Error::Settings { faults }) => assert_eq!(faults.len(), 3, "{faults:?}"),
            other => panic!("{other:?}"),
        }
    }
}
