//! Questions to a curated folder in SQL, answered by DataFusion in this process. Tables are what the folder holds:
//! `documents` (for training), `heldout`, and `removed` (the samples of what each step removed). Nothing can be changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{
    DataFrame, JsonReadOptions, ParquetReadOptions, SQLOptions, SessionConfig, SessionContext, col, lit,
};
use futures::StreamExt;
use serde_json::Value;

use crate::Error;
use crate::scheduler::runtime;

/// A question.
#[derive(Clone, Debug)]
pub struct SqlOptions<'a> {
    /// The folder that curation wrote.
    pub folder: &'a Path,
    /// One `select`, or `describe documents`, `show tables`, `explain select …`.
    pub query: &'a str,
    /// Bytes of memory to keep to, about: what is sorted, grouped and joined spills beyond to a folder for temporary files.
    pub memory: u64,
}

/// Where an answer goes.
pub trait Answer {
    /// The names of the columns; comes first, and whether each holds numbers.
    fn columns(&mut self, columns: &[(String, bool)]) -> std::io::Result<()>;

    /// A row, a value a column.
    fn row(&mut self, row: Vec<Value>) -> std::io::Result<()>;
}

/// Answers a question, row by row.
///
/// # Errors
/// [`Error::NoDocuments`]; [`Error::Query`] for what is no question, or asks for what is not there, and where memory does
/// not suffice; what `answer` returns is passed on as [`Error::Part`].
pub fn sql(options: &SqlOptions, answer: &mut dyn Answer) -> Result<(), Error> {
    runtime()?.block_on(async {
        let context = tables(options).await?;
        let wanted =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let found = match context.sql_with_options(options.query, wanted).await {
            Ok(found) => found,
            Err(error) => return Err(explain(&context, &error).await),
        };
        let fields = found.schema().as_arrow().clone();
        let columns: Vec<(String, bool)> = fields
            .fields()
            .iter()
            .map(|field| (field.name().clone(), field.data_type().is_numeric()))
            .collect();
        answer.columns(&columns).map_err(written)?;
        let mut rows = match found.execute_stream().await {
            Ok(rows) => rows,
            Err(error) => return Err(explain(&context, &error).await),
        };
        while let Some(batch) = rows.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Err(explain(&context, &error).await),
            };
            for row in values(&batch)? {
                answer.row(row).map_err(written)?;
            }
        }
        Ok(())
    })
}

fn written(error: std::io::Error) -> Error {
    Error::Part { operation: "write the answer", reason: error.to_string() }
}

/// The rows of a batch as JSON has values; the columns get numbers for names, since two may be called alike.
fn values(batch: &RecordBatch) -> Result<Vec<Vec<Value>>, Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::part("write the answer")(error);
    let named = |(index, field): (usize, &Arc<Field>)| field.as_ref().clone().with_name(index.to_string());
    let schema = Schema::new(batch.schema_ref().fields().iter().enumerate().map(named).collect::<Vec<_>>());
    let batch = RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec())
        .map_err(|error| failed(Box::new(error)))?;
    let mut bytes = Vec::new();
    {
        let mut writer: LineDelimitedWriter<_> =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
        writer.write(&batch).and_then(|()| writer.finish()).map_err(|error| failed(Box::new(error)))?;
    }
    let rows = serde_json::Deserializer::from_slice(&bytes).into_iter::<serde_json::Map<String, Value>>();
    rows.map(|row| {
        Ok(row.map_err(|error| failed(Box::new(error)))?.into_iter().map(|(_, value)| value).collect())
    })
    .collect()
}

/// A context with the tables of the folder.
async fn tables(options: &SqlOptions<'_>) -> Result<SessionContext, Error> {
    let failed = |error: DataFusionError| Error::Query { reason: plain(&error), hint: None };
    let pool = Arc::new(FairSpillPool::new(usize::try_from(options.memory).unwrap_or(usize::MAX)));
    let environment = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().map_err(failed)?;
    let config = SessionConfig::new().with_information_schema(true);
    let context = SessionContext::new_with_config_rt(config, environment);
    let mut found = false;
    for (table, prefix) in [("documents", "train-"), ("heldout", "heldout-")] {
        let files = files(options.folder, |name| name.starts_with(prefix) && name.ends_with(".parquet"))?;
        if !files.is_empty() {
            found = true;
            let paths: Vec<String> = files.iter().map(|path| url(path)).collect();
            let frame = context.read_parquet(paths, ParquetReadOptions::default()).await.map_err(failed)?;
            context.register_table(table, frame.into_view()).map_err(failed)?;
        }
    }
    if !found {
        return Err(Error::NoDocuments { path: options.folder.to_owned() });
    }
    if let Some(frame) = removed(&context, options.folder).await.map_err(failed)? {
        context.register_table("removed", frame.into_view()).map_err(failed)?;
    }
    Ok(context)
}

/// The samples of all steps, with the step's name.
async fn removed(context: &SessionContext, folder: &Path) -> Result<Option<DataFrame>, DataFusionError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Schema::new(vec![
        text("reason"),
        text("paper"),
        Field::new("value", DataType::Float64, true),
        Field::new("limit", DataType::Float64, true),
        text("id"),
        text("source"),
        text("url"),
        text("lang"),
        Field::new("bytes", DataType::UInt64, true),
        text("text"),
        text("part"),
    ]);
    let mut all: Option<DataFrame> = None;
    for path in files(&folder.join("removed"), |name| name.ends_with(".jsonl")).unwrap_or_default() {
        let step = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let options =
            JsonReadOptions { schema: Some(&schema), file_extension: ".jsonl", ..Default::default() };
        let names = schema.fields().iter().map(|field| col(format!("\"{}\"", field.name())));
        let columns: Vec<_> = std::iter::once(lit(step).alias("step")).chain(names).collect();
        let frame = context.read_json(url(&path), options).await?.select(columns)?;
        all = Some(match all {
            None => frame,
            Some(others) => others.union(frame)?,
        });
    }
    Ok(all)
}

/// The files of a folder with such names, sorted.
fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let none = || Error::NoDocuments { path: folder.to_owned() };
    let entries = std::fs::read_dir(folder).map_err(|_| none())?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .filter_map(|entry| std::path::absolute(entry.path()).ok())
        .collect();
    files.sort();
    Ok(files)
}

/// A path as the engine takes it literally: without a scheme it would look for patterns in it.
fn url(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                url.push(byte.into())
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// What the engine says, and what a person can do about it.
async fn explain(context: &SessionContext, error: &DataFusionError) -> Error {
    let root = error.find_root();
    let hint = match root {
        DataFusionError::SQL(..) => Some(
            "write SQL such as: select lang, count(*) from documents group by lang order by 2 desc"
                .to_owned(),
        ),
        DataFusionError::ResourcesExhausted(_) => {
            Some("give more --memory, or ask for less at once: fewer columns, or a limit".to_owned())
        }
        DataFusionError::Plan(reason) if reason.contains("not supported:") => {
            Some("only questions are answered; the folder is not changed".to_owned())
        }
        _ => Some(format!("there are {}", describe(context).await)),
    };
    Error::Query { reason: plain(error), hint }
}

/// What the engine says, without where in its own code it says so.
fn plain(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
    text.trim_end().replace("datafusion.public.", "")
}

/// `documents (id, text, …), removed (step, …)`.
async fn describe(context: &SessionContext) -> String {
    let mut tables = Vec::new();
    for name in ["documents", "heldout", "removed"] {
        if let Ok(table) = context.table(name).await {
            let columns: Vec<&str> =
                table.schema().fields().iter().map(|field| field.name().as_str()).collect();
            tables.push(format!("{name} ({})", columns.join(", ")));
        }
    }
    tables.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_literally() {
        assert_eq!(url(Path::new("/a b/[x]*é?.parquet")), "file:///a%20b/%5Bx%5D%2A%C3%A9%3F.parquet");
    }
}
