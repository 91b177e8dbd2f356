//! Tiny inputs of every format, whole and malformed, made on the spot.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray};
use flate2::write::GzEncoder;
use ledger::progress::Silent;
use proptest::prelude::*;

use super::*;
use crate::kind;
use crate::source::{self, Source};

#[derive(Default)]
pub(crate) struct Collected {
    pub records: Vec<Record>,
    pub skips: Vec<(String, String)>,
    pub ignored: Vec<String>,
}

impl Sink for Collected {
    fn record(&mut self, record: Record) -> Flow {
        self.records.push(record);
        Flow::Continue(())
    }
    fn skip(&mut self, place: String, reason: String) -> Flow {
        self.skips.push((place, reason));
        Flow::Continue(())
    }
    fn ignore(&mut self, label: &str) {
        self.ignored.push(label.to_string());
    }
}

fn settings() -> Settings {
    Settings { text_part_bytes: 1 << 10, max_input_document_bytes: 4 << 10, ..Settings::default() }
}

/// Reads a file of this name and content as curation would; places are relative to its folder.
fn read_file(name: &str, content: &[u8]) -> Collected {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let source = Source::Path(path.to_str().unwrap().to_string());
    let inputs = source::expand(&[source], &settings()).unwrap();
    let mut collected = Collected::default();
    for mut input in inputs.inputs {
        input.name = name.to_string();
        assert!(read(&input, &settings(), &Silent, &mut collected).unwrap().is_continue());
    }
    collected
}

/// Checks the texts read and, for each skip, its place and a part of its reason.
fn check(name: &str, content: &[u8], texts: &[&str], skips: &[(&str, &str)]) -> Collected {
    let collected = read_file(name, content);
    let read: Vec<&str> = collected.records.iter().map(|record| record.text.as_str()).collect();
    assert_eq!(read, texts, "{name}: {:?}", collected.skips);
    assert_eq!(collected.skips.len(), skips.len(), "{name}: {:?}", collected.skips);
    for ((place, reason), (expected_place, expected_reason)) in collected.skips.iter().zip(skips) {
        assert!(place == expected_place && reason.contains(expected_reason), "{place}: {reason}");
    }
    collected
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn whole_files() {
    check("a.rs", b"fn main() {}\r\n", &["fn main() {}\n"], &[]);
    check("a.md", "\u{FEFF}# Café".as_bytes(), &["# Café"], &[]);
    check("a.unknown", b"named by the user", &["named by the user\n"], &[]);
    check("a.rs", b"fn \xFF", &[], &[("a.rs", "not UTF-8 at byte 3")]);
    check("a.rs", b"fn\0main", &[], &[("a.rs", "a zero at byte 2")]);
    check("a.rs", &[b'x'; 5000], &[], &[("a.rs", "more than 4096 bytes")]);
    check("a.rs.gz", &gzip(b"fn main() {}"), &["fn main() {}"], &[]);
    check("a.rs.zst", &zstd::encode_all(&b"fn main() {}"[..], 1).unwrap(), &["fn main() {}"], &[]);
    check("a.rs.gz", b"not gzip", &[], &[("a.rs.gz", "cannot be read")]);
    check("a.rs.zst", b"not zstd", &[], &[("a.rs.zst", "cannot be read")]);
    let whole = gzip(b"fn main() { println!(\"a longer text\") }");
    check("a.rs.gz", &whole[..whole.len() - 12], &[], &[("a.rs.gz", "cannot be read")]);
    let mut two = gzip(b"one ");
    two.extend(gzip(b"two"));
    check("a.rs.gz", &two, &["one two"], &[]);
}

#[test]
fn plain_text_is_cut_at_blank_lines() {
    check("a.txt", b"short\n\ntext", &["short\n\ntext\n"], &[]);
    check("a.txt", b"", &[""], &[]);
    let utf16: Vec<u8> = "\u{FEFF}wide".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check("a.txt", &utf16, &["wide"], &[]);
    let paragraph = format!("{}\n\n", "word ".repeat(60).trim());
    let collected = read_file("a.txt", paragraph.repeat(10).as_bytes());
    let sources: Vec<&str> = collected.records.iter().map(|record| record.source.as_str()).collect();
    assert_eq!(sources, ["a.txt:byte 0", "a.txt:byte 1204", "a.txt:byte 2408"]);
    let joined: String = collected.records.iter().map(|record| record.text.as_str()).collect();
    assert_eq!(joined.matches("word").count(), 600);
    // A part that is no text is skipped with its place; the parts around it stay.
    let mut damaged = paragraph.repeat(10).into_bytes();
    damaged[1500] = 0xFF;
    let collected = read_file("a.txt", &damaged);
    assert_eq!(collected.records.len(), 2);
    assert_eq!(collected.skips[0].0, "a.txt:byte 1204");
    // Without blank lines, and even without line ends, parts are bounded.
    assert_eq!(read_file("a.txt", "word\n".repeat(1000).as_bytes()).records.len(), 3);
    check("a.txt", &[b'x'; 9000], &[], &[("a.txt:byte 0", "more than 4096 bytes")]);
}

#[test]
fn pages_are_decoded_by_what_they_say() {
    let collected = check("a.html", "<p>Grüße".as_bytes(), &["<p>Grüße"], &[]);
    assert_eq!(collected.records[0].kind, kind::HTML);
    check("a.htm", b"<meta charset=\"iso-8859-2\"><p>\xB3", &["<meta charset=\"iso-8859-2\"><p>ł"], &[]);
    check("a.html", b"<p>\xE4", &["<p>ä"], &[]);
    // Pages that say nothing of their encoding.
    let says = |encoding: &'static encoding_rs::Encoding, text: &str| {
        let page = format!("<p>{text}</p>");
        check("a.html", &encoding.encode(&page).0, &[&page], &[]);
    };
    says(encoding_rs::WINDOWS_1251, "Ночью река поднялась, и к утру нижние поля оказались под водой.");
    says(encoding_rs::SHIFT_JIS, "夜の間に川の水位が上がり、朝には低い畑が水に浸かっていました。");
    says(encoding_rs::GBK, "河水在夜里上涨，到了早晨，低处的田地都淹没在水中。");
}

#[test]
fn json_lines() {
    let lines = "{\"text\": \"one\", \"url\": \"http://a\", \"date\": \"2024-01-01\"}\n\n{\"content\": \"two\"}\nnot json\n\
                 {\"messages\": [], \"id\": 3}\n[1]\n{\"text\": 5}\n{}\n{\"text\": \"three\"}";
    let skips = [
        ("a.jsonl:line 4", "not JSON: expected"),
        ("a.jsonl:line 5", "no field text or content, but messages, id"),
        ("a.jsonl:line 6", "not a JSON object"),
        ("a.jsonl:line 7", "the field text is not a string"),
        ("a.jsonl:line 8", "no field text or content, but none"),
    ];
    let collected = check("a.jsonl", lines.as_bytes(), &["one", "two", "three"], &skips);
    let first = &collected.records[0];
    assert_eq!((first.url.as_deref(), first.date.as_deref()), (Some("http://a"), Some("2024-01-01")));
    assert_eq!(collected.records[2].source, "a.jsonl:line 9");
    let two = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    check("a.jsonl.gz", &gzip(two), &["one", "two"], &[]);
    check("a.jsonl.zst", &zstd::encode_all(&two[..], 1).unwrap(), &["one", "two"], &[]);
    let mut frames = zstd::encode_all(&two[..], 1).unwrap();
    frames.extend(zstd::encode_all(&two[..], 1).unwrap());
    check("a.jsonl.zst", &frames, &["one", "two", "one", "two"], &[]);
    // A damaged member costs itself, not what follows it.
    let (mut damaged, whole) = (gzip(&two.repeat(40)), gzip(two));
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].copy_from_slice(&[0xAA; 8]);
    let collected = read_file("a.jsonl.gz", &[whole.clone(), damaged, whole].concat());
    assert!(
        collected.skips.iter().any(|(_, reason)| reason.contains("cannot be read")),
        "{:?}",
        collected.skips
    );
    let texts: Vec<&str> = collected.records.iter().map(|record| record.text.as_str()).collect();
    assert!(
        texts.len() >= 4 && texts.starts_with(&["one", "two"]) && texts.ends_with(&["one", "two"]),
        "{texts:?}"
    );
    let long = format!("{{\"text\": \"{}\"}}\n{{\"text\": \"after\"}}\n", "x".repeat(9000));
    check("a.jsonl", long.as_bytes(), &["after"], &[("a.jsonl:line 1", "more than 4096 bytes")]);
    check("a.jsonl", b"{\"text\": \"\xFF\"}\n", &[], &[("a.jsonl:line 1", "not JSON")]);
}

fn parquet_bytes(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A table of texts and of bytes that nobody reads, in row groups of so many rows.
pub(crate) fn write_table(path: &std::path::Path, texts: &[String], group: usize) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("other", Arc::new(StringArray::from_iter_values(texts.iter().map(|text| text.repeat(20))))),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
        (
            "url",
            Arc::new(StringArray::from_iter_values((0..texts.len()).map(|row| format!("http://a.b/{row}")))),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_files() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None, Some("two")]));
    let url: ArrayRef = Arc::new(StringArray::from(vec![Some("http://a"), None, None]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let bytes = parquet_bytes(vec![("number", number.clone()), ("text", text), ("url", url)]);
    let collected = check("a.parquet", &bytes, &["one", "two"], &[("a.parquet:row 1", "null")]);
    assert_eq!(collected.records[0].url.as_deref(), Some("http://a"));
    assert_eq!(collected.records[1].source, "a.parquet:row 2");
    let large: ArrayRef = Arc::new(LargeStringArray::from(vec!["large"]));
    check("a.parquet", &parquet_bytes(vec![("content", large)]), &["large"], &[]);
    let other = parquet_bytes(vec![("number", number.clone()), ("text", number)]);
    check(
        "a.parquet",
        &other,
        &[],
        &[("a.parquet", "no text column named text or content, but number, text")],
    );
    // A damaged row group costs itself.
    let rows: ArrayRef = Arc::new(StringArray::from((0..30).map(|n| format!("row {n}")).collect::<Vec<_>>()));
    let batch = RecordBatch::try_from_iter([("text", rows)]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_dictionary_enabled(false)
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let groups = writer.close().unwrap();
    let column = groups.row_group(1).column(0);
    let start = column.data_page_offset() as usize;
    bytes[start + 8..start + column.compressed_size() as usize].fill(0xAA);
    let collected = read_file("a.parquet", &bytes);
    let kept: Vec<&str> = collected.records.iter().map(|record| record.text.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[10]), (20, "row 0", "row 20"), "{:?}", collected.skips);
    assert_eq!(collected.records[10].source, "a.parquet:row 20");
    assert!(
        collected.skips.len() == 1 && collected.skips[0].0 == "a.parquet:row 10",
        "{:?}",
        collected.skips
    );
    check("a.parquet", b"PAR1 and nothing", &[], &[("a.parquet", "not a readable Parquet file")]);
    check("a.parquet", b"", &[], &[("a.parquet", "not a readable Parquet file")]);
}

/// A WARC record with a correct length.
fn record(kind: &str, headers: &str, block: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://example.org/\r\n\
         WARC-Date: 2024-04-18T00:00:00Z\r\n{headers}Content-Length: {}\r\n\r\n",
        block.len()
    )
    .into_bytes();
    bytes.extend(block);
    bytes.extend(b"\r\n\r\n");
    bytes
}

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut block = format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    block.extend(body);
    record("response", "Content-Type: application/http; msgtype=response\r\n", &block)
}

/// Bytes as two gzip members.
fn members_of(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    (gzip(head), gzip(tail))
}

const PAGE: &str = "Content-Type: text/html; charset=utf-8\r\n";

#[test]
fn warc_files() {
    let mut whole = record("warcinfo", "", b"software: a crawler\r\n");
    whole.extend(record("request", "", b"GET / HTTP/1.1\r\n\r\n"));
    whole.extend(response(PAGE, "<p>Grüße".as_bytes()));
    whole.extend(record("conversion", "Content-Type: text/plain\r\n", b"plain"));
    whole.extend(response("Content-Type: image/png\r\n", b"\x89PNG"));
    whole.extend(record("response", "", b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>no"));
    whole.extend(record("resource", "Content-Type: text/html\r\n", b"<p>kept"));
    let collected = check("a.warc", &whole, &["<p>Grüße", "plain", "<p>kept"], &[]);
    let first = &collected.records[0];
    assert_eq!(first.url.as_deref(), Some("http://example.org/"));
    assert_eq!(first.date.as_deref(), Some("2024-04-18T00:00:00Z"));
    assert_eq!(collected.records[1].kind, kind::WEB_TEXT);
    let ignored = ["warc warcinfo", "warc request", "http content of type image/png", "http status 404"];
    assert_eq!(collected.ignored, ignored);

    let members: Vec<u8> =
        [response(PAGE, b"<p>one"), response(PAGE, b"<p>two")].iter().flat_map(|r| gzip(r)).collect();
    let collected = check("a.warc.gz", &members, &["<p>one", "<p>two"], &[]);
    let second = format!("a.warc.gz:byte {}", gzip(&response(PAGE, b"<p>one")).len());
    assert_eq!([&collected.records[0].source, &collected.records[1].source], ["a.warc.gz:byte 0", &second]);
    let one_member = gzip(&[response(PAGE, b"<p>one"), response(PAGE, b"<p>two")].concat());
    let collected = check("a.warc.gz", &one_member, &["<p>one", "<p>two"], &[]);
    let inside = format!("a.warc.gz:byte 0+{}", response(PAGE, b"<p>one").len());
    assert_eq!(collected.records[1].source, inside);
    // A record that begins in one member and ends in the next.
    let (head, tail) = members_of(&response(PAGE, b"<p>in two members"));
    let mut padded = [head, tail].concat();
    padded.extend([0; 7]);
    padded.extend(gzip(&response(PAGE, b"<p>two")));
    check("a.warc.gz", &padded, &["<p>in two members", "<p>two"], &[]);
}

#[test]
fn http_bodies_are_unchunked_and_unpacked() {
    let chunked = format!("{PAGE}Transfer-Encoding: chunked\r\n");
    let both = format!("{PAGE}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n");
    let packed = gzip(b"<p>packed");
    let mut packed_chunks = format!("{:x}\r\n", packed.len()).into_bytes();
    packed_chunks.extend(&packed);
    packed_chunks.extend(b"\r\n0\r\n\r\n");
    let bomb = gzip(&vec![b'a'; 10_000]);
    let cases: Vec<(&str, Vec<u8>, Result<&str, &str>)> = vec![
        (&chunked, b"4\r\n<p>a\r\n3;x=y\r\nbcd\r\n0\r\n\r\n".to_vec(), Ok("<p>abcd")),
        (&chunked, b"<p>already unchunked".to_vec(), Ok("<p>already unchunked")),
        (&chunked, b"ff\r\n<p>cut".to_vec(), Ok("<p>cut")),
        (&both, packed_chunks, Ok("<p>packed")),
    ];
    for (headers, body, expected) in cases {
        match expected {
            Ok(text) => drop(check("a.warc", &response(headers, &body), &[text], &[])),
            Err(reason) => {
                drop(check("a.warc", &response(headers, &body), &[], &[("a.warc:byte 0", reason)]))
            }
        }
    }
    let gzipped = format!("{PAGE}Content-Encoding: gzip\r\n");
    check("a.warc", &response(&gzipped, &bomb), &[], &[("a.warc:byte 0", "more than 4096 bytes")]);
    check("a.warc", &response(&gzipped, b"<p>stored unpacked"), &["<p>stored unpacked"], &[]);
    check("a.warc", &response(&gzipped, b"\x1f\x8bnonsense"), &[], &[("a.warc:byte 0", "gzip is damaged")]);
    let brotli = format!("{PAGE}Content-Encoding: br\r\n");
    check("a.warc", &response(&brotli, b"\x8b\x02"), &[], &[("a.warc:byte 0", "br is not supported")]);
}

#[test]
fn damaged_warc_files_lose_only_what_is_damaged() {
    let good = response(PAGE, b"<p>good");
    check("a.warc", b"", &[], &[("a.warc", "no WARC record")]);
    check("a.warc", b"nothing of the kind\nat all\n", &[], &[("a.warc:byte 0", "begins with WARC/")]);
    let mut garbage = good.clone();
    garbage.extend(b"garbage between\nrecords\n");
    let garbage_at = format!("a.warc:byte {}", good.len());
    garbage.extend(&good);
    check("a.warc", &garbage, &["<p>good", "<p>good"], &[(&garbage_at, "begins with WARC/")]);
    let cut = &good[..good.len() - 8];
    check("a.warc", cut, &[], &[("a.warc:byte 0", "cut off: ")]);
    let mut lengthless =
        b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: many\r\n\r\nblock\r\n\r\n".to_vec();
    lengthless.extend(&good);
    let skips = [("a.warc:byte 0", "no valid Content-Length"), ("a.warc:byte 55", "begins with WARC/")];
    check("a.warc", &lengthless, &["<p>good"], &skips);
    let hostile = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 18446744073709551615\r\n\r\nx";
    check("a.warc", hostile, &[], &[("a.warc:byte 0", "cut off: 1 of 18446744073709551615 bytes")]);
    let statusless = record("response", "", b"no head\r\n\r\nbody");
    check("a.warc", &statusless, &[], &[("a.warc:byte 0", "no status line")]);

    // A damaged gzip member in the middle: the members around it are read.
    let text = "<p>".to_string() + &"some words of a page that compress a little ".repeat(20);
    let member = gzip(&response(PAGE, text.as_bytes()));
    let mut damaged = member.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].copy_from_slice(&[0xAA; 8]);
    let file = [member.clone(), damaged, member].concat();
    let collected = read_file("a.warc.gz", &file);
    assert_eq!(collected.records.len(), 2, "{:?}", collected.skips);
    assert!(!collected.skips.is_empty());
}

#[test]
fn files_that_cannot_be_opened_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "a.jsonl", "a.parquet", "a.warc", "a.warc.gz"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "x").unwrap();
        let inputs = source::expand(&[Source::Path(path.to_str().unwrap().into())], &settings()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut collected = Collected::default();
        let _ = read(&inputs.inputs[0], &settings(), &Silent, &mut collected);
        assert!(collected.skips[0].1.contains("cannot be opened"), "{name}: {:?}", collected.skips);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a file holds, reading it ends, and what comes out is bounded by what went in.
    #[test]
    fn hostile_files_are_harmless(
        changes in prop::collection::vec((0usize..2000, any::<u8>()), 0..20),
        cut in 0usize..2000,
        format in 0usize..6,
    ) {
        let warc = [response(PAGE, b"<p>one"), record("conversion", "", b"two"), response(PAGE, b"<p>three")].concat();
        let lines = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n".to_vec();
        let text: ArrayRef = Arc::new(StringArray::from(vec!["one", "two", "three"]));
        let (name, mut content) = match format {
            0 => ("a.warc", warc),
            1 => ("a.warc.gz", gzip(&warc)),
            2 => ("a.jsonl", lines),
            3 => ("a.jsonl.zst", zstd::encode_all(&lines[..], 1).unwrap()),
            4 => ("a.parquet", parquet_bytes(vec![("text", text)])),
            _ => ("a.html", warc),
        };
        for (at, value) in changes {
            let length = content.len();
            content[at % length] = value;
        }
        content.truncate(cut.max(1));
        let collected = read_file(name, &content);
        prop_assert!(collected.records.len() <= 4);
    }

    #[test]
    fn unchunking_inverts_chunking(body in prop::collection::vec(any::<u8>(), 1..300), size in 1usize..50) {
        let mut chunked = Vec::new();
        for chunk in body.chunks(size) {
            chunked.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        prop_assert_eq!(warc::unchunk(&chunked), Some(body));
    }
}
