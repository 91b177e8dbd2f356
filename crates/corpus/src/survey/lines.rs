//! JSON lines of a file of any size, parsed by several threads and taken in their order. A line that is too long or not
//! what it should be costs itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use ledger::progress::Task;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::curate::pipeline;
use crate::read::Flow;

/// Bytes that a thread parses at once.
const BLOCK_BYTES: usize = 1 << 20;
/// A longer line is not held.
const MOST_LINE_BYTES: u64 = 16 << 20;

/// Some lines, of which the first has this number.
struct Block {
    first: u64,
    bytes: Vec<u8>,
    /// Of a line that is only named.
    too_long: bool,
}

/// Parses each line as a `T`, makes it smaller with `keep` while other threads do the same, and gives the results to
/// `take` in the order of the lines; what is wrong with a line is told with its number, from 1. The task is told the bytes.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened or read, and what `take` returns.
pub(super) fn each<T: DeserializeOwned, U: Send>(
    path: &Path,
    threads: usize,
    task: &dyn Task,
    keep: impl Fn(T) -> U + Sync,
    mut take: impl FnMut(Result<U, (u64, String)>) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut blocks = Blocks { reader: BufReader::with_capacity(256 << 10, file), next: 1, too_long: false };
    let feed = |feed: &mut pipeline::Feed<Block>| -> std::io::Result<()> {
        while let Some(block) = blocks.next()? {
            if feed.send(block) == Flow::Break(()) {
                break;
            }
        }
        Ok(())
    };
    let parse = |block: Block| {
        let bytes = block.bytes.len() as u64;
        let mut results = Vec::new();
        if block.too_long {
            results.push(Err((block.first, format!("is longer than {} MiB", MOST_LINE_BYTES >> 20))));
        } else {
            for (line, number) in block.bytes.split(|byte| *byte == b'\n').zip(block.first..) {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let parsed = serde_json::from_slice(line);
                results.push(
                    parsed.map(&keep).map_err(|error| (number, format!("is not as expected: {error}"))),
                );
            }
        }
        (bytes, results)
    };
    let read = pipeline::ordered(threads, threads * 2, feed, parse, |(bytes, results)| {
        task.advance(bytes);
        results.into_iter().try_for_each(&mut take)
    })?;
    read.map_err(Error::io("read", path))
}

/// Cuts a file into blocks of whole lines.
struct Blocks<R> {
    reader: R,
    /// The number of the next line.
    next: u64,
    /// Whether the next line is one that was too long, and has been passed over.
    too_long: bool,
}

impl<R: BufRead> Blocks<R> {
    fn next(&mut self) -> std::io::Result<Option<Block>> {
        let first = self.next;
        let mut bytes = Vec::new();
        while bytes.len() < BLOCK_BYTES && !self.too_long {
            let begin = bytes.len();
            let read = self.reader.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', &mut bytes)?;
            if read == 0 {
                break;
            }
            if read as u64 == MOST_LINE_BYTES && !bytes.ends_with(b"\n") {
                bytes.truncate(begin);
                skip_line(&mut self.reader)?;
                self.too_long = true;
                break;
            }
            self.next += 1;
        }
        if self.too_long && bytes.is_empty() {
            self.too_long = false;
            self.next += 1;
            return Ok(Some(Block { first, bytes, too_long: true }));
        }
        Ok((!bytes.is_empty()).then_some(Block { first, bytes, too_long: false }))
    }
}

/// Passes over the rest of a line.
fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let held = reader.fill_buf()?;
        if held.is_empty() {
            return Ok(());
        }
        match held.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(());
            }
            None => {
                let all = held.len();
                reader.consume(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::progress::Silent;
    use serde_json::Value;

    use super::*;

    #[test]
    fn wrong_lines_are_named_and_the_others_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let mut text = "{\"a\":1}\n\nnot json\n".to_string();
        text.push_str(&format!("\"{}\"\n", "x".repeat(MOST_LINE_BYTES as usize + 5)));
        text.push_str("[2]\n");
        text.push_str(&(0..300_000).map(|i| format!("{i}\n")).collect::<String>());
        text.push_str("\"no line end\"");
        std::fs::write(&path, &text).unwrap();
        for threads in [1, 3] {
            let mut found: Vec<Value> = Vec::new();
            let mut wrong = Vec::new();
            let take = |result: Result<Value, (u64, String)>| {
                match result {
                    Ok(value) => found.push(value),
                    Err((line, reason)) => wrong.push((line, reason)),
                }
                Ok(())
            };
            each(&path, threads, &Silent, |value: Value| value, take).unwrap();
            assert_eq!(found.len(), 300_003);
            assert_eq!((&found[2], &found[300_002]), (&Value::from(0), &Value::from("no line end")));
            assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
            assert!(wrong[1].1.contains("longer than 16 MiB"), "{wrong:?}");
        }
    }
}
