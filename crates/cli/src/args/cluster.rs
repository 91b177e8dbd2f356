//! The options of `alti curate` for several machines, and of `alti curate sql`.

#![cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "a build without the feature knows the options, and says that")
)]

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::train_tokenizer::size;

/// Who does the first pass of `alti curate`.
#[derive(Debug, Args)]
pub struct OnCluster {
    /// Have documents read and filtered by the executors of this scheduler (a build with the feature `cluster`).
    #[arg(long, value_name = "HOST:PORT")]
    pub cluster: Option<String>,
    /// Sources, as they lie on the disk, that make a portion for an executor; a larger file is one of its own.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size, requires = "cluster")]
    pub cluster_portion: u64,
    /// Portions that are given out at once, or whose results wait on the executors: twice the executors' slots keep them busy.
    #[arg(long, value_name = "N", default_value = "64", requires = "cluster")]
    pub cluster_portions: NonZeroUsize,
}

/// Run the scheduler of a cluster that curates.
#[derive(Debug, Args)]
#[command(
    long_about = "Run the scheduler of a cluster that curates: it gives portions of the work to executors, and those of a lost \
        executor to others. It reads no documents. One is enough for any number of executors and curations.\n\n\
        It ends on Ctrl-C or SIGTERM; curations wait a minute for another one at the same address.\n\n\
        Whoever reaches the port can have files read by the executors: keep it within a network that you trust.",
    after_long_help = "Examples:\n  \
        alti curate scheduler\n  \
        alti curate scheduler --bind 10.0.0.7:50050\n  \
        alti curate executor --scheduler 10.0.0.7:50050\n  \
        alti curate '/data/crawl/*.warc.gz' --out documents --cluster 10.0.0.7:50050"
)]
pub struct CurateScheduler {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:50050")]
    pub bind: String,
    /// The name under which executors reach this machine. [default: the host of --bind, or the machine's own name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Seconds after which an executor that was not heard of is lost; executors tell every 2 that they live.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub executor_timeout: NonZeroU64,
}

/// Run an executor of a cluster that curates.
#[derive(Debug, Args)]
#[command(
    long_about = "Run an executor of a cluster that curates: it reads and filters portions of the sources, and keeps the results \
        until they are fetched.\n\n\
        Sources, lists and classifiers must lie under the same paths as where the curation was begun; what is missing or differs \
        is an error that names the file. It must be the same file of this program as the scheduler's, or it is refused: another \
        build may filter otherwise.\n\n\
        It ends on Ctrl-C or SIGTERM, and what it has in hand is done by others. Killed at any moment, it loses nothing either.",
    after_long_help = "Examples:\n  \
        alti curate executor --scheduler 10.0.0.7:50050\n  \
        alti curate executor --scheduler 10.0.0.7:50050 --bind 10.0.0.8:50060 --slots 16 --work /scratch/alti"
)]
pub struct CurateExecutor {
    /// The scheduler.
    #[arg(long, value_name = "HOST:PORT")]
    pub scheduler: String,
    /// Where to listen: at this port and the next one; port 0 takes free ones.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:0")]
    pub bind: String,
    /// The name under which others reach this machine. [default: the address from which it speaks to the scheduler]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Portions that are done at once, each by a thread that works and one that reads. [default: all processors]
    #[arg(long, value_name = "N")]
    pub slots: Option<NonZeroUsize>,
    /// Where results lie until they are fetched. [default: a folder for temporary files, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
}

/// Ask curated documents a question in SQL.
#[derive(Debug, Args)]
#[command(
    long_about = "Ask curated documents a question in SQL (a build with the feature `cluster`).\n\n\
        Tables are what the folder holds: documents (for training) and heldout, with the columns id, text, url, source, date, lang, \
        lang_score, quality, token_count and score_NAME for each classifier; and removed, samples of what each step removed, with \
        step, reason, paper, value, \"limit\", id, source, url, lang, bytes, text and part. `describe documents` tells their types. \
        The dialect is DataFusion's, which follows PostgreSQL's. Nothing is changed.",
    after_long_help = "Examples:\n  \
        alti curate sql 'select lang, count(*) from documents group by lang order by 2 desc' documents\n  \
        alti curate sql 'select url, quality from documents where quality < 0.1 order by quality limit 20' documents\n  \
        alti curate sql 'select step, reason, count(*) from removed group by 1, 2 order by 3 desc' documents\n  \
        alti curate sql \"select text from removed where step = 'c4' limit 3\" documents --format json | jq -r .text\n  \
        alti curate sql 'describe documents' documents"
)]
pub struct CurateSql {
    /// The question.
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// The folder that `alti curate --out` wrote.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
    /// How to write the answer: a table for people, CSV, or JSON, an object a line.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub format: Format,
    /// Memory to keep to, such as 512MB or 16GB.
    #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = size)]
    pub memory: u64,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns; long values are cut.
    Table,
    /// Values separated by commas, names first.
    Csv,
    /// An object a line.
    Json,
}
