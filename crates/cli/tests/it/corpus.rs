//! A small corpus made on the spot: prose in several formats, duplicates, and files that cannot be read.

use std::fs;
use std::io::Write;
use std::path::Path;

const BEGINNINGS: [&str; 16] = [
    "wan", "lor", "tep", "mira", "sol", "bren", "kata", "fel", "dun", "ost", "ral", "vin", "hesp", "gor",
    "ulm", "pan",
];
const ENDINGS: [&str; 16] = [
    "der", "ica", "mouth", "ling", "ster", "una", "field", "row", "ton", "avel", "ish", "emer", "oda",
    "wick", "lan", "set",
];
const VERBS: [&str; 16] = [
    "carries",
    "remembers",
    "follows",
    "crosses",
    "repairs",
    "watches",
    "describes",
    "measures",
    "paints",
    "answers",
    "gathers",
    "visits",
    "keeps",
    "sells",
    "finds",
    "leaves",
];
const JOINTS: [&str; 8] = ["with", "for", "near", "behind", "of", "and", "under the", "before the"];

/// The same numbers for the same text everywhere: xorshift, no more is needed here.
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from[(self.0 % from.len() as u64) as usize]
    }

    /// One of 256 invented nouns.
    fn noun(&mut self) -> String {
        format!("{}{}", self.pick(&BEGINNINGS), self.pick(&ENDINGS))
    }
}

/// Some paragraphs, varied enough to pass the rules against repetition.
pub fn prose(seed: u64) -> String {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = String::new();
    for _ in 0..4 {
        for _ in 0..6 {
            let (one, two, three) = (numbers.noun(), numbers.noun(), numbers.noun());
            let (verb, joint) = (numbers.pick(&VERBS), numbers.pick(&JOINTS));
            text.push_str(&format!("The {one} that we have {verb} the {two} {joint} {three} to be there. "));
        }
        text.push_str("\n\n");
    }
    text
}

/// Writes the corpus into `folder` and a small registry of crates beside it.
pub fn write(folder: &Path) {
    let put = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for i in 0..60 {
        put(&format!("pages/notes/{i}.txt"), prose(i).as_bytes());
    }
    for i in 60..80 {
        let paragraphs: String = prose(i).split("\n\n").map(|p| format!("<p>{p}</p>\n")).collect();
        let page = format!(
            "<!doctype html><html lang=en><head><title>Page {i}</title><script>var x = 1;</script></head>\
             <body><nav><a href=/>Home</a></nav><article><h1>Notes of day {i}</h1>{paragraphs}</article></body></html>"
        );
        put(&format!("pages/web/{i}.html"), page.as_bytes());
    }
    let mut lines = Vec::new();
    for i in 80..120 {
        writeln!(
            lines,
            "{}",
            serde_json::json!({"text": prose(i), "url": format!("https://example.org/{i}")})
        )
        .unwrap();
    }
    lines.extend_from_slice(b"{\"text\": \"this line is cut off\n");
    put("pages/more.jsonl", &lines);
    for i in 0..8 {
        put(&format!("pages/copies/{i}.txt"), prose(i).as_bytes());
    }
    put("pages/broken.parquet", b"PAR1 this is no table PAR1");
    put("pages/broken.jsonl.gz", b"\x1f\x8b\x08\x00 not deflate");
    for (name, description) in [
        ("tidy-wool", "Sorts threads by colour and length"),
        ("high-plain", "Maps of mountains in one small format"),
        ("salt-road", "Finds the shortest way between two markets"),
    ] {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"{description}\"\n\
             license = \"MIT\"\nkeywords = [\"llama\"]\n"
        );
        put(&format!("registry/index/{name}-1.0.0/Cargo.toml"), manifest.as_bytes());
        put(&format!("registry/index/{name}-1.0.0/src/lib.rs"), b"//! A crate.\n");
    }
}
