//! The options of `alti curate` that judge documents: a Llama's ratings, and classifiers.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Let a Llama rate a sample of documents by a rubric.
#[derive(Debug, Args)]
#[command(
    long_about = "Let a Llama rate a sample of documents by a rubric, for a classifier to learn from.\n\n\
        The sample is chosen by a hash of each document, so that it is the same each time and a larger one begins with the \
        smaller. The judge is a model in this process (--model) or behind any endpoint of OpenAI's API (--endpoint, such as \
        that of `alti serve` or vLLM). Here the engine holds its answers to the form; endpoints are asked for it in the ways that they \
        understand, and what is not the form is asked for again and never guessed at.\n\n\
        Each rating is a line of OUT as soon as it is made: id, score, reason, rubric, model, source, url and the text as the judge \
        saw it. Stopped or killed and run again, the same command goes on with the documents that are left.\n\n\
        Built-in rubrics, each from 0 to 5: educational (FineWeb-Edu's additive scale), quality, code, reasoning, and nsfw, whose high \
        scores are what is not wanted. A file of TOML with name, least, most and text is one of your own.",
    after_long_help = "Examples:\n  \
        alti curate judge crawl.warc.gz --rubric educational --model Llama-3-8B-Instruct.gguf --out ratings.jsonl\n  \
        alti curate judge 'crawl/*.parquet' --sample 50000 --rubric quality --endpoint http://localhost:8000/v1 \\\n       \
        --concurrency 64 --out ratings.jsonl\n  \
        alti curate judge src --rubric mine.toml --endpoint https://api.example/v1 --api-key-file key --model llama-3-70b \\\n       \
        --price-in 0.6 --price-out 0.8 --out ratings.jsonl\n  \
        alti curate classifier train --ratings ratings.jsonl --threshold 3 --out educational"
)]
pub struct CurateJudge {
    /// A folder, a file, an address (s3://bucket/prefix) or a glob to read; `registry` means the crates that cargo downloaded to this machine.
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// The rubric: educational, quality, code, reasoning, nsfw, or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "educational")]
    pub rubric: String,
    /// The judge: a run, a model's folder, a GGUF file, or the name of a model that was pulled. With --endpoint the model's name
    /// there. [default there: its only one]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Ask the model behind this address, such as http://localhost:8080/v1.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// A file with the key for the endpoint.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    pub api_key_file: Option<PathBuf>,
    /// The file of ratings, which is continued if it exists.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Documents to rate.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub sample: NonZeroUsize,
    /// Characters of a document that the judge sees, from its beginning.
    #[arg(long, value_name = "N", default_value = "3000")]
    pub characters: NonZeroUsize,
    /// What the choice of documents follows from.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Documents that are judged at once.
    #[arg(long, value_name = "N", default_value = "8")]
    pub concurrency: NonZeroUsize,
    /// How often a document is asked about until the answer is one.
    #[arg(long, value_name = "N", default_value = "3")]
    pub attempts: NonZeroU32,
    /// Seconds that an endpoint may take for an answer.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub timeout: NonZeroU64,
    /// What a million tokens of prompt cost, for the account.
    #[arg(long, value_name = "PRICE", requires = "price_out")]
    pub price_in: Option<f64>,
    /// What a million tokens of answer cost.
    #[arg(long, value_name = "PRICE", requires = "price_in")]
    pub price_out: Option<f64>,
    /// One setting of the engine, such as engine.max_sequences=16; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "endpoint")]
    pub set: Vec<String>,
}

/// Train classifiers of documents, for quality, code, reasoning or what is not wanted.
#[derive(Debug, Subcommand)]
pub enum CurateClassifier {
    Train(ClassifierTrain),
}

/// Train a linear n-gram classifier on labelled documents.
#[derive(Debug, Args)]
#[command(
    long_about = "Train a linear n-gram classifier on labelled documents, by fastText's supervised method.\n\n\
        Labels come from where documents lie (--positive and --negative, or --label for more than two), from ratings \
        (--ratings, as `alti curate judge` writes them), or from what somebody refers to (--references, a file of addresses or \
        hosts, such as those that Wikipedia cites, over the documents of --source). A part is held out by a hash of each text; \
        precision, recall, F1, AUC, calibration and a table of thresholds on it are printed and written to classifier.json. \
        The same documents and seed give the same classifier, whatever the threads.\n\n\
        OUT/model.bin is a fastText model, which fastText reads too. In a recipe, [curate.classifiers.NAME] with path = \"OUT\" \
        writes the score into the column score_NAME, and min_score, max_score or pareto_alpha remove documents by it.\n\n\
        Documents are read as `alti raise` reads them; nothing is filtered.",
    after_long_help = "Examples:\n  \
        alti curate classifier train --positive books 'wiki/*.jsonl.zst' --negative crawl.warc.gz --out quality\n  \
        alti curate classifier train --ratings ratings.jsonl --threshold 3 --out educational\n  \
        alti curate classifier train --references cited.txt --source 'crawl/*.warc.gz' --out cited\n  \
        alti curate classifier train --label rust=src --label prose=notes --label data=tables --out kinds\n  \
        alti raise --source crawl --set 'curate.classifiers.quality={path=\"quality\", min_score=0.3}'"
)]
pub struct ClassifierTrain {
    /// Documents that have what the classifier looks for.
    #[arg(long, value_name = "SOURCE", num_args = 1.., requires = "negative")]
    pub positive: Vec<String>,
    /// Documents that do not have it.
    #[arg(long, value_name = "SOURCE", num_args = 1.., requires = "positive")]
    pub negative: Vec<String>,
    /// Documents of one label of several, as LABEL=SOURCE; repeated.
    #[arg(
        long = "label",
        value_name = "LABEL=SOURCE",
        value_parser = labelled,
        conflicts_with_all = ["positive", "negative", "ratings", "references"]
    )]
    pub labels: Vec<(String, String)>,
    /// Rated texts: JSON lines with a text and a number as its score.
    #[arg(long, value_name = "FILE")]
    pub ratings: Option<PathBuf>,
    /// The least rating of a positive text.
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub threshold: f64,
    /// A file of addresses or hosts, one a line: documents of --source are positive where their address is among them, and
    /// negative elsewhere.
    #[arg(long, value_name = "FILE", requires = "source")]
    pub references: Option<PathBuf>,
    /// Documents that --references parts in two.
    #[arg(long, value_name = "SOURCE", num_args = 1.., requires = "references")]
    pub source: Vec<String>,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The label whose probability is a document's score. [default: positive, or the first --label]
    #[arg(long, value_name = "LABEL")]
    pub score: Option<String>,
    /// Numbers in the vector of a word or n-gram. fastText takes 100; two labels need no more than a few.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub dimension: u32,
    /// Times that each text is seen.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub epochs: u32,
    /// The learning rate at the beginning; it falls linearly to 0.
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub learning_rate: f64,
    /// Words of the longest n-gram; 1 takes words alone.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub word_ngrams: u32,
    /// Characters of the shortest n-gram within words.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub min_chars: u32,
    /// Characters of the longest n-gram within words; 0 takes none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_chars: u32,
    /// Rows for hashed n-grams. [default: 2000000, or as many as there are n-grams of words if these are fewer]
    #[arg(long, value_name = "N")]
    pub buckets: Option<u32>,
    /// Words with vectors of their own, the most frequent.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub max_words: u32,
    /// Share of the texts that is held out and measured on.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub held_out: f64,
    /// What the order of the texts and the choice of those held out follow from.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}

fn labelled(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(label, source)| !label.is_empty() && !source.is_empty());
    let (label, source) = parts.ok_or("write a label and a source, such as code=src")?;
    Ok((label.to_owned(), source.to_owned()))
}
