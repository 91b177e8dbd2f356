//! Curated documents on disk: the Parquet files that curation writes and everything after it reads.
//! Row groups and files end at fixed amounts of text, so the same documents give the same bytes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use arrow_array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::batch::{self, column};

/// A part of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What models are trained on.
    Train,
    /// What no model sees before evaluation.
    HeldOut,
}

impl Split {
    /// How its files begin: `train` or `heldout`.
    pub fn file_stem(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::HeldOut => "heldout",
        }
    }
}

/// A curated document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// 32 hexadecimal digits, a hash of the source's name and the text as it was found.
    pub id: String,
    /// The text.
    pub text: String,
    /// Where it can be read online.
    pub url: Option<String>,
    /// Which input it came from.
    pub source: String,
    /// Its date as the input gave it.
    pub date: Option<String>,
    /// Its natural language (ISO 639-1); none for code and data.
    pub lang: Option<String>,
    /// The language detector's confidence, 0 to 1.
    pub lang_score: Option<f64>,
    /// The least margin by which it passed the rules on fractions, 0 to 1 (see [`crate::steps::measure`]).
    pub quality: Option<f64>,
    /// Its length in tokens, where a tokenizer has counted.
    pub token_count: Option<i64>,
}

/// The documents of a split in `dir`, in the order in which curation wrote them; one batch is held at a time.
///
/// # Errors
/// [`Error::NoDocuments`] when the folder has no file of the split, [`Error::Io`] or [`Error::Parquet`] when it
/// or a file cannot be read; after an item with an error the iterator ends.
pub fn documents(dir: &Path, split: Split) -> Result<Documents, Error> {
    let files = shards(dir, split)?;
    Ok(Documents { files: files.into(), reader: None, batch: None, row: 0 })
}

/// How many documents of a split lie in `dir`, from the files' footers.
///
/// # Errors
/// As [`documents`].
pub fn count(dir: &Path, split: Split) -> Result<u64, Error> {
    let mut rows = 0;
    for path in shards(dir, split)? {
        let builder = open(&path)?;
        rows += builder.metadata().file_metadata().num_rows().max(0) as u64;
    }
    Ok(rows)
}

fn shards(dir: &Path, split: Split) -> Result<Vec<PathBuf>, Error> {
    let prefix = format!("{}-", split.file_stem());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".parquet") {
            files.push(dir.join(&*name));
        }
    }
    if files.is_empty() {
        return Err(Error::NoDocuments { path: dir.to_path_buf(), split: split.file_stem() });
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(Error::parquet("open", path))
}

/// Iterates over documents; see [`documents`].
pub struct Documents {
    files: VecDeque<PathBuf>,
    reader: Option<(PathBuf, ParquetRecordBatchReader)>,
    batch: Option<RecordBatch>,
    row: usize,
}

/// Rows decoded at once.
const ROWS: usize = 256;

impl Documents {
    fn advance(&mut self) -> Result<Option<Document>, Error> {
        loop {
            if let Some(batch) = &self.batch {
                if self.row < batch.num_rows() {
                    let document = document(batch, self.row)?;
                    self.row += 1;
                    return Ok(Some(document));
                }
                self.batch = None;
            }
            if let Some((path, reader)) = &mut self.reader {
                match reader.next() {
                    Some(Ok(batch)) => (self.batch, self.row) = (Some(batch), 0),
                    Some(Err(error)) => return Err(Error::parquet("read", path)(error.into())),
                    None => self.reader = None,
                }
                continue;
            }
            let Some(path) = self.files.pop_front() else { return Ok(None) };
            let reader = open(&path)?.with_batch_size(ROWS).build().map_err(Error::parquet("read", &path))?;
            self.reader = Some((path, reader));
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            (self.reader, self.batch) = (None, None);
            self.files.clear();
        }
        next.transpose()
    }
}

fn document(batch: &RecordBatch, row: usize) -> Result<Document, Error> {
    const STEP: &str = "reading documents";
    let string = |name: &str| -> Result<Option<String>, Error> {
        let array: &StringArray = column(batch, STEP, name)?;
        Ok(array.is_valid(row).then(|| array.value(row).to_string()))
    };
    let number = |name: &str| -> Result<Option<f64>, Error> {
        let array: &Float64Array = column(batch, STEP, name)?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    };
    let counts: &Int64Array = column(batch, STEP, "token_count")?;
    Ok(Document {
        id: string("id")?.unwrap_or_default(),
        text: string("text")?.unwrap_or_default(),
        url: string("url")?,
        source: string("source")?.unwrap_or_default(),
        date: string("date")?,
        lang: string("lang")?,
        lang_score: number("lang_score")?,
        quality: number("quality")?,
        token_count: counts.is_valid(row).then(|| counts.value(row)),
    })
}

/// Text in a row group: what a reader that decodes whole groups has to hold.
const ROW_GROUP_BYTES: u64 = 32 << 20;

/// How a Parquet file is packed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    /// For keeping.
    Small,
    /// For reading once and deleting.
    Fast,
}

/// Writes batches as one Parquet file. The folder that holds it is what makes it atomic.
pub(crate) struct TableWriter {
    path: PathBuf,
    writer: ArrowWriter<BufWriter<File>>,
    group_bytes: u64,
}

impl TableWriter {
    pub(crate) fn create(path: &Path, schema: SchemaRef, packing: Packing) -> Result<TableWriter, Error> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let compression = match packing {
            Packing::Small => {
                Compression::ZSTD(ZstdLevel::try_new(3).map_err(Error::parquet("create", path))?)
            }
            Packing::Fast => Compression::SNAPPY,
        };
        // Texts and identities hardly repeat: dictionaries and minima of them only cost time and space.
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for name in ["id", "text", "source", "url"] {
            let column = ColumnPath::from(name);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let writer =
            ArrowWriter::try_new(BufWriter::with_capacity(1 << 20, file), schema, Some(properties.build()))
                .map_err(Error::parquet("create", path))?;
        Ok(TableWriter { path: path.to_path_buf(), writer, group_bytes: 0 })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.writer.write(batch).map_err(Error::parquet("write", &self.path))?;
        self.group_bytes += batch::text_bytes(batch);
        if self.group_bytes >= ROW_GROUP_BYTES {
            self.group_bytes = 0;
            self.writer.flush().map_err(Error::parquet("write", &self.path))?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        let TableWriter { path, writer, .. } = self;
        let file = writer.into_inner().map_err(Error::parquet("finish", &path))?;
        file.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
        Ok(())
    }
}

/// Writes one split as files of at most about `shard_bytes` of text, at least one even without documents.
pub(crate) struct SplitWriter {
    dir: PathBuf,
    split: Split,
    schema: SchemaRef,
    shard_bytes: u64,
    bytes: u64,
    shards: usize,
    current: TableWriter,
}

impl SplitWriter {
    pub(crate) fn create(
        dir: &Path,
        split: Split,
        schema: SchemaRef,
        shard_bytes: u64,
    ) -> Result<SplitWriter, Error> {
        let current = SplitWriter::shard(dir, split, schema.clone(), 0)?;
        Ok(SplitWriter { dir: dir.to_path_buf(), split, schema, shard_bytes, bytes: 0, shards: 1, current })
    }

    fn shard(dir: &Path, split: Split, schema: SchemaRef, index: usize) -> Result<TableWriter, Error> {
        let path = dir.join(format!("{}-{index:05}.parquet", split.file_stem()));
        TableWriter::create(&path, schema, Packing::Small)
    }

    /// Writes a batch of the schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.bytes >= self.shard_bytes {
            let next = SplitWriter::shard(&self.dir, self.split, self.schema.clone(), self.shards)?;
            std::mem::replace(&mut self.current, next).finish()?;
            (self.shards, self.bytes) = (self.shards + 1, 0);
        }
        self.bytes += batch::text_bytes(batch);
        self.current.write(batch)
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.current.finish()
    }
}
