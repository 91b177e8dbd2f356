//! Counts dirty words, as Llama 3 does to find adult pages that no list of domains has (Llama Team 2024, section 3.1.1, after
//! C4's list, Raffel et al. 2020), and judges documents by their count and share. Words are compared whole and in lower
//! case; in scripts written without spaces an entry is found wherever its characters stand in a row, as in C4.

use std::sync::Arc;

use arrow_array::{Array, Float64Array, RecordBatch};
use rustc_hash::{FxHashMap, FxHashSet};

use super::measure::{self, Bound, Measure};
use super::words::token_hashes;
use super::{Removed, Step, Verdict, lists, nsfw};
use crate::batch::{self, Rows};
use crate::kind::Class;
use crate::{Error, settings};

const NAME: &str = "dirty_words";

/// What a text has of the words that apply to its language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its words, each character of an unspaced script for one.
    pub words: u64,
    /// Occurrences of entries.
    pub dirty: u64,
    /// Words inside those.
    pub dirty_words: u64,
}

/// Entries by the hash of their first word.
type Entries = FxHashMap<u64, Vec<Box<[u64]>>>;

/// The lists, ready to be looked up.
pub struct Lists {
    all: Entries,
    by_language: FxHashMap<String, Entries>,
}

impl Lists {
    /// The lists that the settings name.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::List`] when one cannot be read.
    pub fn new(settings: &settings::DirtyWords) -> Result<Arc<Lists>, Error> {
        let mut found: FxHashMap<String, FxHashSet<String>> = FxHashMap::default();
        if settings.builtin {
            for name in lists::builtin_names().filter(|name| !name.starts_with("url-")) {
                found.entry(name.to_string()).or_default().extend(lists::builtin(name));
            }
        }
        for (language, file) in &settings.files {
            found.entry(language.clone()).or_default().extend(lists::read(file)?);
        }
        let mut by_language: FxHashMap<String, Entries> = FxHashMap::default();
        for (language, words) in found {
            let entries = by_language.entry(language).or_default();
            for word in words {
                let mut hashes = Vec::new();
                token_hashes(&word, false, |hash| hashes.push(hash));
                if let Some((first, rest)) = hashes.split_first() {
                    let others = entries.entry(*first).or_default();
                    if !others.iter().any(|other| **other == *rest) {
                        others.push(rest.into());
                    }
                }
            }
            // Of two entries that begin alike the longer one counts.
            entries.values_mut().for_each(|others| others.sort_by_key(|rest| std::cmp::Reverse(rest.len())));
        }
        Ok(Arc::new(Lists { all: by_language.remove("all").unwrap_or_default(), by_language }))
    }

    /// Counts the words of a text in this language; an unknown language has the list of all alone.
    pub fn count(&self, text: &str, language: Option<&str>) -> Counts {
        let own = language.and_then(|language| self.by_language.get(language));
        let mut hashes = Vec::with_capacity(text.len() / 5);
        token_hashes(text, false, |hash| hashes.push(hash));
        let mut counts = Counts { words: hashes.len() as u64, ..Counts::default() };
        let mut at = 0;
        while let Some(&hash) = hashes.get(at) {
            let rest = &hashes[at + 1..];
            let longest = [Some(&self.all), own].into_iter().flatten().filter_map(|entries| {
                entries.get(&hash)?.iter().find(|entry| rest.starts_with(entry)).map(|entry| entry.len() + 1)
            });
            let length = longest.max().unwrap_or(0);
            counts.dirty += u64::from(length > 0);
            counts.dirty_words += length as u64;
            at += length.max(1);
        }
        counts
    }
}

/// The step.
pub struct DirtyWords {
    settings: settings::DirtyWords,
    lists: Arc<Lists>,
}

impl DirtyWords {
    /// The step with these settings; the lists that they name are read.
    ///
    /// # Errors
    /// As [`Lists::new`].
    pub fn new(settings: &settings::DirtyWords) -> Result<DirtyWords, Error> {
        Ok(DirtyWords { settings: settings.clone(), lists: Lists::new(settings)? })
    }

    /// What the rules measure on a document with these counts.
    pub fn measures(&self, counts: Counts) -> Vec<Measure> {
        let mut measures = Vec::with_capacity(2);
        if let Some(most) = self.settings.max_count {
            let bound = Bound::AtMost(most as f64);
            measures.push(Measure { rule: "too_many_dirty_words", value: counts.dirty as f64, bound });
        }
        if counts.dirty >= self.settings.fraction_from {
            let value = counts.dirty_words as f64 / counts.words.max(1) as f64;
            // Not a fraction that says something of quality: most documents have none.
            let bound = Bound::AtMost(self.settings.max_fraction);
            measures.push(Measure { rule: "too_large_a_share_of_dirty_words", value, bound });
        }
        measures
    }

    /// A score of counts, 0 to 1. With s the share of the words that are dirty, a hundred clean words added to each
    /// document, and m the recipe's greatest share, it is s / (s + m): a long document at that share has 0.5, and a word
    /// or two in a short one do not reach it.
    pub fn score(&self, counts: Counts) -> f64 {
        const PRIOR_WORDS: f64 = 100.0;
        let share = counts.dirty_words as f64 / (counts.words as f64 + PRIOR_WORDS);
        share / (share + self.settings.max_fraction.max(f64::MIN_POSITIVE))
    }
}

impl Step for DirtyWords {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "Llama 3: Llama Team 2024, section 3.1.1; C4: Raffel et al. 2020, section 2.2"
    }

    /// Fills [`nsfw::COLUMN`] where a document has no score yet.
    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let counts: Vec<Option<Counts>> = Rows::of(&batch, NAME)?
            .iter()
            .map(|row| match row.kind.class {
                Class::Code | Class::Data => None,
                Class::Web | Class::Prose | Class::Documentation => {
                    Some(self.lists.count(row.text, row.language))
                }
            })
            .collect();
        let given = nsfw::scores(&batch, NAME)?;
        let scores = counts.iter().enumerate().map(|(at, counts)| {
            let given = given.as_ref().filter(|given| given.is_valid(at)).map(|given| given.value(at));
            given.or_else(|| counts.map(|counts| self.score(counts)))
        });
        let scores = Arc::new(Float64Array::from_iter(scores));
        let batch = batch::with_column(&batch, NAME, nsfw::COLUMN, scores)?;
        let mut counts = counts.iter();
        super::judge(batch, NAME, |_| match counts.next() {
            Some(Some(counts)) => measure::verdict(self.measures(*counts)),
            _ => Verdict::Keep,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(files: &[(&str, &str)]) -> Arc<Lists> {
        let folder = tempfile::tempdir().unwrap();
        let files = files.iter().map(|(language, text)| {
            let path = folder.path().join(language);
            std::fs::write(&path, text).unwrap();
            (language.to_string(), path.to_str().unwrap().to_string())
        });
        let files = files.collect();
        Lists::new(&settings::DirtyWords { builtin: false, files, ..Default::default() }).unwrap()
    }

    #[test]
    fn words_are_counted_whole_and_by_language() {
        let lists = lists(&[
            ("all", "grue\n"),
            ("en", "bog\nbog roll\nGrand Duke\n"),
            ("zh", "坏词\n"),
            ("th", "คำ\n"),
        ]);
        let check = |text: &str, language: Option<&str>, words, dirty, dirty_words| {
            assert_eq!(lists.count(text, language), Counts { words, dirty, dirty_words }, "{text}");
        };
        check("A BOG, a bog; boggy bogs!", Some("en"), 6, 2, 2);
        check("a bog roll and a Grand\nDuke", Some("en"), 7, 2, 4);
        check("a bog roll", Some("de"), 3, 0, 0);
        check("un grue, GRUE", None, 3, 2, 2);
        check("这是坏词吗", Some("zh"), 5, 1, 2);
        check("坏的词", Some("zh"), 3, 0, 0);
        check("", Some("en"), 0, 0, 0);
    }

    #[test]
    fn a_single_word_does_not_remove_a_document() {
        let mut step = DirtyWords { settings: Default::default(), lists: lists(&[("all", "grue")]) };
        let judged = |step: &DirtyWords, text: &str| {
            let measures = step.measures(step.lists.count(text, None));
            measures.into_iter().find(|measure| !measure.passes()).map(|measure| measure.rule)
        };
        let text = |dirty: usize, words: usize| {
            format!("{}{}", "grue ".repeat(dirty), "word ".repeat(words - dirty))
        };
        assert_eq!(judged(&step, &text(2, 10)), None);
        assert_eq!(judged(&step, &text(3, 10)), Some("too_large_a_share_of_dirty_words"));
        assert_eq!(judged(&step, &text(3, 300)), None);
        assert_eq!(judged(&step, &text(4, 300)), Some("too_large_a_share_of_dirty_words"));
        step.settings.max_count = Some(0);
        assert_eq!(judged(&step, &text(1, 300)), Some("too_many_dirty_words"));
        assert_eq!(judged(&step, &text(0, 300)), None);
        let score = |text: &str| step.score(step.lists.count(text, None));
        assert_eq!(score("clean words"), 0.0);
        assert!(score(&text(1, 2)) < 0.5 && score(&text(2, 300)) < 0.5 && score(&text(10, 300)) > 0.5);
    }

    #[test]
    fn the_lists_of_the_program_leave_ordinary_words_alone() {
        let lists = Lists::new(&settings::DirtyWords::default()).unwrap();
        for (language, text) in [
            (
                "en",
                "The cocktail party in Scunthorpe, Essex, ended with a Dickens reading and an assessment of analysis.",
            ),
            ("de", "Die Schwanenfeder, das Geländer und der Sexualkundeunterricht an der Geisterbahn."),
            ("fr", "La chaîne, le reputé château et la députée arbitre."),
            ("sv", "Slutet på resan: slut, farten var hög."),
            ("en", "Great tits and a cock fed Dick Cheney; the MILF signed, magna cum laude."),
            ("it", "La guerra di Troia, una sega e la Sega."),
            ("ja", "フェラーリの新車。"),
            ("zh", "进出口交易、路口交通和支援交流。"),
            ("zh", "他的性格很好，色彩鲜艳，中国的情况。"),
        ] {
            assert_eq!(lists.count(text, Some(language)).dirty, 0, "{language}: {text}");
        }
        for language in lists::builtin_names().filter(|name| !name.starts_with("url-")) {
            let list = lists::builtin(language);
            let own = (language != "all").then_some(language);
            assert!(lists.count(&list.join(" , "), own).dirty as usize >= list.len() * 9 / 10, "{language}");
        }
    }

    proptest::proptest! {
        #[test]
        fn counts_are_those_of_the_plain_way(text in "[ab ]{0,60}") {
            let lists = lists(&[("en", "a\na b\nbb a a\n")]);
            let words: Vec<&str> = text.split_whitespace().collect();
            let (mut at, mut dirty, mut inside) = (0, 0, 0);
            while at < words.len() {
                let rest = &words[at..];
                let length = [&["bb", "a", "a"][..], &["a", "b"], &["a"]].iter().find(|e| rest.starts_with(e)).map_or(0, |e| e.len());
                dirty += u64::from(length > 0);
                inside += length as u64;
                at += length.max(1);
            }
            let counts = lists.count(&text, Some("en"));
            proptest::prop_assert_eq!((counts.words, counts.dirty, counts.dirty_words), (words.len() as u64, dirty, inside));
        }
    }
}
