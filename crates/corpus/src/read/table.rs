//! Parquet files: the text in the column `text` or else `content`, with `url`, `date` and `lang` (or `language`) taken
//! along when they are strings. Row groups are read one after another.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use ledger::progress::Task;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::{Flow, Sink};
use crate::batch::Record;
use crate::kind;
use crate::language::subtag;
use crate::location::TableFile;
use crate::source::Input;

/// Rows decoded at once: few, because a row can hold a book.
const ROWS: usize = 64;

pub(super) fn read(input: &Input, task: &dyn Task, sink: &mut dyn Sink) -> Flow {
    let flow = read_rows(input, sink);
    task.advance(input.bytes);
    flow
}

/// Reads the row groups one after another; a damaged one costs itself.
fn read_rows(input: &Input, sink: &mut dyn Sink) -> Flow {
    let table = match shielded(|| open(input)) {
        Ok(table) => table,
        Err(reason) => return sink.skip(input.name.clone(), reason),
    };
    let mut first = 0u64;
    for group in 0..table.metadata.metadata().num_row_groups() {
        let rows = table.metadata.metadata().row_group(group).num_rows().max(0) as u64;
        match shielded(|| table.group(group)) {
            Ok(reader) => read_group(input, reader, first, sink)?,
            Err(reason) => {
                sink.skip(format!("{}:row {first}", input.name), format!("cannot be read: {reason}"))?;
            }
        }
        first += rows;
    }
    Flow::Continue(())
}

fn read_group(input: &Input, mut reader: ParquetRecordBatchReader, first: u64, sink: &mut dyn Sink) -> Flow {
    let mut row = first;
    loop {
        let batch = match shielded(|| reader.next().transpose().map_err(|error| error.to_string())) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Flow::Continue(()),
            Err(reason) => {
                return sink.skip(format!("{}:row {row}", input.name), format!("cannot be read: {reason}"));
            }
        };
        let text_name = if batch.column_by_name("text").is_some() { "text" } else { "content" };
        let (text, url, date, language) = (
            strings(&batch, text_name),
            strings(&batch, "url"),
            strings(&batch, "date").or_else(|| strings(&batch, "timestamp")),
            strings(&batch, "lang").or_else(|| strings(&batch, "language")),
        );
        let Some(text) = text else {
            return sink.skip(format!("{}:row {row}", input.name), format!("column {text_name} is not text"));
        };
        let value = |column: &Option<StringArray>, i: usize| {
            column.as_ref().filter(|column| column.is_valid(i)).map(|column| column.value(i).to_string())
        };
        for i in 0..batch.num_rows() {
            let place = format!("{}:row {row}", input.name);
            row += 1;
            if text.is_null(i) {
                sink.skip(place, format!("column {text_name} is null"))?;
                continue;
            }
            if text.value(i).contains('\0') {
                sink.skip(place, format!("column {text_name} is not text: it holds a zero"))?;
                continue;
            }
            sink.record(Record {
                text: super::unix_lines(text.value(i).to_string()),
                kind: kind::TEXT,
                url: value(&url, i),
                source: place,
                date: value(&date, i),
                language: value(&language, i).and_then(|given| subtag(&given)),
            })?;
        }
    }
}

/// An open file and the columns that are read.
struct Table {
    file: TableFile,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
}

impl Table {
    fn group(&self, group: usize) -> Result<ParquetRecordBatchReader, String> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(self.mask.clone())
            .with_batch_size(ROWS)
            .build()
            .map_err(|error| format!("is not a readable row group: {error}"))
    }
}

fn open(input: &Input) -> Result<Table, String> {
    let file = input.location.open_table().map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())
        .map_err(|error| format!("is not a readable Parquet file: {error}"))?;
    let schema = metadata.schema().clone();
    if !["text", "content"].iter().any(|name| is_text(&schema, name)) {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).take(12).collect();
        return Err(format!("has no text column named text or content, but {}", names.join(", ")));
    }
    let wanted = ["text", "content", "url", "date", "timestamp", "lang", "language"];
    let roots = (0..schema.fields().len()).filter(|&i| {
        wanted.contains(&schema.field(i).name().as_str()) && is_text(&schema, schema.field(i).name())
    });
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    Ok(Table { file, metadata, mask })
}

fn is_text(schema: &Schema, name: &str) -> bool {
    let string =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    schema.field_with_name(name).is_ok_and(|field| match field.data_type() {
        DataType::Dictionary(_, values) => string(values),
        other => string(other),
    })
}

fn strings(batch: &RecordBatch, name: &str) -> Option<StringArray> {
    plain_strings(batch.column_by_name(name)?)
}

/// A text column in whatever layout its writer chose, as plain strings. By hand: Arrow's general cast would bring
/// four more crates and a minute of building.
pub(crate) fn plain_strings(column: &dyn Array) -> Option<StringArray> {
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().clone(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().collect(),
        DataType::Utf8View => column.as_string_view().iter().collect(),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let values = plain_strings(dictionary.values())?;
            let keys = dictionary.normalized_keys();
            let text = |row: usize| {
                let seen = dictionary.keys().is_valid(row) && values.is_valid(keys[row]);
                seen.then(|| values.value(keys[row]))
            };
            (0..column.len()).map(text).collect()
        }
        _ => return None,
    })
}

/// Runs a step of the Parquet library, whose answer to some malformed files is a panic.
pub(crate) fn shielded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the Parquet reader gave up on it".into()))
}
