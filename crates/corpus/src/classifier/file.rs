//! fastText's `.bin` (`saveModel` and `loadModel` of `src/fasttext.cc` at facebookresearch/fastText, version 12): header,
//! arguments, dictionary, input matrix, output matrix, all little-endian. Whatever a file says of its sizes is held against
//! its length before memory is asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::dictionary::{Dictionary, Entry};
use super::outputs::Outputs;
use super::words::{Hashing, LABEL};
use super::{Classifier, Rows, dot};
use crate::Error;

const MAGIC: i32 = 793_712_314;
const VERSION: i32 = 12;
const SUPERVISED: i32 = 3;
/// The losses by their numbers.
const HIERARCHICAL: i32 = 1;
const NEGATIVE: i32 = 2;
const SOFTMAX: i32 = 3;
const ONE_VERSUS_ALL: i32 = 4;

/// A word is not longer; a file without zeros would otherwise be one.
const MAX_WORD_BYTES: u64 = 1 << 20;
/// Counts from here on are what fastText takes for infinite.
const MAX_COUNT: i64 = 1_000_000_000_000_000;
/// Rows converted at a time.
const ROWS_AT_ONCE: usize = 1 << 12;

/// Reads a model for prediction.
pub(super) fn open(path: &Path) -> Result<Classifier, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("open", path))?.len();
    let mut reader = Reader { path, inner: BufReader::with_capacity(1 << 18, file), at: 0, length };
    reader.model()
}

struct Reader<'a> {
    path: &'a Path,
    inner: BufReader<File>,
    at: u64,
    length: u64,
}

impl Reader<'_> {
    fn model(&mut self) -> Result<Classifier, Error> {
        if self.i32()? != MAGIC {
            return Err(self.refused("it is not a fastText model"));
        }
        let version = self.i32()?;
        if !(11..=VERSION).contains(&version) {
            return Err(self.refused(&format!("it is of fastText's version {version}; 11 and 12 are read")));
        }
        let mut arguments = [0; 12];
        for argument in &mut arguments {
            *argument = self.i32()?;
        }
        self.take::<8>()?;
        let [dim, _, _, _, _, word_ngrams, loss, model, buckets, min_chars, max_chars, _] = arguments;
        if model != SUPERVISED {
            return Err(
                self.refused("it holds word vectors and is no classifier: it was not trained supervised")
            );
        }
        let max_chars = if version == 11 { 0 } else { max_chars };
        let within = |what: &str, value: i32, most: i32| match u32::try_from(value) {
            Ok(value) if value <= most as u32 => Ok(value),
            _ => Err(self.malformed_at(8, format!("{what} is {value}, not between 0 and {most}"))),
        };
        let hashing = Hashing {
            buckets: within("the number of buckets", buckets, i32::MAX - 1)?,
            word_ngrams: within("the length of n-grams", word_ngrams, 64)?,
            min_chars: within("the shortest n-gram of characters", min_chars, 64)?,
            max_chars: within("the longest n-gram of characters", max_chars, 64)?,
        };
        let width = within("the dimension", dim, 1 << 16)? as usize;
        if width == 0 {
            return Err(self.malformed_at(8, "the dimension is 0".into()));
        }
        let (words, labels) = self.dictionary()?;
        let counts: Vec<u64> = labels.iter().map(|label| label.count).collect();
        let outputs = match loss {
            SOFTMAX => Outputs::Softmax,
            NEGATIVE | ONE_VERSUS_ALL => Outputs::Independent,
            HIERARCHICAL => Outputs::hierarchical(&counts),
            other => return Err(self.malformed_at(8, format!("the loss has the number {other}"))),
        };
        let inputs = words.len() + hashing.buckets as usize;
        let input_at = self.matrix("input", inputs, width)?;
        self.skip(4 * (inputs * width) as u64)?;
        self.matrix("output", labels.len(), width)?;
        let layer = self.floats(labels.len() * width)?;
        if self.at != self.length {
            let more = self.length - self.at;
            return Err(self.malformed_at(self.at, format!("{more} bytes follow the model")));
        }
        self.inner.seek(SeekFrom::Start(input_at)).map_err(Error::io("read", self.path))?;
        self.at = input_at;
        let rows = self.rows(inputs, width, layer)?;
        Ok(Classifier { dictionary: Dictionary::new(words, labels, &hashing), hashing, outputs, rows })
    }

    fn dictionary(&mut self) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
        let at = self.at;
        let (size, words, labels) = (self.i32()?, self.i32()?, self.i32()?);
        let _tokens = self.i64()?;
        let pruned = self.i64()?;
        let counts = (usize::try_from(words), usize::try_from(labels));
        let (Ok(words), Ok(labels)) = counts else {
            return Err(self.malformed_at(at, "a negative number of words or labels".into()));
        };
        if usize::try_from(size) != Ok(words + labels) {
            return Err(self.malformed_at(at, format!("{words} words and {labels} labels are not {size}")));
        }
        if labels == 0 {
            return Err(self.malformed_at(at, "there is no label".into()));
        }
        // A word has at least its zero, its count and its kind.
        if (words + labels) as u64 * 10 > self.length.saturating_sub(self.at) {
            return Err(self.malformed_at(at, format!("the file is too short for {size} words")));
        }
        let mut read = |from: usize, count: usize, kind: u8| -> Result<Vec<Entry>, Error> {
            (from..from + count).map(|index| self.entry(index, kind)).collect()
        };
        let (words, labels) = (read(0, words, 0)?, read(words, labels, 1)?);
        if pruned >= 0 {
            return Err(self.refused(
                "its n-grams were pruned, as in quantised models; give the model before `quantize`",
            ));
        }
        Ok((words, labels))
    }

    fn entry(&mut self, index: usize, wanted: u8) -> Result<Entry, Error> {
        let at = self.at;
        let mut word = Vec::new();
        let mut bounded = (&mut self.inner).take(MAX_WORD_BYTES);
        bounded.read_until(0, &mut word).map_err(Error::io("read", self.path))?;
        self.at += word.len() as u64;
        if word.pop() != Some(0) {
            return Err(self.malformed_at(at, format!("word {index} does not end")));
        }
        let count = self.i64()?;
        let [kind] = self.take::<1>()?;
        if kind != wanted {
            return Err(self.malformed_at(at, format!("word {index} has the kind {kind}, not {wanted}")));
        }
        match u64::try_from(count) {
            Ok(counted) if count < MAX_COUNT => Ok(Entry { word, count: counted }),
            _ => Err(self.malformed_at(at, format!("word {index} has the count {count}"))),
        }
    }

    /// The head of a matrix; returns where its values begin.
    fn matrix(&mut self, what: &str, rows: usize, width: usize) -> Result<u64, Error> {
        let at = self.at;
        let [quantised] = self.take::<1>()?;
        if quantised != 0 {
            return Err(self.refused("it is quantised (.ftz); give the model before `quantize`"));
        }
        let found = (self.i64()?, self.i64()?);
        if found != (rows as i64, width as i64) {
            let reason =
                format!("the {what} matrix has {} × {} values, not {rows} × {width}", found.0, found.1);
            return Err(self.malformed_at(at + 1, reason));
        }
        let bytes = (rows as u64).checked_mul(4 * width as u64);
        if bytes.is_none_or(|bytes| bytes > self.length.saturating_sub(self.at)) {
            return Err(self.malformed_at(self.at, format!("the {what} matrix is cut off")));
        }
        Ok(self.at)
    }

    /// The input matrix, a part at a time, as it is held for prediction.
    fn rows(&mut self, rows: usize, width: usize, layer: Vec<f32>) -> Result<Rows, Error> {
        let outputs = layer.len() / width;
        let products = outputs < width;
        let held = if products { outputs } else { width };
        let mut values = Vec::with_capacity(rows * held);
        let mut left = rows;
        while left > 0 {
            let part = self.floats(left.min(ROWS_AT_ONCE) * width)?;
            left -= part.len() / width;
            if products {
                let of_row = |row| layer.chunks_exact(width).map(move |output| dot(row, output));
                values.extend(part.chunks_exact(width).flat_map(of_row));
            } else {
                values.extend_from_slice(&part);
            }
        }
        Ok(match products {
            true => Rows::Products { width: held, values },
            false => Rows::Vectors { width: held, values, layer },
        })
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, Error> {
        let at = self.at;
        let mut bytes = vec![0; 4 * count];
        self.fill(&mut bytes)?;
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => {
                Err(self.malformed_at(at + 4 * index as u64, format!("a value is {}", values[index])))
            }
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        self.at += bytes;
        self.inner.seek(SeekFrom::Start(self.at)).map_err(Error::io("read", self.path))?;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.length.saturating_sub(self.at) {
            return Err(self.malformed_at(self.length, "the file is cut off".into()));
        }
        self.inner.read_exact(bytes).map_err(Error::io("read", self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn i32(&mut self) -> Result<i32, Error> {
        self.take().map(i32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Error> {
        self.take().map(i64::from_le_bytes)
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Classifier { path: self.path.to_path_buf(), reason: reason.to_string() }
    }

    fn malformed_at(&self, byte: u64, reason: String) -> Error {
        Error::Malformed { path: self.path.to_path_buf(), byte, reason }
    }
}

/// What is written beside the matrices: what fastText prints, and what says how texts become rows.
pub(super) struct Arguments {
    pub width: usize,
    pub epochs: u32,
    pub min_count: u64,
    pub hashing: Hashing,
    pub tokens: u64,
}

/// Writes a supervised model of the loss softmax. `input` and `layer` give the values row by row.
pub(super) fn write(
    path: &Path,
    arguments: &Arguments,
    dictionary: &Dictionary,
    input: impl Iterator<Item = Vec<f32>>,
    layer: impl Iterator<Item = Vec<f32>>,
) -> Result<(), Error> {
    let failed = |error| Error::io("write", path)(error);
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let (words, labels) = dictionary.entries();
    let mut head = Vec::new();
    let hashing = &arguments.hashing;
    let small = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
    let numbers = [
        MAGIC,
        VERSION,
        small(arguments.width as u64),
        5,
        small(arguments.epochs.into()),
        small(arguments.min_count),
        5,
        small(hashing.word_ngrams.into()),
        SOFTMAX,
        SUPERVISED,
        small(hashing.buckets.into()),
        small(hashing.min_chars.into()),
        small(hashing.max_chars.into()),
        100,
    ];
    numbers.iter().for_each(|number| head.extend(number.to_le_bytes()));
    head.extend(1e-4f64.to_le_bytes());
    for number in [words.len() + labels.len(), words.len(), labels.len()] {
        head.extend(small(number as u64).to_le_bytes());
    }
    head.extend((arguments.tokens as i64).to_le_bytes());
    head.extend((-1i64).to_le_bytes());
    for (entry, kind) in words.iter().map(|word| (word, 0)).chain(labels.iter().map(|label| (label, 1))) {
        head.extend_from_slice(&entry.word);
        head.push(0);
        head.extend((entry.count as i64).to_le_bytes());
        head.push(kind);
    }
    out.write_all(&head).map_err(failed)?;
    let inputs = words.len() + hashing.buckets as usize;
    matrix(&mut out, inputs, arguments.width, input).map_err(failed)?;
    matrix(&mut out, labels.len(), arguments.width, layer).map_err(failed)?;
    out.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
}

fn matrix(
    out: &mut impl Write,
    rows: usize,
    width: usize,
    values: impl Iterator<Item = Vec<f32>>,
) -> std::io::Result<()> {
    out.write_all(&[0])?;
    out.write_all(&(rows as i64).to_le_bytes())?;
    out.write_all(&(width as i64).to_le_bytes())?;
    let mut bytes = Vec::with_capacity(4 * width);
    for row in values {
        bytes.clear();
        row.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// A label as files have it.
pub(super) fn label_entry(name: &str, count: u64) -> Entry {
    Entry { word: format!("{LABEL}{name}").into_bytes(), count }
}
