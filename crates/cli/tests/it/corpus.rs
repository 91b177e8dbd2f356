//! A small corpus made on the spot: prose in several formats, duplicates, and files that cannot be read.

use std::fs;
use std::io::Write;
use std::path::Path;

const SUBJECTS: [&str; 12] = [
    "the shepherd",
    "a young llama",
    "the old bridge",
    "our neighbour",
    "the river",
    "a trader from the valley",
    "the morning wind",
    "the school",
    "my grandmother",
    "the market",
    "a quiet dog",
    "the northern road",
];
const VERBS: [&str; 12] = [
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
];
const OBJECTS: [&str; 12] = [
    "the heavy salt",
    "a letter with red ink",
    "the grey mountains",
    "seven loaves of bread",
    "the broken fence",
    "a song that everyone knows",
    "the snow of last winter",
    "the blue woollen blanket",
    "an empty house",
    "the map of the high plain",
    "a bowl of potatoes",
    "the stars above the lake",
];
const ENDS: [&str; 8] = [
    "before the rain begins",
    "and then sleeps until noon",
    "with great patience",
    "because nobody else has time",
    "while the children laugh",
    "that was built by travellers",
    "and will be back in the evening",
    "as it was promised",
];

/// The same numbers for the same text everywhere: xorshift, no more is needed here.
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from[(self.0 % from.len() as u64) as usize]
    }
}

fn prose(seed: u64) -> String {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = String::new();
    for _ in 0..4 {
        for _ in 0..6 {
            let sentence = format!(
                "{} {} {} {}. ",
                numbers.pick(&SUBJECTS),
                numbers.pick(&VERBS),
                numbers.pick(&OBJECTS),
                numbers.pick(&ENDS)
            );
            text.push_str(&sentence[..1].to_uppercase());
            text.push_str(&sentence[1..]);
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
