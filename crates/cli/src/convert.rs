//! `alti convert`: a model from one format to another, tensor by tensor, with its vocabulary.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kernels::quant::Encoding;
use ledger::atomic::AtomicDir;
use ledger::progress::Progress;
use model::formats::hf::SaveOptions;
use model::formats::{self, Checkpoint, Format, Storage, gguf, hf, meta};

use crate::args::{Convert, To};
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{bytes, duration};
use crate::vocabulary::Vocabulary;

/// `alti convert`.
pub fn convert(args: &Convert, shown: &Shown) -> Result<(), Error> {
    let begun = Instant::now();
    let to = target(args)?;
    if args.out.exists() {
        return Err(Error::Usage {
            message: format!("{} is there already", args.out.display()),
            hint: "name another, or remove it first".into(),
        });
    }
    let checkpoint = formats::open(&open::model_path(&args.from)?)?;
    let vocabulary = Vocabulary::find(&checkpoint, shown);
    match to {
        Format::Gguf => write_gguf(args, &checkpoint, &vocabulary, shown)?,
        format => write_folder(args, format, &checkpoint, &vocabulary, shown)?,
    }
    let (before, after) = (size_of_model(&checkpoint), size_of(&args.out)?);
    shown.line(&format!(
        "{}: {} of {}, from {} of {}, in {}",
        args.out.display(),
        bytes(after),
        to.name(),
        bytes(before),
        checkpoint.format().name(),
        duration(begun.elapsed().as_secs_f64())
    ));
    Ok(())
}

fn target(args: &Convert) -> Result<Format, Error> {
    match args.to {
        Some(To::Hf) => Ok(Format::HuggingFace),
        Some(To::Meta) => Ok(Format::Meta),
        Some(To::Gguf) => Ok(Format::Gguf),
        None if args.out.extension().is_some_and(|extension| extension == "gguf") => Ok(Format::Gguf),
        None => Err(Error::Usage {
            message: format!("{} does not say which format it is to be", args.out.display()),
            hint: "add --to hf, --to gguf or --to meta".into(),
        }),
    }
}

fn write_gguf(
    args: &Convert,
    checkpoint: &Checkpoint,
    vocabulary: &Vocabulary,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut keys = vec![("general.name".to_owned(), gguf::Value::String(name(args, checkpoint)))];
    keys.extend(vocabulary.gguf_keys(checkpoint.config().vocab_size)?);
    Ok(gguf::write(&args.out, checkpoint, args.quantize, &keys, progress)?)
}

fn write_folder(
    args: &Convert,
    format: Format,
    checkpoint: &Checkpoint,
    vocabulary: &Vocabulary,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let storage = args.quantize.unwrap_or_else(|| plain_storage(checkpoint));
    let staged = AtomicDir::create(&args.out)?;
    if format == Format::Meta {
        meta::write(staged.path(), checkpoint, storage, progress)
            .map_err(|error| named(error, &staged, args))?;
    } else {
        let about = checkpoint.about();
        let (bos, eos) = vocabulary.ends().unwrap_or_default();
        let options = SaveOptions {
            storage,
            bos_token_id: about.bos_token_id.unwrap_or(bos),
            eos_token_ids: if about.eos_token_ids.is_empty() { eos } else { about.eos_token_ids.clone() },
            shard_bytes: args.shard_bytes,
        };
        hf::write(staged.path(), checkpoint, &options, progress)
            .map_err(|error| named(error, &staged, args))?;
    }
    vocabulary.write(staged.path(), format, checkpoint.path(), progress)?;
    Ok(staged.commit()?)
}

/// Errors name the folder that was asked for, not the one in the making.
fn named(error: model::Error, staged: &AtomicDir, args: &Convert) -> model::Error {
    match error {
        model::Error::Unsupported { path, what, hint } if path.starts_with(staged.path()) => {
            model::Error::Unsupported { path: args.out.clone(), what, hint }
        }
        other => other,
    }
}

/// What the model is stored as, if most of its values are plain; else bf16.
fn plain_storage(checkpoint: &Checkpoint) -> Storage {
    let values = |encoding: Encoding| -> usize {
        let those = checkpoint.stored().iter().filter(|stored| stored.encoding == encoding);
        those.map(|stored| stored.values()).sum()
    };
    let most = Encoding::ALL.into_iter().max_by_key(|encoding| values(*encoding));
    match most {
        Some(Encoding::F32) => Storage::F32,
        Some(Encoding::F16) => Storage::F16,
        _ => Storage::Bf16,
    }
}

/// What a GGUF file calls its model.
fn name(args: &Convert, checkpoint: &Checkpoint) -> String {
    let own = args.name.clone().or_else(|| checkpoint.about().name.clone());
    let own = own.or_else(|| open::pulled_name(&args.from));
    own.unwrap_or_else(|| {
        let full = checkpoint.path().canonicalize().unwrap_or_default();
        let folder = full.file_name().map(|name| name.to_string_lossy().into_owned());
        // A run's folders have one name in every run.
        match folder.as_deref() {
            Some("base" | "aligned") => {
                let run = full
                    .parent()
                    .and_then(Path::file_name)
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                format!("{run} {}", folder.unwrap_or_default())
            }
            _ => folder.unwrap_or_else(|| "model".into()),
        }
    })
}

/// Bytes of the files that hold the values.
pub fn size_of_model(checkpoint: &Checkpoint) -> u64 {
    checkpoint.files().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn size_of(path: &Path) -> Result<u64, Error> {
    let metadata = path.metadata().map_err(Error::io("read", path))?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut total = 0;
    for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
        let file: PathBuf = entry.map_err(Error::io("list", path))?.path();
        total += file.metadata().map_err(Error::io("read", &file))?.len();
    }
    Ok(total)
}
