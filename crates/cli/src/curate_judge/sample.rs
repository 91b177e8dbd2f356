//! Which documents are judged: those with the smallest hashes, so that the same sources give the same ones in the same
//! order, and a larger sample begins with the smaller.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use corpus::{Text, TextSink};
use ledger::seed::Seed;

/// A document as a judge sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chosen {
    /// What it is chosen and ordered by.
    key: u64,
    /// As curation names documents: a hash of the place and the text.
    pub id: String,
    pub source: String,
    pub url: Option<String>,
    /// Its beginning.
    pub text: String,
}

/// Chooses while documents stream by. What is held is the sample.
pub struct Sampling {
    most: usize,
    characters: usize,
    salt: u64,
    chosen: BinaryHeap<Chosen>,
    /// Documents seen.
    pub seen: u64,
    /// Documents without a word.
    pub empty: u64,
    /// Places left out, and the first of them.
    pub left_out: (u64, Option<String>),
}

impl Sampling {
    /// At most `most` documents, each cut to so many characters.
    pub fn new(most: usize, characters: usize, seed: Seed) -> Self {
        let salt = seed.stream("curate/judge", 0).next_u64();
        Self { most, characters, salt, chosen: BinaryHeap::new(), seen: 0, empty: 0, left_out: (0, None) }
    }

    /// The chosen documents, in the order of their hashes. The same text at the same place is judged once.
    pub fn finish(self) -> Vec<Chosen> {
        let mut chosen = self.chosen.into_sorted_vec();
        chosen.dedup_by(|a, b| a.id == b.id);
        chosen
    }
}

impl TextSink for Sampling {
    fn text(&mut self, text: Text) -> ControlFlow<()> {
        self.seen += 1;
        if text.text.trim().is_empty() {
            self.empty += 1;
            return ControlFlow::Continue(());
        }
        let id = corpus::batch::document_id(&text.place, &text.text);
        // The first 64 bits of the identity are a hash already; the salt makes another order of it.
        let bits = u64::from_str_radix(&id[..16], 16).unwrap_or_default() ^ self.salt;
        let key =
            bits.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let full = self.chosen.len() == self.most;
        if full && self.chosen.peek().is_none_or(|last| key >= last.key) {
            return ControlFlow::Continue(());
        }
        let end = text.text.char_indices().nth(self.characters).map_or(text.text.len(), |(at, _)| at);
        let text = Chosen { key, id, source: text.place, url: text.url, text: text.text[..end].to_owned() };
        if full {
            self.chosen.pop();
        }
        self.chosen.push(text);
        ControlFlow::Continue(())
    }

    fn skip(&mut self, place: String, reason: String) -> ControlFlow<()> {
        self.left_out.0 += 1;
        self.left_out.1.get_or_insert_with(|| format!("{place}: {reason}"));
        ControlFlow::Continue(())
    }

    fn inputs_done(&mut self, _inputs: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use corpus::{Settings, Source, Texts};
    use ledger::progress::Silent;

    use super::*;

    #[test]
    fn a_larger_sample_begins_with_the_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines: Vec<String> =
            (0..200).map(|n| format!("{{\"text\": \"document {n} ä{}\"}}", "x".repeat(50))).collect();
        std::fs::write(&path, lines.join("\n") + "\n{\"text\": \" \"}\nbroken\n").unwrap();
        let sources = [Source::parse(path.to_str().unwrap()).unwrap()];
        let sample = |most: usize, seed: u64| {
            let mut sampling = Sampling::new(most, 20, Seed(seed));
            let texts = Texts::find(&sources, &Settings::default(), &[]).unwrap();
            assert!(texts.read(0, 0, &Silent, &mut sampling).unwrap().is_continue());
            assert_eq!((sampling.seen, sampling.empty, sampling.left_out.0), (201, 1, 1));
            sampling.finish()
        };
        let (few, many) = (sample(10, 1), sample(50, 1));
        assert_eq!((few.len(), many.len(), sample(1000, 1).len()), (10, 50, 200));
        assert_eq!(few, many[..10]);
        assert_eq!(few, sample(10, 1));
        assert_ne!(few, sample(10, 2));
        assert!(few.iter().all(|one| one.text.chars().count() == 20 && one.source.contains(":line ")));
    }
}
