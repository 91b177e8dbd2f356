//! Readers, one a container format: each turns one input into a stream of records and of skipped places, and
//! holds no more than one document (or one row group) at a time. What the text is worth is not their matter.

mod document;
mod gzip;
mod jsonl;
pub(crate) mod table;
mod warc;

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use flate2::bufread::MultiGzDecoder;
use ledger::progress::Task;

use crate::batch::Record;
use crate::location::Location;
use crate::source::{Container, Input};
use crate::{Error, Settings};

pub use document::decode_html;

/// Where a reader puts what it finds. `Break` means that nobody listens any more and the reader should return.
pub(crate) trait Sink {
    /// A document.
    fn record(&mut self, record: Record) -> Flow;
    /// Something unreadable or malformed: its place (the input's name, and line, row or byte) and the reason.
    fn skip(&mut self, place: String, reason: String) -> Flow;
    /// Something readable that is no document, such as a WARC request; counted by this label.
    fn ignore(&mut self, label: &str);
}

pub(crate) type Flow = ControlFlow<()>;

/// Bytes that a reader asks of the system at once.
const BUFFER_BYTES: usize = 256 << 10;

/// How the bytes of an input are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Reads one input to its end. What is wrong with it ends as skips; only the sink can stop it.
///
/// # Errors
/// [`Error::Store`] where an object cannot be read for now, through no fault of its own. Nothing of it behind that place has
/// gone to the sink.
pub(crate) fn read(
    input: &Input,
    settings: &Settings,
    task: &dyn Task,
    sink: &mut dyn Sink,
) -> Result<Flow, Error> {
    if input.location.file().is_some() {
        return Ok(read_input(input, settings, task, sink));
    }
    let flow = read_input(input, settings, task, &mut Guarded { location: &input.location, sink });
    match input.location.failure() {
        Some(error) => Err(error.into()),
        None => Ok(flow),
    }
}

/// Keeps from the sink what readers make of an object that could not be read for now: to them it is damaged.
struct Guarded<'a> {
    location: &'a Location,
    sink: &'a mut dyn Sink,
}

impl Sink for Guarded<'_> {
    fn record(&mut self, record: Record) -> Flow {
        if self.location.has_failed() { Flow::Break(()) } else { self.sink.record(record) }
    }

    fn skip(&mut self, place: String, reason: String) -> Flow {
        if self.location.has_failed() { Flow::Break(()) } else { self.sink.skip(place, reason) }
    }

    fn ignore(&mut self, label: &str) {
        if !self.location.has_failed() {
            self.sink.ignore(label);
        }
    }
}

fn read_input(input: &Input, settings: &Settings, task: &dyn Task, sink: &mut dyn Sink) -> Flow {
    match input.container {
        Container::Table => table::read(input, task, sink),
        Container::Document(kind) => {
            with_stream(input, task, sink, |stream, sink| document::read(input, kind, settings, stream, sink))
        }
        Container::Lines if input.compression == Compression::Gzip => {
            read_gzip_lines(input, settings, task, sink)
        }
        Container::Lines => with_stream(input, task, sink, |stream, sink| {
            jsonl::read(input, settings, stream, &mut 1, sink).map_continue(|_| ())
        }),
        Container::Warc => warc::read(input, settings, task, sink),
    }
}

/// Lines of a gzip file. A damaged member costs itself: reading goes on at the next one. The numbers of lines behind it
/// count those that could be read.
fn read_gzip_lines(input: &Input, settings: &Settings, task: &dyn Task, sink: &mut dyn Sink) -> Flow {
    let mut file = match open(input, task) {
        Ok(file) => gzip::Positioned::new(file),
        Err(error) => return sink.skip(input.name.clone(), format!("cannot be opened: {error}")),
    };
    let mut number = 1;
    loop {
        let members = gzip::Members::new(&mut file, 0, gzip::Starts::default());
        let mut stream = BufReader::with_capacity(BUFFER_BYTES, members);
        let intact = jsonl::read(input, settings, &mut stream, &mut number, sink)?;
        drop(stream);
        if intact || !gzip::seek_member(&mut file) {
            return Flow::Continue(());
        }
    }
}

fn with_stream(
    input: &Input,
    task: &dyn Task,
    sink: &mut dyn Sink,
    read: impl FnOnce(&mut dyn BufRead, &mut dyn Sink) -> Flow,
) -> Flow {
    let file = match open(input, task) {
        Ok(file) => file,
        Err(error) => return sink.skip(input.name.clone(), format!("cannot be opened: {error}")),
    };
    match input.compression {
        Compression::None => read(&mut { file }, sink),
        Compression::Gzip => {
            read(&mut BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file)), sink)
        }
        Compression::Zstd => match zstd::stream::read::Decoder::with_buffer(file) {
            Ok(decoder) => read(&mut BufReader::with_capacity(BUFFER_BYTES, decoder), sink),
            Err(error) => sink.skip(input.name.clone(), format!("zstd cannot start: {error}")),
        },
    }
}

/// The bytes of an input.
type Bytes<'a> = BufReader<Counted<'a, Box<dyn Read + Send>>>;

fn open<'a>(input: &Input, task: &'a dyn Task) -> io::Result<Bytes<'a>> {
    Ok(BufReader::with_capacity(BUFFER_BYTES, Counted { inner: input.location.open()?, task }))
}

/// Reports the bytes read to a progress task.
struct Counted<'a, R> {
    inner: R,
    task: &'a dyn Task,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.task.advance(count as u64);
        Ok(count)
    }
}

/// Reads at most `limit` bytes to the end of a stream; nothing when there are more.
fn read_limited(stream: &mut dyn BufRead, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// A line, its end left off; `TooLong` when it has more than `limit` bytes, and then the rest of it is passed over.
enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads the next line into `buffer`; returns it with the bytes consumed.
fn read_line(stream: &mut dyn BufRead, limit: u64, buffer: &mut Vec<u8>) -> io::Result<(Line, u64)> {
    buffer.clear();
    let mut consumed = Read::take(&mut *stream, limit + 1).read_until(b'\n', buffer)? as u64;
    if consumed == 0 {
        return Ok((Line::End, 0));
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        if buffer.last() == Some(&b'\r') {
            buffer.pop();
        }
        return Ok((Line::Whole, consumed));
    }
    if consumed <= limit {
        return Ok((Line::Whole, consumed));
    }
    loop {
        let available = stream.fill_buf()?;
        if available.is_empty() {
            return Ok((Line::TooLong, consumed));
        }
        let end = available.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let count = end.unwrap_or(available.len());
        stream.consume(count);
        consumed += count as u64;
        if end.is_some() {
            return Ok((Line::TooLong, consumed));
        }
    }
}

/// The text of bytes that should be UTF-8, or say by a mark that they are UTF-16; line ends become `\n`.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let text = match encoding_rs::Encoding::for_bom(&bytes) {
        Some((encoding, mark)) => {
            let (text, malformed) = encoding.decode_without_bom_handling(&bytes[mark..]);
            if malformed {
                return Err(format!("is not valid {}", encoding.name()));
            }
            text.into_owned()
        }
        None => String::from_utf8(bytes)
            .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))?,
    };
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        return Err(format!("is not text: a zero at byte {at}"));
    }
    Ok(unix_lines(text))
}

fn unix_lines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

#[cfg(test)]
pub(crate) mod tests;
