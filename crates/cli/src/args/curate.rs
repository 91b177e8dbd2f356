//! The options of `alti curate`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::cluster::{CurateExecutor, CurateScheduler, CurateSql, OnCluster};
use super::judge::{CurateClassifier, CurateJudge};
use super::train_tokenizer::size;

/// What `alti curate` does beside curating. A source of such a name is given as `./judge`.
#[derive(Debug, Subcommand)]
pub enum CurateWhat {
    Judge(CurateJudge),
    #[command(subcommand)]
    Classifier(CurateClassifier),
    Report(CurateReport),
    Scheduler(CurateScheduler),
    Executor(CurateExecutor),
    Sql(CurateSql),
}

/// Write a page about curated documents: what they are, and what each step removed.
#[derive(Debug, Args)]
#[command(
    long_about = "Write a page about curated documents: the funnel with each step's reasons, papers and bounds; languages; hosts; \
        lengths; scores; clusters of duplicates; samples of what was kept and of what each step removed; what could not be read. \
        It is one file that needs no network, and no script but for the search in the samples.\n\n\
        Documents are read in a stream on all processors, so they may be larger than the memory. A damaged file is named on the \
        page and left out. The same folder gives the same page.",
    after_long_help = "Examples:\n  \
        alti curate report documents\n  \
        alti curate report runs/tiny --out tiny.html --samples 50 --seed 7"
)]
pub struct CurateReport {
    /// The folder that `alti curate` wrote, or a run.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    pub out: PathBuf,
    /// Documents to show of those kept, and of those that each step removed.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = samples)]
    pub samples: usize,
    /// Which documents are shown: another number, other documents.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Memory for counting hosts, beyond which they are counted on the disk.
    #[arg(long, value_name = "SIZE", default_value = "1GB", value_parser = size)]
    pub memory: u64,
    /// Threads that read. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// A page that a browser still opens.
fn samples(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
    if number <= 1000 {
        Ok(number)
    } else {
        Err("more than 1000 of each make a page that is too large".to_owned())
    }
}

/// Turn raw pages, tables and files into documents to train on; let a Llama judge them.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    long_about = "Turn raw pages, tables and files into documents to train on: Parquet, one row a document, with an account of \
        what was removed and why.\n\n\
        Read are folders, files and globs of WARC, WET, HTML, JSONL, Parquet, text and code, packed with gzip or zstd too, from disks, \
        from object stores (s3://bucket/prefix, gs://, az://, abfss://; globs too) and from web servers (https://host/file). The main \
        text of pages is extracted, languages are told, documents filtered by the rules of Gopher, C4 and FineWeb, personal data \
        replaced, and duplicates removed by address, by text and by MinHash, and where a model is named for it by meaning. The rules are those of a recipe's [curate] \
        section, as `alti raise` has them.\n\n\
        The work keeps to --memory: what is sorted and compared spills to the work folder. Killed at any moment and run again, \
        the same command goes on from there, and ends with the same bytes. The work folder stays, with the extracted texts, so \
        that after a change of a rule only what depends on it is done again; remove it once no rule will change any more.\n\n\
        With --cluster other machines read and filter, which is nearly all of the work, and the output is the same to the byte: see \
        `alti curate scheduler --help`.",
    after_long_help = "Examples:\n  \
        alti curate 'crawl/*.warc.gz' --out documents\n  \
        alti curate 's3://bucket/crawl/*.warc.gz' https://example.org/dump.jsonl.zst --out documents\n  \
        alti curate notes dump.jsonl.zst --out documents --memory 16GB --seed 7\n  \
        alti curate 'crawl/*.warc.gz' --out documents --set 'curate.language.keep=[\"en\"]'\n  \
        alti curate crawl --out documents --recipe recipes/tiny.toml --discard-work\n  \
        alti curate crawl --out documents --set curate.semantic.enabled=true --set 'curate.semantic.model=\"runs/mine\"'\n  \
        alti curate '/data/crawl/*.warc.gz' --out documents --cluster 10.0.0.7:50050\n  \
        alti curate sql 'select lang, count(*) from documents group by lang' documents"
)]
pub struct Curate {
    #[command(subcommand)]
    pub what: Option<CurateWhat>,
    /// A folder, a file, an address or a glob to read; `registry` means the crates that cargo downloaded to this machine.
    /// Stores are entered by the credentials of their own tools: AWS_PROFILE and its kin, GOOGLE_APPLICATION_CREDENTIALS,
    /// AZURE_STORAGE_ACCOUNT_NAME and its kin.
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// The folder to write; what is there is replaced, at the end.
    #[arg(long, value_name = "DIR", required = true)]
    pub out: Option<PathBuf>,
    /// A recipe, of which the section [curate] and the seed count.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// One setting, as in a recipe: curate.key=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Memory to keep to, such as 512MB or 16GB.
    #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = size)]
    pub memory: u64,
    /// The seed that the held-out part and the limits follow from. [default: the recipe's, else 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads that work, beside the one that reads. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// The folder in which the work goes on after a kill. [default: OUT.work]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Remove the work folder at the end, and do not keep extracted texts in it.
    #[arg(long)]
    pub discard_work: bool,
    /// Text, pages as they are, after which what was made is put on the disk: the most that a kill can cost.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = size)]
    pub checkpoint: u64,
    /// Print the funnel as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub on: OnCluster,
}

/// Measure how long each stage of curation takes a core.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure how long each stage of curation takes a core: reading, each step over documents, and each pass over the \
        corpus, in documents and in megabytes a second of what the stage was given.\n\n\
        The sources are curated as `alti curate` does it, on one thread, once a round; what comes out is removed again. Nothing \
        else should run on the machine meanwhile.",
    after_long_help = "Examples:\n  \
        alti bench curate crawl.warc.gz\n  \
        alti bench curate crawl.warc.gz --recipe recipes/tiny.toml --set curate.minhash.bands=20\n  \
        alti bench curate dump.jsonl.zst --json | jq '.stages[] | [.name, .documents_per_second]'"
)]
pub struct BenchCurate {
    /// A folder, a file or a glob to read.
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// A recipe, of which the section [curate] counts.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// One setting, as in a recipe: curate.key=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How often the sources are curated; the median of each stage counts.
    #[arg(long, default_value = "3", value_name = "N")]
    pub rounds: NonZeroU32,
    /// Memory to keep to, such as 512MB or 16GB.
    #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = size)]
    pub memory: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}
