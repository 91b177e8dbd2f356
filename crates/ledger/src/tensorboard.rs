//! TensorBoard event files of scalars: TFRecord framing around hand-encoded `Event` messages.
//! Not a protobuf library: it writes the four message kinds that scalars need, and reads nothing.
//!
//! Formats: tensorflow `core/lib/io/record_writer.h` (framing), `core/util/event.proto` and
//! `core/framework/summary.proto` (messages). Tried with the reader of the Python package `tensorboard`; see
//! `tests/golden/tensorboard_events.py`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, clock};

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a new event file in `dir`, which is created where it does not exist, and tells a running
    /// TensorBoard to forget what it read from earlier files there.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        // TensorBoard takes each file whose name holds "tfevents", in the order of their names.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let (process, time) = (std::process::id(), clock::unix_seconds());
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("events.out.tfevents.{:010}.{process}.{count}", time as u64));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let mut this = Self { file, path };
        let mut records = Vec::new();
        push_record(&mut records, &version_event(time));
        push_record(&mut records, &restart_event(time));
        this.append(&records)?;
        Ok(this)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends values at a step; `time` is in seconds since 1970. TensorBoard keeps scalars as f32.
    pub fn scalars<'a>(
        &mut self,
        time: f64,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<(), Error> {
        let mut records = Vec::new();
        push_scalars(&mut records, time, step, values);
        self.append(&records)
    }

    /// Appends framed records, from [`push_scalars`], in one write.
    pub(crate) fn append(&mut self, records: &[u8]) -> Result<(), Error> {
        self.file.write_all(records).map_err(Error::io("append to", &self.path))
    }
}

/// Appends to `records` one framed event that holds all these scalars.
pub(crate) fn push_scalars<'a>(
    records: &mut Vec<u8>,
    time: f64,
    step: u64,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) {
    push_record(records, &scalars_event(time, step, values));
}

fn version_event(time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    field_double(&mut event, 1, time);
    field_bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// `SessionLog { status: START }` at step 0: what was read before, at this step or a later one, is void.
fn restart_event(time: f64) -> Vec<u8> {
    let mut session = Vec::new();
    field_varint(&mut session, 1, 1);
    let mut event = Vec::new();
    field_double(&mut event, 1, time);
    field_bytes(&mut event, 7, &session);
    event
}

fn scalars_event<'a>(time: f64, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        field_bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, 5);
        value.extend_from_slice(&(number as f32).to_le_bytes());
        field_bytes(&mut summary, 1, &value);
    }
    let mut event = Vec::new();
    field_double(&mut event, 1, time);
    field_varint(&mut event, 2, step);
    field_bytes(&mut event, 5, &summary);
    event
}

fn key(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    varint(out, number << 3 | wire_type);
}

fn field_varint(out: &mut Vec<u8>, number: u64, value: u64) {
    key(out, number, 0);
    varint(out, value);
}

fn field_double(out: &mut Vec<u8>, number: u64, value: f64) {
    key(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn field_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    key(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Length, its checksum, data, its checksum.
fn push_record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_agrees_with_the_published_vectors() {
        // RFC 3720, appendix B.4, and the catalogue's check value.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            assert_eq!(crc32c(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn records_are_the_golden_bytes() {
        // Made by tests/golden/tensorboard_events.py with tensorboard 2.21.0; see there.
        let mut records = Vec::new();
        push_record(&mut records, &version_event(1.5));
        push_record(&mut records, &restart_event(1.5));
        push_scalars(&mut records, 2.25, 300, [("pretrain/loss", 3.25), ("pretrain/rate", 6e-4)]);
        let golden: Vec<u8> = include_str!("../tests/data/tensorboard_events.hex")
            .split_ascii_whitespace()
            .flat_map(|line| {
                (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
            })
            .collect();
        assert_eq!(records, golden);
    }
}
