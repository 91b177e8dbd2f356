//! Files that are one document each: text, Markdown, code, HTML. Plain text is cut into parts at blank lines, so
//! that a file of any length streams through.

use std::io::BufRead;

use super::{Flow, Line, Sink};
use crate::Settings;
use crate::batch::Record;
use crate::kind::{self, Kind};
use crate::source::Input;

pub(super) fn read(
    input: &Input,
    kind: Kind,
    settings: &Settings,
    stream: &mut dyn BufRead,
    sink: &mut dyn Sink,
) -> Flow {
    if kind == kind::TEXT {
        return read_parts(input, settings, stream, sink);
    }
    let limit = settings.max_input_document_bytes;
    let bytes = match super::read_limited(stream, limit) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return sink.skip(input.name.clone(), format!("has more than {limit} bytes")),
        Err(error) => return sink.skip(input.name.clone(), format!("cannot be read: {error}")),
    };
    let text = if kind == kind::HTML { Ok(decode_html(&bytes, None)) } else { super::decode(bytes) };
    match text {
        Ok(text) => sink.record(Record {
            text,
            kind,
            url: input.url.clone(),
            source: input.name.clone(),
            date: None,
            language: None,
        }),
        Err(reason) => sink.skip(input.name.clone(), reason),
    }
}

/// Cuts at the first blank line after `text_part_bytes`, else at the first line end after twice that.
fn read_parts(input: &Input, settings: &Settings, stream: &mut dyn BufRead, sink: &mut dyn Sink) -> Flow {
    let part_bytes = settings.text_part_bytes as usize;
    let (mut part, mut line) = (Vec::new(), Vec::new());
    let (mut part_start, mut offset, mut cut) = (0u64, 0u64, false);
    let utf16 = match stream.fill_buf() {
        Ok(head) => head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]),
        Err(error) => return sink.skip(input.name.clone(), format!("cannot be read: {error}")),
    };
    if utf16 {
        // Line ends cannot be found in its bytes; such files are read whole.
        let limit = settings.max_input_document_bytes;
        let text = match super::read_limited(stream, limit) {
            Ok(Some(bytes)) => super::decode(bytes),
            Ok(None) => Err(format!("is UTF-16 of more than {limit} bytes")),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        return match text {
            Ok(text) => sink.record(record(input, text, input.name.clone())),
            Err(reason) => sink.skip(input.name.clone(), reason),
        };
    }
    loop {
        let (end, consumed) = match super::read_line(stream, settings.max_input_document_bytes, &mut line) {
            Ok(read) => read,
            Err(error) => {
                return sink
                    .skip(format!("{}:byte {offset}", input.name), format!("cannot be read: {error}"));
            }
        };
        let at_end = matches!(end, Line::End);
        let blank = line.iter().all(u8::is_ascii_whitespace);
        if at_end || (blank && part.len() >= part_bytes) || part.len() >= 2 * part_bytes {
            let only = at_end && !cut;
            cut = true;
            let place = if only { input.name.clone() } else { format!("{}:byte {part_start}", input.name) };
            let bytes = std::mem::take(&mut part);
            if !bytes.iter().all(u8::is_ascii_whitespace) || only {
                match super::decode(bytes) {
                    Ok(text) => sink.record(record(input, text, place))?,
                    Err(reason) => sink.skip(place, reason)?,
                }
            }
            part_start = offset;
        }
        match end {
            Line::End => return Flow::Continue(()),
            Line::TooLong => {
                cut = true;
                let limit = settings.max_input_document_bytes;
                sink.skip(
                    format!("{}:byte {offset}", input.name),
                    format!("the line has more than {limit} bytes"),
                )?;
            }
            // The blank line between two parts belongs to neither.
            Line::Whole if part.is_empty() && blank => part_start = offset + consumed,
            Line::Whole => {
                part.extend_from_slice(&line);
                part.push(b'\n');
            }
        }
        offset += consumed;
    }
}

fn record(input: &Input, text: String, source: String) -> Record {
    Record { text, kind: kind::TEXT, url: input.url.clone(), source, date: None, language: None }
}

/// Bytes that are looked at where a page does not say its encoding.
const SNIFFED_BYTES: usize = 64 << 10;

/// The characters of a page: by its byte order mark, else the protocol's charset, else the page's own, else UTF-8
/// if it is that (WHATWG, Encoding and HTML standards, "determining the character encoding"), else what its bytes
/// look like to `chardetng`, which Firefox guesses by. Bytes that are no characters become U+FFFD, as in a browser.
pub fn decode_html(bytes: &[u8], protocol_charset: Option<&str>) -> String {
    let named = || {
        protocol_charset
            .and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()))
            .or_else(|| declared_charset(&bytes[..bytes.len().min(2048)]))
    };
    let text = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, mark)) => encoding.decode_without_bom_handling(&bytes[mark..]).0,
        None => match named() {
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0,
            None => match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => sniffed(bytes).decode_without_bom_handling(bytes).0,
            },
        },
    };
    super::unix_lines(text.replace('\0', ""))
}

fn sniffed(bytes: &[u8]) -> &'static encoding_rs::Encoding {
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(&bytes[..bytes.len().min(SNIFFED_BYTES)], bytes.len() <= SNIFFED_BYTES);
    // Mostly UTF-8 with a broken byte is more often that than anything else.
    detector.guess(None, chardetng::Utf8Detection::Allow)
}

/// The label after `charset=` in a page's head. A page that calls itself UTF-16 there is not: its label could
/// not be read.
fn declared_charset(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let lower = head.to_ascii_lowercase();
    let at = lower.windows(8).position(|window| window == b"charset=")? + 8;
    let label: Vec<u8> = lower[at..]
        .iter()
        .copied()
        .skip_while(|byte| matches!(byte, b'"' | b'\'' | b' '))
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.'))
        .collect();
    let encoding = encoding_rs::Encoding::for_label(&label)?;
    let utf16 = encoding == encoding_rs::UTF_16BE || encoding == encoding_rs::UTF_16LE;
    Some(if utf16 { encoding_rs::UTF_8 } else { encoding })
}
