//! Labelled texts on their way to training: cut into words and hashed as they come, counted, and put on the disk as
//! numbers. What is held is a table of words, 16 bytes a text, and one batch; texts themselves only until they are hashed.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::dictionary::{Dictionary, Entry};
use super::train::Settings;
use super::words::{self, END, Hashing};
use crate::Error;

/// Texts hashed together, and the part of them that one thread counts; both fixed, so that the first spelling of a hash
/// and what falls out of a full table do not depend on threads.
const BATCH_BYTES: usize = 8 << 20;
const PART_TEXTS: usize = 64;
/// Words counted for each word that is kept; beyond this the rarest fall out, as in fastText's own dictionary.
const COUNTED_PER_KEPT: usize = 4;

/// A text of the training part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    /// Where its numbers begin in the file, in numbers.
    start: u64,
    count: u32,
    pub label: u16,
}

struct Word {
    count: u64,
    word: Box<[u8]>,
}

/// The hashes of some texts, and how often each occurs, with the word as it is spelled first.
type Part<'t> = (Vec<Vec<u32>>, FxHashMap<u32, (u64, &'t [u8])>);

/// Collects labelled texts in a folder.
pub(super) struct Examples {
    settings: Settings,
    salt: u64,
    batch: Vec<(u16, String)>,
    batch_bytes: usize,
    words: FxHashMap<u32, Word>,
    /// Words of fewer occurrences fell out of the table.
    least: u64,
    /// Words of all texts, line ends among them.
    pub tokens: u64,
    hashes: NumberFile,
    pub examples: Vec<Example>,
    held_path: PathBuf,
    held: BufWriter<File>,
    /// Texts held out.
    pub held_out: u64,
    /// Texts of each label in the training part.
    pub label_counts: Vec<u64>,
    /// Texts without a word.
    pub empty: u64,
    /// Bytes of the texts of both parts.
    pub bytes: u64,
}

impl Examples {
    pub fn create(folder: &Path, settings: &Settings, labels: usize, salt: u64) -> Result<Examples, Error> {
        let held_path = folder.join("held-out.tmp");
        let held = BufWriter::with_capacity(
            1 << 18,
            File::create(&held_path).map_err(Error::io("create", &held_path))?,
        );
        Ok(Examples {
            settings: settings.clone(),
            salt,
            batch: Vec::new(),
            batch_bytes: 0,
            words: FxHashMap::default(),
            least: 0,
            tokens: 0,
            hashes: NumberFile::create(folder.join("hashes.tmp"))?,
            examples: Vec::new(),
            held_path,
            held,
            held_out: 0,
            label_counts: vec![0; labels],
            empty: 0,
            bytes: 0,
        })
    }

    /// Takes a text. Whether it is held out follows from a hash of it, so that the same text, wherever it stands, is on
    /// the same side.
    pub fn push(&mut self, label: u16, text: String) -> Result<(), Error> {
        if words::words(&text).next().is_none() {
            self.empty += 1;
            return Ok(());
        }
        self.bytes += text.len() as u64;
        let share = xxh3_64_with_seed(text.as_bytes(), self.salt) as f64 / 2f64.powi(64);
        if share < self.settings.held_out {
            self.held_out += 1;
            let mut write = |bytes: &[u8]| self.held.write_all(bytes);
            return write(&label.to_le_bytes())
                .and_then(|()| write(&(text.len() as u64).to_le_bytes()))
                .and_then(|()| write(text.as_bytes()))
                .map_err(Error::io("write", &self.held_path));
        }
        self.batch_bytes += text.len();
        self.batch.push((label, text));
        if self.batch_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let end = words::hash(END.as_bytes());
        // Each part with its counts; a word goes along as it is spelled first.
        let parts: Vec<Part> = batch
            .par_chunks(PART_TEXTS)
            .map(|part| {
                let mut counts: FxHashMap<u32, (u64, &[u8])> = FxHashMap::default();
                let mut hashed = Vec::with_capacity(part.len());
                for (_, text) in part {
                    let mut hashes = Vec::with_capacity(text.len() / 5 + 2);
                    for word in words::words(text).chain([END.as_bytes()]) {
                        let hash = words::hash(word);
                        hashes.push(hash);
                        counts.entry(hash).or_insert((0, word)).0 += 1;
                    }
                    hashed.push(hashes);
                }
                (hashed, counts)
            })
            .collect();
        debug_assert!(parts.iter().flat_map(|part| &part.0).all(|hashes| hashes.last() == Some(&end)));
        let mut labels = batch.iter().map(|(label, _)| *label);
        for (hashed, counts) in parts {
            for (hash, (count, word)) in counts {
                let known = self.words.entry(hash).or_insert_with(|| Word { count: 0, word: word.into() });
                known.count += count;
            }
            for (hashes, label) in hashed.iter().zip(&mut labels) {
                self.tokens += hashes.len() as u64;
                self.label_counts[usize::from(label)] += 1;
                let (start, count) = (self.hashes.count, hashes.len() as u32);
                self.hashes.push(hashes)?;
                self.examples.push(Example { start, count, label });
            }
            // Between parts, so that what is dropped depends on the texts alone.
            while self.words.len() > COUNTED_PER_KEPT * self.settings.max_words as usize {
                self.least += 1;
                let least = self.least;
                self.words.retain(|_, word| word.count > least);
            }
        }
        Ok(())
    }

    /// Ends the collecting; words of the training part, line ends among them.
    pub fn all_tokens(&mut self) -> Result<u64, Error> {
        if !self.batch.is_empty() {
            self.flush()?;
        }
        self.held.flush().map_err(Error::io("write", &self.held_path))?;
        Ok(self.tokens)
    }

    /// The dictionary of the training part, once collecting has ended.
    pub fn dictionary(&mut self, labels: &[String], hashing: &Hashing) -> Dictionary {
        let least = self.settings.min_count;
        let mut words: Vec<Entry> = std::mem::take(&mut self.words)
            .into_values()
            .filter(|word| word.count >= least)
            .map(|word| Entry { word: word.word.into_vec(), count: word.count })
            .collect();
        words.par_sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
        words.truncate(self.settings.max_words as usize);
        let labels = labels.iter().zip(&self.label_counts);
        let labels = labels.map(|(name, &count)| super::file::label_entry(name, count)).collect();
        Dictionary::new(words, labels, hashing)
    }

    /// Turns the hashes of each example into rows: its words', then its n-grams of words. Where there are n-grams of characters
    /// the rows are the file's, and [`Dense`] has the others; else they are what it makes of them.
    pub fn into_rows(mut self, dictionary: &Dictionary, hashing: &Hashing) -> Result<(Rows, Dense), Error> {
        let mut dense = Dense::new(dictionary.words() as usize + hashing.buckets as usize);
        let path = self.hashes.path.with_file_name("rows.tmp");
        let mut rows = NumberFile::create(path)?;
        let hashes = self.hashes.finish()?;
        let mut pieces = Vec::new();
        for part in self.examples.chunks_mut(1 << 12) {
            let converted: Vec<Vec<u32>> = part
                .par_iter()
                .map(|example| {
                    let hashes = hashes.get(example);
                    let mut rows = Vec::with_capacity(2 * hashes.len());
                    rows.extend(hashes.iter().filter_map(|&hash| dictionary.by_hash(hash)));
                    hashing.word_ngrams(hashes, |bucket| rows.push(dictionary.words() + bucket));
                    rows
                })
                .collect();
            for (example, mut converted) in part.iter_mut().zip(converted) {
                (example.start, example.count) = (rows.count, converted.len() as u32);
                if hashing.max_chars == 0 {
                    converted.iter_mut().for_each(|row| *row = dense.add(*row));
                } else {
                    for &row in &converted {
                        if row < dictionary.words() && dense.get(row).is_none() {
                            pieces.clear();
                            dictionary.push_word(row, &mut pieces);
                            pieces.iter().for_each(|&piece| _ = dense.add(piece));
                        }
                        dense.add(row);
                    }
                }
                rows.push(&converted)?;
            }
        }
        Ok((Rows { numbers: rows.finish()?, examples: self.examples }, dense))
    }

    /// The texts held out, in the order in which they came.
    pub fn held_out_texts(path: &Path) -> Result<impl Iterator<Item = Result<(u16, String), Error>>, Error> {
        let path = path.to_path_buf();
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut next = move || -> std::io::Result<Option<(u16, String)>> {
            if reader.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let (mut label, mut length) = ([0; 2], [0; 8]);
            reader.read_exact(&mut label)?;
            reader.read_exact(&mut length)?;
            let mut text = vec![0; u64::from_le_bytes(length) as usize];
            reader.read_exact(&mut text)?;
            let text = String::from_utf8(text).map_err(std::io::Error::other)?;
            Ok(Some((u16::from_le_bytes(label), text)))
        };
        Ok(std::iter::from_fn(move || next().map_err(Error::io("read", &path)).transpose()))
    }

    /// Where the texts held out lie.
    pub fn held_path(&self) -> &Path {
        &self.held_path
    }
}

/// Numbers for the rows that training texts have, in the order in which they come up: most of the buckets are none's, and
/// need no vector while others are learned.
pub(super) struct Dense {
    places: Vec<u32>,
    count: u32,
}

/// Of a row that no text has.
const NOWHERE: u32 = u32::MAX;

impl Dense {
    fn new(rows: usize) -> Dense {
        Dense { places: vec![NOWHERE; rows], count: 0 }
    }

    fn add(&mut self, row: u32) -> u32 {
        let place = &mut self.places[row as usize];
        if *place == NOWHERE {
            *place = self.count;
            self.count += 1;
        }
        *place
    }

    /// The number of a row of the file.
    pub fn get(&self, row: u32) -> Option<u32> {
        Some(self.places[row as usize]).filter(|&place| place != NOWHERE)
    }

    /// How many rows have a number.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Rows of the file.
    pub fn rows(&self) -> u32 {
        self.places.len() as u32
    }
}

/// The rows of all examples.
pub(super) struct Rows {
    numbers: Numbers,
    pub examples: Vec<Example>,
}

impl Rows {
    pub fn get(&self, example: usize) -> &[u32] {
        self.numbers.get(&self.examples[example])
    }
}

/// A file of numbers being written.
struct NumberFile {
    path: PathBuf,
    out: BufWriter<File>,
    count: u64,
}

impl NumberFile {
    fn create(path: PathBuf) -> Result<NumberFile, Error> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(NumberFile { path, out: BufWriter::with_capacity(1 << 20, file), count: 0 })
    }

    fn push(&mut self, numbers: &[u32]) -> Result<(), Error> {
        self.count += numbers.len() as u64;
        // Read again by this program on this machine, and by nobody else.
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.out.write_all(&bytes).map_err(Error::io("write", &self.path))
    }

    /// Maps what was written.
    fn finish(self) -> Result<Numbers, Error> {
        let NumberFile { path, out, count } = self;
        let failed = Error::io("write", &path);
        drop(out.into_inner().map_err(|error| failed(error.into_error()))?);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        if count == 0 {
            return Ok(Numbers { map: None });
        }
        // SAFETY: the map is only read, as numbers, of which every value is valid. The file lies in a
        // folder of this program's own, and is not written any more.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))?;
        Ok(Numbers { map: Some(map) })
    }
}

/// A file of numbers, mapped: what of it is in memory is the system's choice.
struct Numbers {
    map: Option<Mmap>,
}

impl Numbers {
    fn get(&self, example: &Example) -> &[u32] {
        let Some(map) = &self.map else { return &[] };
        let start = 4 * example.start as usize;
        let bytes = &map[start..start + 4 * example.count as usize];
        // SAFETY: every value of a u32 is valid; the parts before and after are empty, as a map begins at a page and
        // each example at a whole number of it.
        let (before, numbers, after) = unsafe { bytes.align_to::<u32>() };
        debug_assert!(before.is_empty() && after.is_empty());
        numbers
    }
}
