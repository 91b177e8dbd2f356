//! The Parquet files of a folder, cut into row groups that are read independently, with the columns that are asked for.
//! What is damaged costs its row group, or its file where the footer cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use rayon::prelude::*;

use super::Fault;
use crate::documents::Split;
use crate::read::table::{plain_strings, shielded};

/// Text decoded at once, about, and rows at most.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_ROWS: u64 = 1024;

/// Columns of numbers that are looked at; more are left out.
const MOST_COLUMNS: usize = 64;

/// A row group.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub split: Split,
    path: PathBuf,
    /// The file's name in its folder.
    name: String,
    group: usize,
    rows: u64,
    /// The number of its first row in the file.
    first: u64,
    /// Compressed bytes of the columns that are counted.
    pub bytes: u64,
    /// Bytes of the text as it is, about.
    text_bytes: u64,
}

/// A row of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub unit: u32,
    pub row: u32,
}

impl Place {
    /// As one number in the same order.
    pub(super) fn number(self) -> u64 {
        u64::from(self.unit) << 32 | u64::from(self.row)
    }

    /// The inverse of [`Place::number`].
    pub(super) fn of_number(number: u64) -> Place {
        Place { unit: (number >> 32) as u32, row: number as u32 }
    }
}

/// The row groups of the folder's files, train before held out, and the files that cannot be opened.
pub(super) fn units(folder: &Path, files: &[(Split, String)]) -> (Vec<Unit>, Vec<Fault>) {
    let opened: Vec<Result<Vec<Unit>, Fault>> =
        files.par_iter().map(|(split, name)| units_of(*split, &folder.join(name), name)).collect();
    let (mut units, mut faults) = (Vec::new(), Vec::new());
    for file in opened {
        match file {
            Ok(groups) => units.extend(groups),
            Err(fault) => faults.push(fault),
        }
    }
    (units, faults)
}

fn units_of(split: Split, path: &Path, name: &str) -> Result<Vec<Unit>, Fault> {
    let fault = |reason| Fault { place: name.to_string(), reason };
    let (_, metadata) = shielded(|| open(path)).map_err(fault)?;
    let schema = metadata.schema();
    if !schema.field_with_name("text").is_ok_and(|field| is_text(field.data_type())) {
        return Err(fault("has no column text of strings".to_string()));
    }
    let mut first = 0;
    let mut units = Vec::new();
    for (group, described) in metadata.metadata().row_groups().iter().enumerate() {
        let rows = described.num_rows().max(0) as u64;
        let (mut bytes, mut text_bytes) = (0, 0);
        for column in described.columns() {
            let name = column.column_path().string();
            if is_counted(schema, &name) {
                bytes += column.compressed_size().max(0) as u64;
            }
            if name == "text" {
                text_bytes = column.uncompressed_size().max(0) as u64;
            }
        }
        let (path, name) = (path.to_path_buf(), name.to_string());
        units.push(Unit { split, path, name, group, rows, first, bytes, text_bytes });
        first += rows;
    }
    Ok(units)
}

fn open(path: &Path) -> Result<(File, ArrowReaderMetadata), String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())
        .map_err(|error| format!("is not a readable Parquet file: {error}"))?;
    Ok((file, metadata))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _)
    )
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_counted(schema: &Schema, name: &str) -> bool {
    match name {
        "id" | "text" | "url" | "lang" => true,
        other => schema.field_with_name(other).is_ok_and(|field| is_number(field.data_type())),
    }
}

impl Unit {
    /// Gives each batch of the unit's counted columns to `take`, with the row at which it begins. A fault ends it.
    pub(super) fn read(&self, mut take: impl FnMut(&Columns, u32)) -> Result<(), Fault> {
        let wanted = |schema: &Schema, name: &str| is_counted(schema, name);
        self.batches(None, wanted, |columns, row| take(columns, row))
    }

    /// Gives these rows with all of their columns to `take`.
    pub(super) fn pick(
        &self,
        rows: &BTreeSet<u32>,
        mut take: impl FnMut(&Columns, usize, u32),
    ) -> Result<(), Fault> {
        let mut selectors = Vec::new();
        let mut next = 0;
        for &row in rows {
            if row > next {
                selectors.push(RowSelector::skip((row - next) as usize));
            }
            selectors.push(RowSelector::select(1));
            next = row + 1;
        }
        let mut numbers = rows.iter();
        self.batches(
            Some(RowSelection::from(selectors)),
            |_, _| true,
            |columns, _| {
                for (index, row) in (0..columns.rows()).zip(&mut numbers) {
                    take(columns, index, *row);
                }
            },
        )
    }

    fn batches(
        &self,
        selection: Option<RowSelection>,
        wanted: impl Fn(&Schema, &str) -> bool,
        mut take: impl FnMut(&Columns, u32),
    ) -> Result<(), Fault> {
        let end = self.first + self.rows;
        let place = format!("{}: rows {} to {end}", self.name, self.first + 1);
        let fault = |reason| Fault { place: place.clone(), reason };
        let mut reader = shielded(|| {
            let (file, metadata) = open(&self.path)?;
            let schema = metadata.schema();
            let roots = (0..schema.fields().len()).filter(|&at| wanted(schema, schema.field(at).name()));
            let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
            let rows = (BATCH_BYTES * self.rows.max(1) / self.text_bytes.max(1)).clamp(1, BATCH_ROWS);
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                .with_row_groups(vec![self.group])
                .with_projection(mask)
                .with_batch_size(rows as usize);
            if let Some(selection) = selection {
                builder = builder.with_row_selection(selection);
            }
            builder.build().map_err(|error| format!("cannot be read: {error}"))
        })
        .map_err(fault)?;
        let mut row = 0;
        while let Some(batch) =
            shielded(|| reader.next().transpose().map_err(|error| format!("cannot be read: {error}")))
                .map_err(fault)?
        {
            let columns =
                Columns::of(&batch).ok_or_else(|| fault("has no column text of strings".to_string()))?;
            take(&columns, row);
            row += batch.num_rows() as u32;
        }
        Ok(())
    }
}

/// The columns of a batch, whatever layout their writer chose.
pub(super) struct Columns {
    text: StringArray,
    id: Option<StringArray>,
    url: Option<StringArray>,
    lang: Option<StringArray>,
    source: Option<StringArray>,
    date: Option<StringArray>,
    /// Columns of numbers, with nothing where there is none.
    pub numbers: BTreeMap<String, Vec<Option<f64>>>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Option<Columns> {
        let strings = |name: &str| plain_strings(batch.column_by_name(name)?);
        let schema = batch.schema();
        let numbers = schema.fields().iter().filter(|field| is_number(field.data_type())).take(MOST_COLUMNS);
        let numbers = numbers.filter_map(|field| {
            Some((field.name().clone(), numbers_of(batch.column_by_name(field.name())?)?))
        });
        Some(Columns {
            text: strings("text")?,
            id: strings("id"),
            url: strings("url"),
            lang: strings("lang"),
            source: strings("source"),
            date: strings("date"),
            numbers: numbers.collect(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.text.len()
    }

    /// The text; empty where there is none.
    pub(super) fn text(&self, row: usize) -> &str {
        if self.text.is_valid(row) { self.text.value(row) } else { "" }
    }

    pub(super) fn id(&self, row: usize) -> Option<&str> {
        value(&self.id, row)
    }

    pub(super) fn url(&self, row: usize) -> Option<&str> {
        value(&self.url, row)
    }

    pub(super) fn lang(&self, row: usize) -> Option<&str> {
        value(&self.lang, row)
    }

    pub(super) fn source(&self, row: usize) -> Option<&str> {
        value(&self.source, row)
    }

    pub(super) fn date(&self, row: usize) -> Option<&str> {
        value(&self.date, row)
    }
}

fn value(column: &Option<StringArray>, row: usize) -> Option<&str> {
    column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn numbers_of(column: &dyn Array) -> Option<Vec<Option<f64>>> {
    fn of<T: ArrowPrimitiveType>(column: &dyn Array, number: impl Fn(T::Native) -> f64) -> Vec<Option<f64>> {
        column.as_primitive::<T>().iter().map(|value| value.map(&number)).collect()
    }
    Some(match column.data_type() {
        DataType::Float64 => of::<Float64Type>(column, |value| value),
        DataType::Float32 => of::<Float32Type>(column, f64::from),
        DataType::Int64 => of::<Int64Type>(column, |value| value as f64),
        DataType::Int32 => of::<Int32Type>(column, f64::from),
        DataType::Int16 => of::<Int16Type>(column, f64::from),
        DataType::Int8 => of::<Int8Type>(column, f64::from),
        DataType::UInt64 => of::<UInt64Type>(column, |value| value as f64),
        DataType::UInt32 => of::<UInt32Type>(column, f64::from),
        DataType::UInt16 => of::<UInt16Type>(column, f64::from),
        DataType::UInt8 => of::<UInt8Type>(column, f64::from),
        _ => return None,
    })
}
