//! Inputs of all kinds, some of them malformed, with texts that repeat across files.

use std::path::Path;

use ledger::seed::{Rng, Seed};

const WORDS: [&str; 24] = [
    "the", "ferry", "of", "harbour", "and", "that", "sailor", "bread", "morning", "with", "quiet", "road",
    "to", "be", "window", "letter", "carries", "garden", "have", "stone", "evening", "river", "bridge",
    "light",
];

fn sentence(rng: &mut Rng) -> String {
    let words: Vec<&str> = (0..12).map(|_| WORDS[rng.below(24) as usize]).collect();
    format!("{} {}.", words.join(" "), ["north", "south", "inside", "later"][rng.below(4) as usize])
}

fn page(rng: &mut Rng, sentences: u64) -> String {
    let paragraphs: String = (0..sentences).map(|_| format!("<p>{}</p>\n", sentence(rng))).collect();
    format!("<html><head><title>A page</title></head><body><article>{paragraphs}</article></body></html>")
}

/// So many files: most are WARC, the others JSON lines and texts.
pub fn write(folder: &Path, files: usize) {
    std::fs::create_dir_all(folder).unwrap();
    for file in 0..files {
        // Files repeat some pages of others.
        let mut rng = Seed(file as u64 % 20).stream("pages", 0);
        let (name, text) = match file % 6 {
            4 => (format!("lines-{file:03}.jsonl"), lines(&mut rng)),
            5 => (format!("text-{file:03}.txt"), (0..40).map(|_| sentence(&mut rng) + "\n").collect()),
            _ => (format!("page-{file:03}.warc"), warc(&mut rng, file)),
        };
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn lines(rng: &mut Rng) -> String {
    let mut text = String::new();
    for line in 0..30 {
        let sentences: Vec<String> = (0..10).map(|_| sentence(rng)).collect();
        text.push_str(&format!("{{\"text\": \"{}\"}}\n", sentences.join("\\n")));
        if line % 11 == 3 {
            text.push_str("not json\n");
        }
    }
    text
}

fn warc(rng: &mut Rng, file: usize) -> String {
    let mut text = String::new();
    for record in 0..40 {
        let sentences = if record % 9 == 2 { 1 } else { 12 + rng.below(20) };
        let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{}", page(rng, sentences));
        text.push_str(&format!(
            "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a{file}.example/{}\r\n\
             WARC-Date: 2024-01-{:02}T00:00:00Z\r\nContent-Length: {}\r\n\r\n{http}\r\n\r\n",
            record % 35,
            1 + record % 28,
            http.len()
        ));
        if record == 20 && file % 3 == 0 {
            text.push_str(
                "WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 2\r\n\r\nab\r\n\r\nnonsense\r\n",
            );
        }
    }
    text
}

/// A line of JSON with a text of so many bytes.
pub fn write_large(path: &Path, bytes: usize) {
    let mut rng = Seed(1).stream("large", 0);
    let some: String = (0..200).map(|_| sentence(&mut rng) + " ").collect();
    let text = some.repeat(bytes / some.len() + 1);
    std::fs::write(path, format!("{{\"text\": \"{text}\"}}\n")).unwrap();
}
