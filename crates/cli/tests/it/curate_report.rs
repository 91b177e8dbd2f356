//! `alti curate report`: the page's figures are those of the documents, whatever is in their texts, and of damaged folders
//! it says what is left.

use std::collections::BTreeMap;
use std::fs;

use corpus::{Document, Split};
use serde_json::{Value, json};

use crate::Place;
use crate::corpus::prose;

/// Markup that ends the page's own, and what turns writing round.
const HOSTILE: &str =
    "</script></style></textarea><script>alert(1)</script><img src=x onerror=alert(2)> \u{202e}&lt;";

fn curate(place: &Place) {
    let mut lines = String::new();
    for i in 0..400 {
        let text = if i % 40 == 0 { format!("{}{HOSTILE}\n", prose(i)) } else { prose(i) };
        let text = if i % 25 == 3 { format!("too short {HOSTILE} {i}") } else { text };
        let url = match i % 4 {
            0 => json!(null),
            other => json!(format!("https://www.host-{other}.example/{i}?x=\"><script>")),
        };
        lines.push_str(&json!({"text": text, "url": url}).to_string());
        lines.push('\n');
    }
    // Copies, and lines that are none.
    for _ in 0..5 {
        lines.push_str(&json!({"text": prose(1)}).to_string());
        lines.push_str("\n{\"text\": <script>\n");
    }
    fs::create_dir(place.path("in")).unwrap();
    fs::write(place.path("in/a<b>.jsonl"), lines).unwrap();
    let settings = [
        "--set",
        "curate.gopher_repetition.enabled=false",
        "--set",
        "curate.held_out.fraction=0.1",
        "--seed",
        "7",
    ];
    let args = ["curate", "in", "--out", "documents", "--discard-work"];
    let said = place.run(&[&args[..], &settings].concat());
    assert!(said.contains("curate report documents shows what was kept"), "{said}");
}

fn kept(place: &Place) -> Vec<Document> {
    let split = |split| corpus::documents(&place.path("documents"), split).unwrap();
    split(Split::Train).chain(split(Split::HeldOut)).map(Result::unwrap).collect()
}

/// The row of a table whose head holds this name: its cells.
fn row(page: &str, name: &str) -> Vec<String> {
    let head = page.find(name).unwrap_or_else(|| panic!("{name} is missing"));
    let end = head + page[head..].find("</tr>").unwrap();
    let cells = page[head..end].split("<td class=\"number\">").skip(1);
    cells.map(|cell| cell[..cell.find("</td>").unwrap()].to_owned()).collect()
}

#[test]
fn the_page_says_what_the_folder_holds() {
    let place = Place::new();
    curate(&place);
    let said = place.run(&["curate", "report", "documents", "--samples", "30"]);
    assert!(said.contains("report.html (") && !said.contains("warning"), "{said}");
    let page = fs::read_to_string(place.path("report.html")).unwrap();

    let documents = kept(&place);
    assert!(documents.len() > 300, "{}", documents.len());
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    let fact = |label: &str, value: &str| {
        let wanted = format!("<div class=\"label\">{label}</div><div class=\"value\">{value}</div>");
        assert!(page.contains(&wanted), "{wanted} is missing");
    };
    fact("documents", &documents.len().to_string());
    fact("hosts", "3");
    let clusters = fs::read_to_string(place.path("documents/clusters.jsonl")).unwrap();
    let clusters = clusters.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let gone = |cluster: &Value| -> u64 {
        ["same_url", "same_text", "similar_text"].iter().map(|kind| cluster[kind].as_u64().unwrap()).sum()
    };
    let duplicates: u64 = clusters.map(|cluster| gone(&cluster)).sum();
    assert!(duplicates >= 5);
    fact("duplicates", &duplicates.to_string());
    let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
    for document in &documents {
        if let Some(url) = &document.url {
            *hosts.entry(url["https://www.".len()..].split('/').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    for (host, count) in &hosts {
        assert_eq!(row(&page, &format!("<bdi>{host}</bdi>"))[0], count.to_string());
    }
    let english = documents.iter().filter(|document| document.lang.as_deref() == Some("en")).count();
    assert_eq!(row(&page, "English<span")[0], english.to_string());
    let mut lengths: Vec<usize> = documents.iter().map(|document| document.text.len()).collect();
    lengths.sort_unstable();
    let cells = row(&page, "<th scope=\"row\">bytes</th>");
    let number = |cell: &String| cell.replace(',', "").parse::<f64>().unwrap();
    assert_eq!(number(&cells[1]) as usize, lengths[0]);
    assert_eq!(number(&cells[7]) as usize, lengths[lengths.len() - 1]);
    assert_eq!(number(&cells[8]), (bytes as f64 / documents.len() as f64).round());
    let median = lengths[(lengths.len() - 1) / 2] as f64;
    assert!((number(&cells[4]) - median).abs() <= 0.045 * median, "{cells:?} {median}");
    let cells = row(&page, "<th scope=\"row\">too few words</th>");
    assert_eq!((cells[0].as_str(), cells[2].as_str()), ("16", "≥ 50"));
    assert!(page.contains("Gopher: Rae et al. 2021"));
    assert!(page.contains("<td class=\"number\">5</td>") && page.contains("in/a&lt;b&gt;.jsonl"));

    // One script, which is ours, and nothing of a stranger's that is markup or hidden.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (1, 1));
    assert_eq!((page.matches("<style").count(), page.matches("</style").count()), (1, 1));
    for foreign in ["<img", "onerror=\"", "\u{202e}", "\0", "href=\"http", "src="] {
        assert!(!page.replace("img src=x onerror=alert(2)", "").contains(foreign), "{foreign:?}");
    }
    assert!(page.contains("&lt;/script&gt;&lt;/style&gt;") && page.contains("[U+202E]"));
    assert!(page.contains("default-src 'none'"));
    assert!(page.matches("class=\"card sample gone\"").count() >= 16);

    // The same bytes on other threads, and others with another seed.
    place.run(&[
        "curate",
        "report",
        "documents",
        "--samples",
        "30",
        "--out",
        "one/one.html",
        "--threads",
        "1",
    ]);
    assert_eq!(fs::read_to_string(place.path("one/one.html")).unwrap(), page);
    place.run(&["curate", "report", "documents", "--samples", "30", "--out", "other.html", "--seed", "8"]);
    assert_ne!(fs::read_to_string(place.path("other.html")).unwrap(), page);
    let left: Vec<_> = fs::read_dir(place.path("one")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn of_what_is_damaged_the_rest_is_shown() {
    let place = Place::new();
    curate(&place);
    let whole = kept(&place).len();
    let path = place.path("documents/heldout-00000.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_dir_all(place.path("documents/removed")).unwrap();
    let said = place.run(&["curate", "report", "documents"]);
    assert!(said.contains("heldout-00000.parquet") && said.contains("removed/ is missing"), "{said}");
    let page = fs::read_to_string(place.path("report.html")).unwrap();
    assert!(page.contains("<b>2 places of this folder could not be read.</b>"));
    assert!(page.contains("heldout-00000.parquet") && page.contains("is not a readable Parquet file"));
    let shown: usize =
        page.split("<div class=\"value\">").nth(1).unwrap().split('<').next().unwrap().parse().unwrap();
    assert!(shown < whole && shown > whole / 2, "{shown} of {whole}");
    // What the account itself shows stands in for the samples.
    assert!(page.contains("too short &lt;/script&gt;"));

    let check = |args: &[&str], code: i32, wanted: &str| {
        let said = place.fails(&[&["curate", "report"], args].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "{said}");
    };
    check(&["pages"], 1, "is no folder of curated documents");
    check(&["nowhere"], 1, "nowhere");
    check(&["documents", "--out", "pages"], 2, "is a folder");
    place.fails(&["curate", "report", "documents", "--samples", "5000"], 2);
}
