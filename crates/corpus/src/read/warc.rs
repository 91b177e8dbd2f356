//! WARC files (ISO 28500), plain or gzip with any number of members: pages from `response` and `resource`
//! records, text from `conversion` records (Common Crawl's WET). A malformed record or damaged gzip member costs
//! itself: reading goes on at the next record that can be found.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use flate2::read::{DeflateDecoder, ZlibDecoder};
use ledger::progress::Task;

use super::document::decode_html;
use super::{BUFFER_BYTES, Compression, Flow, Line, Sink, gzip};
use crate::Settings;
use crate::batch::Record;
use crate::kind;
use crate::source::Input;

/// Longest line of a record's head.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// Most lines of a record's head.
const MAX_HEADER_LINES: usize = 1000;

pub(super) fn read(input: &Input, settings: &Settings, task: &dyn Task, sink: &mut dyn Sink) -> Flow {
    let mut file = match super::open(input, task) {
        Ok(file) => file,
        Err(error) => return sink.skip(input.name.clone(), format!("cannot be opened: {error}")),
    };
    match input.compression {
        Compression::None => {
            let mut records =
                Records { input, settings, stream: &mut file, offset: 0, found: false, starts: None };
            records.read(sink)?;
        }
        Compression::Zstd => match zstd::stream::read::Decoder::with_buffer(file) {
            Ok(decoder) => {
                let mut stream = BufReader::with_capacity(BUFFER_BYTES, decoder);
                let mut records =
                    Records { input, settings, stream: &mut stream, offset: 0, found: false, starts: None };
                records.read(sink)?;
            }
            Err(error) => sink.skip(input.name.clone(), format!("zstd cannot start: {error}"))?,
        },
        Compression::Gzip => {
            let mut file = gzip::Positioned::new(&mut file);
            let (mut offset, mut found) = (0, false);
            loop {
                let starts = gzip::Starts::default();
                let members = gzip::Members::new(&mut file, offset, starts.clone());
                let mut stream = BufReader::with_capacity(BUFFER_BYTES, members);
                let mut records =
                    Records { input, settings, stream: &mut stream, offset, found, starts: Some(starts) };
                let intact = records.read(sink)?;
                (offset, found) = (records.offset, records.found);
                drop(stream);
                if intact || !gzip::seek_member(&mut file) {
                    break;
                }
            }
        }
    }
    Flow::Continue(())
}

/// The records of one stream.
struct Records<'a> {
    input: &'a Input,
    settings: &'a Settings,
    stream: &'a mut dyn BufRead,
    /// Bytes of the unpacked stream consumed.
    offset: u64,
    /// Whether any record's head was seen.
    found: bool,
    /// Where the members of a gzip file begin.
    starts: Option<gzip::Starts>,
}

#[derive(Default)]
struct Head {
    kind: String,
    url: Option<String>,
    date: Option<String>,
    content_type: Option<String>,
    length: Option<u64>,
}

impl Records<'_> {
    /// Reads to the end; false when the stream broke before it.
    fn read(&mut self, sink: &mut dyn Sink) -> Flow2<bool> {
        let mut line = Vec::new();
        let mut lost = false;
        loop {
            let start = self.offset;
            match self.line(&mut line) {
                Ok(Line::End) => {
                    if !self.found && !lost {
                        sink.skip(self.input.name.clone(), "has no WARC record".into())?;
                    }
                    return Flow2::Continue(true);
                }
                Ok(Line::Whole) if line.is_empty() => continue,
                Ok(Line::Whole) if line.starts_with(b"WARC/") => {
                    (self.found, lost) = (true, false);
                    match self.record(start, sink) {
                        Ok(flow) => flow?,
                        Err(error) => {
                            sink.skip(self.place(start), format!("the record is cut off: {error}"))?;
                            return Flow2::Continue(false);
                        }
                    }
                }
                // Bytes that are no record are reported once, then passed over up to the next one.
                Ok(Line::Whole | Line::TooLong) => {
                    if !lost {
                        sink.skip(self.place(start), "expected a record that begins with WARC/".into())?;
                    }
                    lost = true;
                }
                Err(error) => {
                    if !lost {
                        sink.skip(self.place(start), format!("cannot be read: {error}"))?;
                    }
                    return Flow2::Continue(false);
                }
            }
        }
    }

    /// The byte of the file where a record begins, as indices of WARC files have it; of a gzip file that of its
    /// member, and behind a plus sign the bytes of the unpacked member before it, if any.
    fn place(&self, offset: u64) -> String {
        let name = &self.input.name;
        match self.starts.as_ref().and_then(|starts| starts.of(offset)) {
            Some((member, 0)) => format!("{name}:byte {member}"),
            Some((member, inside)) => format!("{name}:byte {member}+{inside}"),
            None => format!("{name}:byte {offset}"),
        }
    }

    fn line(&mut self, buffer: &mut Vec<u8>) -> io::Result<Line> {
        let (line, consumed) = super::read_line(self.stream, MAX_HEADER_BYTES, buffer)?;
        self.offset += consumed;
        Ok(line)
    }

    /// Reads the record whose version line has just been read. An error means that the stream ended or broke.
    fn record(&mut self, start: u64, sink: &mut dyn Sink) -> io::Result<Flow> {
        let head = self.head()?;
        let Some(length) = head.length else {
            return Ok(sink.skip(self.place(start), "the record has no valid Content-Length".into()));
        };
        let wanted = matches!(head.kind.as_str(), "response" | "resource" | "conversion");
        let limit = self.settings.max_input_document_bytes;
        if !wanted || length > limit {
            let passed = io::copy(&mut Read::take(&mut *self.stream, length), &mut io::sink())?;
            self.offset += passed;
            if passed < length {
                return Err(short(passed, length));
            }
            if wanted {
                return Ok(sink.skip(self.place(start), format!("the record has more than {limit} bytes")));
            }
            sink.ignore(&format!(
                "warc {}",
                if head.kind.is_empty() { "record without type" } else { &head.kind }
            ));
            return Ok(Flow::Continue(()));
        }
        let mut block = Vec::with_capacity(length as usize);
        let got = Read::take(&mut *self.stream, length).read_to_end(&mut block)? as u64;
        self.offset += got;
        if got < length {
            return Err(short(got, length));
        }
        let page = if head.kind == "response" && !is_plain(&head) {
            http_page(&block, limit)
        } else {
            resource_page(block, head.content_type.as_deref(), head.kind == "conversion")
        };
        Ok(match page {
            Ok(Page { text, kind }) => sink.record(Record {
                text,
                kind,
                url: head.url,
                source: self.place(start),
                date: head.date,
                language: None,
            }),
            Err(NoPage::Ignored(label)) => {
                sink.ignore(&label);
                Flow::Continue(())
            }
            Err(NoPage::Malformed(reason)) => sink.skip(self.place(start), reason),
        })
    }

    fn head(&mut self) -> io::Result<Head> {
        let mut head = Head::default();
        let mut line = Vec::new();
        for _ in 0..MAX_HEADER_LINES {
            match self.line(&mut line)? {
                Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Line::Whole if line.is_empty() => break,
                Line::Whole | Line::TooLong => {}
            }
            let text = String::from_utf8_lossy(&line);
            let Some((name, value)) = text.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "warc-type" => head.kind = value.to_ascii_lowercase(),
                "warc-target-uri" => {
                    // WARC 1.0 was read by some as asking for angle brackets here.
                    let bare = value.strip_prefix('<').and_then(|v| v.strip_suffix('>')).unwrap_or(value);
                    head.url = Some(bare.to_string());
                }
                "warc-date" => head.date = Some(value.to_string()),
                "content-type" => head.content_type = Some(value.to_ascii_lowercase()),
                "content-length" => head.length = value.parse().ok(),
                _ => {}
            }
        }
        Ok(head)
    }
}

/// A flow that also carries a value.
type Flow2<T> = std::ops::ControlFlow<(), T>;

fn short(got: u64, length: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{got} of {length} bytes"))
}

/// Some crawlers store `response` records of protocols other than HTTP: their block is the resource itself.
fn is_plain(head: &Head) -> bool {
    head.content_type.as_deref().is_some_and(|kind| !kind.starts_with("application/http"))
        && head.url.as_deref().is_some_and(|url| !url.starts_with("http"))
}

struct Page {
    text: String,
    kind: kind::Kind,
}

enum NoPage {
    Ignored(String),
    Malformed(String),
}

fn resource_page(block: Vec<u8>, content_type: Option<&str>, conversion: bool) -> Result<Page, NoPage> {
    let (media, charset) = media_type(content_type.unwrap_or(if conversion { "text/plain" } else { "" }));
    match media.as_str() {
        "text/html" | "application/xhtml+xml" => {
            Ok(Page { text: decode_html(&block, charset.as_deref()), kind: kind::HTML })
        }
        "text/plain" => {
            Ok(Page { text: decode_html(&block, charset.as_deref().or(Some("utf-8"))), kind: kind::WEB_TEXT })
        }
        other => Err(NoPage::Ignored(format!(
            "warc content of type {}",
            if other.is_empty() { "unknown" } else { other }
        ))),
    }
}

/// The page in an HTTP response (RFC 9112): the status and head, then the body, unchunked and unpacked.
fn http_page(block: &[u8], limit: u64) -> Result<Page, NoPage> {
    let malformed = |reason: &str| NoPage::Malformed(reason.to_string());
    let (head, body) =
        split_head(block).ok_or_else(|| malformed("the HTTP response has no end of its head"))?;
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/"))
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|code| code.parse::<u16>().ok())
        .ok_or_else(|| malformed("the HTTP response has no status line"))?;
    if status != 200 {
        return Err(NoPage::Ignored(format!("http status {status}")));
    }
    let header = |wanted: &str| {
        head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let (media, charset) = media_type(header("content-type").as_deref().unwrap_or(""));
    let (html, plain) = match media.as_str() {
        "text/html" | "application/xhtml+xml" => (true, false),
        "text/plain" => (false, true),
        "" => (false, false),
        other => return Err(NoPage::Ignored(format!("http content of type {other}"))),
    };
    let mut body = body.to_vec();
    if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        // Many crawlers unchunk the body and leave the header as it was; then the body is taken as it stands.
        if let Some(whole) = unchunk(&body) {
            body = whole;
        }
    }
    if let Some(coding) = header("content-encoding") {
        body = unpack(body, &coding, limit)?;
    }
    if html || (!plain && body.trim_ascii_start().starts_with(b"<")) {
        Ok(Page { text: decode_html(&body, charset.as_deref()), kind: kind::HTML })
    } else if plain {
        Ok(Page { text: decode_html(&body, charset.as_deref()), kind: kind::WEB_TEXT })
    } else {
        Err(NoPage::Ignored("http content of unknown type".into()))
    }
}

fn split_head(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let crlf = block.windows(4).position(|window| window == b"\r\n\r\n").map(|at| (at, at + 4));
    let lf = block.windows(2).position(|window| window == b"\n\n").map(|at| (at, at + 2));
    let (end, body) = match (crlf, lf) {
        (Some(a), Some(b)) => a.min(b),
        (one, other) => one.or(other)?,
    };
    Some((&block[..end], &block[body..]))
}

/// The media type and the charset parameter of a Content-Type.
fn media_type(value: &str) -> (String, Option<String>) {
    let mut parts = value.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches(['"', '\'']).to_string())
    });
    (media, charset)
}

/// The body of a chunked message, or nothing when it is not well formed. A body cut off in its last chunk, as
/// crawlers with a size limit leave it, counts as what is there.
pub(super) fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = line.split(';').next()?.trim();
        if size.is_empty() || size.len() > 8 {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(body);
        }
        if rest.len() <= size {
            body.extend_from_slice(rest);
            return Some(body);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
        if rest.is_empty() {
            return Some(body);
        }
    }
}

fn unpack(body: Vec<u8>, coding: &str, limit: u64) -> Result<Vec<u8>, NoPage> {
    let reader: Box<dyn Read> = match coding {
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body.as_slice())),
        // RFC 9110 means zlib by "deflate"; some servers send the bare stream.
        "deflate" if body.first().is_some_and(|byte| byte & 0x0F == 8) => {
            Box::new(ZlibDecoder::new(body.as_slice()))
        }
        "deflate" => Box::new(DeflateDecoder::new(body.as_slice())),
        "zstd" => match zstd::stream::read::Decoder::new(body.as_slice()) {
            Ok(decoder) => Box::new(decoder),
            Err(error) => return Err(NoPage::Malformed(format!("the body's zstd cannot start: {error}"))),
        },
        "" | "identity" => return Ok(body),
        // Crawlers that unpack leave the header; a body that begins as a page is one.
        _ if body.trim_ascii_start().starts_with(b"<") => return Ok(body),
        other => {
            return Err(NoPage::Malformed(format!("the body's content encoding {other} is not supported")));
        }
    };
    let mut unpacked = Vec::new();
    match reader.take(limit + 1).read_to_end(&mut unpacked) {
        Ok(_) if unpacked.len() as u64 > limit => {
            Err(NoPage::Malformed(format!("the body unpacks to more than {limit} bytes")))
        }
        Ok(_) => Ok(unpacked),
        Err(_) if body.trim_ascii_start().starts_with(b"<") => Ok(body.clone()),
        Err(error) => Err(NoPage::Malformed(format!("the body's {coding} is damaged: {error}"))),
    }
}
