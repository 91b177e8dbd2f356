//! Extracts the main text of every page in a folder (`.html` or `.html.gz`) on one thread:
//! `cargo run --release -p corpus --example extract -- FOLDER [ROUNDS]` prints a JSON line a page with its name, text
//! and Markdown, and says on the error stream how many pages a second that was, parsing included.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("the folder with pages is missing")?;
    let rounds: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut pages = Vec::new();
    for path in &paths {
        let mut bytes = std::fs::read(path)?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            let packed = std::mem::take(&mut bytes);
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').next().unwrap_or_default().to_string();
        pages.push((name, corpus::decode_html(&bytes, None)));
    }
    let bytes: usize = pages.iter().map(|(_, html)| html.len()).sum();
    let mut seconds = Vec::new();
    let mut slowest = 0f64;
    for round in 0..rounds.max(1) {
        let started = Instant::now();
        for (name, html) in &pages {
            let begun = Instant::now();
            let page = corpus::extract::extract(html);
            slowest = slowest.max(begun.elapsed().as_secs_f64());
            if round == 0 {
                let (text, markdown) = page.map(|page| (page.text(), page.markdown())).unwrap_or_default();
                println!("{}", serde_json::json!({ "name": name, "text": text, "markdown": markdown }));
            }
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    eprintln!(
        "{}",
        serde_json::json!({
            "pages": pages.len(),
            "megabytes": bytes as f64 / 1e6,
            "pages_a_second": pages.len() as f64 / median,
            "megabytes_a_second": bytes as f64 / 1e6 / median,
            "slowest_page_ms": slowest * 1e3,
        })
    );
    Ok(())
}
