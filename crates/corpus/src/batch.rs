//! The columns that travel between the steps, and the few ways a step may change a batch of them.
//! Only this file and the Parquet files know how a document is laid out in Arrow.
//!
//! Working columns: `ordinal` (place in the deterministic order of the inputs), `kind` (see [`crate::kind`]),
//! then the columns of the output.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder, UInt64Builder};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;

use crate::Error;
use crate::kind::Kind;

/// The columns of the output, in order. `url`, `date`, `lang`, `lang_score`, `quality` and `token_count` are
/// null where nothing is known.
pub fn output_schema() -> SchemaRef {
    Arc::new(Schema::new(output_fields()))
}

fn output_fields() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("url", DataType::Utf8, true),
        Field::new("source", DataType::Utf8, false),
        Field::new("date", DataType::Utf8, true),
        Field::new("lang", DataType::Utf8, true),
        Field::new("lang_score", DataType::Float64, true),
        Field::new("quality", DataType::Float64, true),
        Field::new("token_count", DataType::Int64, true),
    ]
}

/// The columns that the steps work on: `ordinal`, `kind`, then [`output_schema`].
pub fn working_schema() -> SchemaRef {
    let mut fields =
        vec![Field::new("ordinal", DataType::UInt64, false), Field::new("kind", DataType::Utf8, false)];
    fields.extend(output_fields());
    Arc::new(Schema::new(fields))
}

/// The column that holds a classifier's score.
pub fn score_column(classifier: &str) -> String {
    format!("score_{classifier}")
}

/// A schema with the columns of these classifiers' scores at its end, which are null where a classifier said nothing.
pub fn with_scores<'n>(schema: &SchemaRef, classifiers: impl Iterator<Item = &'n String>) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.extend(classifiers.map(|name| Arc::new(Field::new(score_column(name), DataType::Float64, true))));
    Arc::new(Schema::new(fields))
}

/// One document as a source gives it, before any step.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The text; for [`crate::kind::HTML`] the page's markup.
    pub text: String,
    /// What kind of text it is.
    pub kind: Kind,
    /// Where it can be read online.
    pub url: Option<String>,
    /// Which input it came from: a path, with the line or byte where the input holds many.
    pub source: String,
    /// RFC 3339 or whatever the input calls its date.
    pub date: Option<String>,
    /// Its language as the input gives it, by [`crate::language::subtag`].
    pub language: Option<String>,
}

/// Collects records into batches of [`working_schema`].
pub struct Builder {
    next_ordinal: u64,
    ordinal: UInt64Builder,
    kind: StringBuilder,
    id: StringBuilder,
    text: StringBuilder,
    url: StringBuilder,
    source: StringBuilder,
    date: StringBuilder,
}

impl Builder {
    /// An empty builder whose first record gets the ordinal `first_ordinal`.
    pub fn new(first_ordinal: u64) -> Builder {
        Builder {
            next_ordinal: first_ordinal,
            ordinal: UInt64Builder::new(),
            kind: StringBuilder::new(),
            id: StringBuilder::new(),
            text: StringBuilder::new(),
            url: StringBuilder::new(),
            source: StringBuilder::new(),
            date: StringBuilder::new(),
        }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        self.ordinal.append_value(self.next_ordinal);
        self.next_ordinal += 1;
        self.kind.append_value(record.kind.label);
        self.id.append_value(document_id(&record.source, &record.text));
        self.text.append_value(&record.text);
        self.url.append_option(record.url.as_deref());
        self.source.append_value(&record.source);
        self.date.append_option(record.date.as_deref());
    }

    /// Records collected since the last [`Builder::finish`].
    pub fn len(&self) -> usize {
        self.ordinal.values_slice().len()
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text collected since the last [`Builder::finish`].
    pub fn text_bytes(&self) -> usize {
        self.text.values_slice().len()
    }

    /// Takes what was collected as a batch; the builder goes on with the next ordinal.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = self.len();
        let mut no_language = StringBuilder::new();
        let (mut no_score, mut no_count) = (Float64Builder::new(), Int64Builder::new());
        for _ in 0..rows {
            no_language.append_null();
            no_score.append_null();
            no_count.append_null();
        }
        let no_score: ArrayRef = Arc::new(no_score.finish());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ordinal.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.text.finish()),
            Arc::new(self.url.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.date.finish()),
            Arc::new(no_language.finish()),
            no_score.clone(),
            no_score,
            Arc::new(no_count.finish()),
        ];
        RecordBatch::try_new(working_schema(), columns)
            .expect("the builders match the schema by construction")
    }
}

/// The identity of a document: the first 128 bits of BLAKE3 over the source's name, a zero byte and the text as
/// the source gave it, in hexadecimal.
pub fn document_id(source: &str, text: &str) -> String {
    let mut bytes = Vec::with_capacity(source.len() + 1 + text.len());
    bytes.extend_from_slice(source.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(text.as_bytes());
    let digest = ledger::digest::Digest::of_bytes(&bytes);
    digest.as_str()[..32].to_string()
}

/// A column by name and type, or an error that names the step that asked.
pub fn column<'a, T: 'static>(
    batch: &'a RecordBatch,
    step: &'static str,
    name: &str,
) -> Result<&'a T, Error> {
    batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>()).ok_or_else(|| {
        Error::Batch {
            step,
            reason: format!("it has no column {name:?} of type {}", std::any::type_name::<T>()),
        }
    })
}

/// The columns most steps look at.
pub struct Rows<'a> {
    ordinal: &'a UInt64Array,
    kind: &'a StringArray,
    text: &'a StringArray,
    source: &'a StringArray,
    language: &'a StringArray,
    quality: &'a Float64Array,
}

/// One document within a batch.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Its place in the order of the inputs.
    pub ordinal: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its text.
    pub text: &'a str,
    /// Where it came from.
    pub source: &'a str,
    /// Its language, if one was found.
    pub language: Option<&'a str>,
    /// Its quality so far.
    pub quality: Option<f64>,
}

impl<'a> Rows<'a> {
    /// Finds the columns.
    ///
    /// # Errors
    /// [`Error::Batch`] when one is missing or of another type.
    pub fn of(batch: &'a RecordBatch, step: &'static str) -> Result<Rows<'a>, Error> {
        Ok(Rows {
            ordinal: column(batch, step, "ordinal")?,
            kind: column(batch, step, "kind")?,
            text: column(batch, step, "text")?,
            source: column(batch, step, "source")?,
            language: column(batch, step, "lang")?,
            quality: column(batch, step, "quality")?,
        })
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> + '_ {
        (0..self.text.len()).map(|i| Row {
            ordinal: self.ordinal.value(i),
            kind: Kind::of_label(self.kind.value(i)).unwrap_or(crate::kind::TEXT),
            text: self.text.value(i),
            source: self.source.value(i),
            language: self.language.is_valid(i).then(|| self.language.value(i)),
            quality: self.quality.is_valid(i).then(|| self.quality.value(i)),
        })
    }

    /// The first and the last row's ordinal; none of a batch without rows.
    pub fn span(&self) -> Option<(u64, u64)> {
        let last = self.ordinal.len().checked_sub(1)?;
        Some((self.ordinal.value(0), self.ordinal.value(last)))
    }
}

/// Bytes of text in a batch.
pub fn text_bytes(batch: &RecordBatch) -> u64 {
    let Some(text) = batch.column_by_name("text").and_then(|c| c.as_any().downcast_ref::<StringArray>())
    else {
        return 0;
    };
    (0..text.len()).map(|i| text.value_length(i) as u64).sum()
}

/// The batch with one column replaced by another of the same type, or a new column added at the end.
pub fn with_column(
    batch: &RecordBatch,
    step: &'static str,
    name: &str,
    array: ArrayRef,
) -> Result<RecordBatch, Error> {
    let mut columns = batch.columns().to_vec();
    let mut schema = batch.schema();
    match schema.index_of(name) {
        Ok(index) => columns[index] = array,
        Err(_) => {
            let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
            // Nullable whatever this batch holds, so that all batches have one schema.
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), true)));
            columns.push(array);
            schema = Arc::new(Schema::new(fields));
        }
    }
    RecordBatch::try_new(schema, columns).map_err(|cause| Error::Batch { step, reason: cause.to_string() })
}

/// The batch without a column.
pub fn without_column(batch: &RecordBatch, step: &'static str, name: &str) -> Result<RecordBatch, Error> {
    let kept: Vec<usize> =
        (0..batch.num_columns()).filter(|&i| batch.schema_ref().field(i).name() != name).collect();
    batch.project(&kept).map_err(|cause| Error::Batch { step, reason: cause.to_string() })
}

/// The rows of a batch for which `keep` is true.
pub fn keep_rows(batch: &RecordBatch, step: &'static str, keep: Vec<bool>) -> Result<RecordBatch, Error> {
    if keep.iter().all(|&kept| kept) {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &BooleanArray::from(keep))
        .map_err(|cause| Error::Batch { step, reason: cause.to_string() })
}
