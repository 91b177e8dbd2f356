//! From a path on the command line to a model that can talk: a run's folder, a model's, a GGUF file, or the name of a model
//! that was pulled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Engine, Speculative};
use hub::{Cache, Repository, Revision};
use kernels::gemm::Precision;
use kernels::isa;
use kernels::quant::Encoding;
use ledger::digest::Digest;
use ledger::progress::Progress;
use model::formats::{self, Format, Stored};
use model::infer::Llama;
use tokenizer::{AnyTokenizer, Tokenizer};

use crate::errors::Error;
use crate::recipe::{Given, Recipe};
use crate::vocabulary::Vocabulary;

/// A model's folder and what it is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder with `config.json`, Meta's folder, or the GGUF file.
    pub folder: PathBuf,
    /// The run's name, or the folder's.
    pub name: String,
    /// Whether it is a base model that was not tuned to talk.
    pub base: bool,
}

/// What a path on the command line means on the disk.
struct Local {
    path: PathBuf,
    /// The model's name, where it was pulled.
    name: Option<String>,
}

/// A path that exists, or the folder of a model that was pulled under this name (`owner/name`, `owner/name@revision`).
fn local(path: &Path) -> Result<Local, Error> {
    let given = path.to_string_lossy();
    let (name, revision) = given.split_once('@').unwrap_or((&given, "main"));
    let parsed = (name.parse::<Repository>().ok().zip(revision.parse::<Revision>().ok()))
        .filter(|(repository, _)| !path.exists() && repository.as_str().contains('/'));
    let Some((repository, revision)) = parsed else {
        return Ok(Local { path: path.to_owned(), name: None });
    };
    let pull = format!("`{} pull {repository}` fetches the model of this name", crate::program());
    let cache = Cache::shared()?;
    let Some(folder) = hub::cached(&cache, &repository, &revision) else {
        let pulled: Vec<String> = cache.repositories().iter().take(6).map(Repository::to_string).collect();
        let known = if pulled.is_empty() {
            String::new()
        } else {
            format!("; in the cache are {}", pulled.join(", "))
        };
        return Err(Error::Usage {
            message: format!("nothing exists at {given}, and no model of this name was pulled"),
            hint: format!("check the path; or {pull}{known}"),
        });
    };
    // Meta's layout lies in a folder of its own, where a repository has nothing else.
    let original = folder.join("original");
    let meta = !folder.join("config.json").is_file() && original.join("params.json").is_file();
    let path = if meta { original } else { folder };
    if !has_weights(&path) {
        return Err(Error::Usage {
            message: format!("{repository} is in the cache without its weights"),
            hint: format!("another program fetched a part of it; {pull}"),
        });
    }
    Ok(Local { path, name: Some(repository.name().to_owned()) })
}

fn has_weights(folder: &Path) -> bool {
    holds(folder, &["safetensors", "gguf", "pth"])
}

fn holds(folder: &Path, extensions: &[&str]) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|own| extensions.iter().any(|one| own == *one)))
}

/// The whole path, without links to a folder. A file keeps its own name, which links in a cache have and their ends have not.
fn whole(path: &Path) -> std::io::Result<PathBuf> {
    match (path.is_file(), path.parent(), path.file_name()) {
        (true, Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize()?.join(name))
        }
        _ => path.canonicalize(),
    }
}

/// Finds the model that `path` means: the folder itself, a run's tuned model or else its base model, or one that was
/// pulled under this name.
pub fn find(path: &Path) -> Result<Found, Error> {
    let local = local(path)?;
    let found = find_here(&local.path)?;
    Ok(Found { name: local.name.unwrap_or(found.name), ..found })
}

fn find_here(path: &Path) -> Result<Found, Error> {
    let full = whole(path).map_err(Error::io("open", path))?;
    let name =
        |folder: &Path| folder.file_name().map_or("model".to_owned(), |n| n.to_string_lossy().into_owned());
    let is_other =
        full.is_file() || (full.join("params.json").is_file() && !full.join("config.json").is_file());
    if is_other {
        let (_, folder) = formats::detect(&full)?;
        let called = if full.is_file() { formats::gguf::parts::model_name(&full) } else { name(&full) };
        return Ok(Found { folder, name: called, base: false });
    }
    if full.join("config.json").is_file() {
        let own = name(&full);
        let inside_run = matches!(own.as_str(), "aligned" | "base")
            && full.parent().is_some_and(|run| run.join("manifest.json").is_file());
        let called = if inside_run { full.parent().map_or(own.clone(), name) } else { own.clone() };
        return Ok(Found { base: inside_run && own == "base", name: called, folder: full });
    }
    for (part, base) in [("aligned", false), ("base", true)] {
        let folder = full.join(part);
        if folder.join("config.json").is_file() {
            return Ok(Found { folder, name: name(&full), base });
        }
    }
    if holds(&full, &["gguf"]) {
        let (_, file) = formats::detect(&full)?;
        return Ok(Found { name: formats::gguf::parts::model_name(&file), folder: file, base: false });
    }
    let (message, hint) = if full.join("manifest.json").is_file() {
        (
            format!("the run {} has no model yet", path.display()),
            format!(
                "`alti status {}` shows how far it is; `alti raise` with the same options continues it",
                path.display()
            ),
        )
    } else {
        (
            format!("{} is neither a run nor a model's folder", path.display()),
            "a run has manifest.json, a model's folder config.json or params.json; a GGUF file is a model too".to_owned(),
        )
    };
    Err(Error::Usage { message, hint })
}

/// The model that `path` means in whatever format: a run's, as [`find`] takes it, or what lies at the path itself.
pub fn model_path(path: &Path) -> Result<PathBuf, Error> {
    let path = local(path)?.path;
    if path.join("manifest.json").is_file() { Ok(find_here(&path)?.folder) } else { Ok(path) }
}

/// What a model is called that was pulled under the name that `path` is.
pub fn pulled_name(path: &Path) -> Option<String> {
    local(path).ok()?.name
}

/// Reads the model and its tokenizer.
pub fn load(
    found: &Found,
    precision: engine::Precision,
    progress: &dyn Progress,
) -> Result<(Arc<Llama>, Tokenizer), Error> {
    let checkpoint = formats::open(&found.folder)?;
    let tokenizer = match checkpoint.format() {
        Format::HuggingFace => Tokenizer::load(&found.folder)?,
        Format::Meta | Format::Gguf => Vocabulary::find(&checkpoint, progress).tokenizer(&found.folder)?,
    };
    if found.base {
        progress.warn("this is the base model: it continues text but was not tuned to answer");
    }
    let context = checkpoint.config().max_seq_len;
    let precision = resolve(precision, checkpoint.stored(), isa::bf16_pays());
    Ok((Arc::new(Llama::open(&checkpoint, precision, context)?), tokenizer))
}

/// What the kernels are asked for; `bf16_pays` on this processor.
fn resolve(wanted: engine::Precision, stored: &[Stored], bf16_pays: bool) -> Precision {
    // Norms are f32 in GGUF files, whatever the rest is.
    let matrices = || stored.iter().filter(|tensor| tensor.shape.len() > 1);
    let halves = |tensor: &Stored| matches!(tensor.encoding, Encoding::Bf16 | Encoding::F16);
    match wanted {
        engine::Precision::F32 => Precision::F32,
        engine::Precision::Bf16 => Precision::Bf16,
        engine::Precision::Auto if bf16_pays && matrices().all(halves) => Precision::Bf16,
        engine::Precision::Auto => Precision::F32,
    }
}

/// Starts an engine over a model, with the model that is to guess for it where the settings name one.
///
/// # Errors
/// A draft model that cannot be opened or has another vocabulary, or what [`Engine::start`] refuses.
pub fn engine(
    (llama, tokenizer): (Arc<Llama>, Tokenizer),
    settings: engine::Settings,
    progress: &dyn Progress,
) -> Result<Engine, Error> {
    let Speculative::Draft(path) = &settings.speculative else {
        return Ok(Engine::start(llama, tokenizer, settings)?);
    };
    let (draft, draft_tokenizer) = load(&find(path)?, settings.precision, progress)?;
    Ok(Engine::start_with_draft(llama, tokenizer, (draft, &draft_tokenizer), settings)?)
}

/// The section `[engine]` of [`recipe`].
///
/// # Errors
/// A recipe that cannot be read, or a setting that is wrong.
pub fn engine_settings(found: &Found, set: &[String]) -> Result<engine::Settings, Error> {
    Ok(recipe(found, set)?.engine)
}

/// The recipe that holds for a model: that of its run, if it belongs to one, with `set` on top.
///
/// # Errors
/// A recipe that cannot be read, or a setting that is wrong.
pub fn recipe(found: &Found, set: &[String]) -> Result<Recipe, Error> {
    let recipe = found.folder.parent().map(|run| run.join("recipe.toml")).filter(|path| path.is_file());
    Given::load(recipe.as_deref(), set)?.recipe()
}

/// The tokenizer that `path` means: a run's, a folder's or a file's. It need not be one that models are served with.
pub fn any_tokenizer(path: &Path) -> Result<AnyTokenizer, Error> {
    Ok(AnyTokenizer::load(&of_run(path))?)
}

/// The tokenizer that `path` means, of a kind that models are trained and served with, and the digest of its files.
///
/// # Errors
/// What is no tokenizer of Llama 3's form.
pub fn tokenizer(path: &Path) -> Result<(Tokenizer, Digest), Error> {
    Ok((Tokenizer::load(&of_run(path))?, tokenizer_digest(path)?))
}

/// The digest of a tokenizer's files, which are not understood for it.
///
/// # Errors
/// Files that cannot be read.
pub fn tokenizer_digest(path: &Path) -> Result<Digest, Error> {
    Ok(Digest::of_path(&of_run(path))?)
}

fn of_run(path: &Path) -> PathBuf {
    let inside = path.join("tokenizer");
    if inside.is_dir() { inside } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_halves_are_multiplied_in_bf16_where_that_is_faster() {
        use engine::Precision::{Auto, Bf16, F32};
        let tensor = |encoding, shape: &[usize]| Stored {
            name: "t".into(),
            shape: shape.to_vec(),
            encoding,
            file: 0,
            bytes: 0..0,
        };
        let norm = || tensor(Encoding::F32, &[8]);
        let of = |encodings: &[Encoding]| -> Vec<Stored> {
            encodings.iter().map(|&encoding| tensor(encoding, &[8, 8])).chain([norm()]).collect()
        };
        let halves = of(&[Encoding::Bf16, Encoding::F16]);
        assert_eq!(resolve(Auto, &halves, true), Precision::Bf16);
        assert_eq!(resolve(Auto, &halves, false), Precision::F32);
        assert_eq!(resolve(F32, &halves, true), Precision::F32);
        for other in [Encoding::F32, Encoding::Q8_0] {
            let mixed = of(&[Encoding::Bf16, other]);
            assert_eq!(resolve(Auto, &mixed, true), Precision::F32);
            assert_eq!(resolve(Bf16, &mixed, false), Precision::Bf16);
        }
    }

    #[test]
    fn runs_and_model_folders_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("llama");
        let touch = |path: &str| {
            let path = run.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        };
        assert!(find(&run).is_err());
        touch("manifest.json");
        assert!(find(&run).unwrap_err().hint().unwrap().contains("continues"));
        touch("base/config.json");
        let found = find(&run).unwrap();
        assert!(found.base && found.name == "llama" && found.folder.ends_with("llama/base"));
        touch("aligned/config.json");
        assert!(!find(&run).unwrap().base);
        touch("recipe.toml");
        std::fs::write(run.join("recipe.toml"), "[engine]\nmax_sequences = 3\nmax_queue = 4\n").unwrap();
        let settings = engine_settings(&found, &["engine.max_queue=5".to_owned()]).unwrap();
        assert_eq!((settings.max_sequences, settings.max_queue), (3, 5));
        assert!(engine_settings(&found, &["engine.max_sequences=0".to_owned()]).is_err());
        let direct = find(&run.join("base")).unwrap();
        assert_eq!((direct.name.as_str(), direct.base), ("llama", true));
    }
}
