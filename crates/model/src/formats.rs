//! Models on the disk: Hugging Face folders, Meta's folders and GGUF files, read through memory maps and written tensor
//! by tensor. One mapping leads from each to the canonical layout of [`crate::weights`].
//!
//! A reader parses its files to plain tables (names, shapes, places), checks them once, and hands over a
//! [`Checkpoint`]; nothing after that knows where the values came from. Files are taken for hostile: what they say about
//! themselves is checked before it is believed. The tokenizer's files are the tokenizer's business.
//!
//! | | Hugging Face | Meta | GGUF |
//! |---|---|---|---|
//! | rows of queries and keys | halves of a head (rotate-half) | pairs | pairs |
//! | stored | F32, F16, BF16 | F32, F16, BF16 | these and blocks |
//! | one tensor in several files | no | yes, by rows or by columns | no |
//! | in several files | shards and their index | shards | parts, which name one another |
//! | rope scaling | four numbers | one word | one factor for each frequency |
//! | a tied output layer | no tensor | the embedding once more | no tensor |

pub mod checkpoint;
mod kin;
mod map;
mod names;
pub mod storage;
mod stream;

pub mod gguf;
pub mod hf;
pub mod meta;

use std::path::{Path, PathBuf};

use crate::Error;
pub use checkpoint::{About, Checkpoint, Metadata, Stored};
pub use storage::Storage;
pub use stream::Tensors;

/// A kind of file or folder that holds a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `config.json` and `model.safetensors`, whole or in shards.
    HuggingFace,
    /// `params.json` and `consolidated.NN.pth`.
    Meta,
    /// One file for llama.cpp and all built on it, or its parts.
    Gguf,
}

impl Format {
    /// As it is called where people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face",
            Self::Meta => "Meta",
            Self::Gguf => "GGUF",
        }
    }
}

/// Which format `path` holds, and the file or folder that its reader takes.
///
/// # Errors
/// A path that holds no model, with what was looked for.
pub fn detect(path: &Path) -> Result<(Format, PathBuf), Error> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
    if metadata.is_file() {
        return detect_file(path);
    }
    if path.join("config.json").is_file() {
        return Ok((Format::HuggingFace, path.to_owned()));
    }
    if path.join("params.json").is_file() {
        return Ok((Format::Meta, path.to_owned()));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| Error::file(path, error))? {
        let file = entry.map_err(|error| Error::file(path, error))?.path();
        if file.extension().is_some_and(|extension| extension == "gguf") {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [file, others @ ..] if others.is_empty() || gguf::parts::are_of_one(&found) => {
            Ok((Format::Gguf, file.clone()))
        }
        [] => Err(Error::Unsupported {
            path: path.to_owned(),
            what: "holds no model: neither config.json nor params.json nor a .gguf file".into(),
            hint: "name a Hugging Face folder, a folder of Meta's, or a GGUF file".into(),
        }),
        [first, ..] => Err(Error::Unsupported {
            path: path.to_owned(),
            what: format!("holds {} GGUF files", found.len()),
            hint: format!("name one of them, such as {}", first.display()),
        }),
    }
}

fn detect_file(path: &Path) -> Result<(Format, PathBuf), Error> {
    use std::io::Read;
    let mut magic = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
    file.take(4).read_to_end(&mut magic).map_err(|error| Error::file(path, error))?;
    if magic == gguf::MAGIC {
        return Ok((Format::Gguf, path.to_owned()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hint = if name.ends_with(".safetensors") || name.ends_with(".pth") || name.ends_with(".json") {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        format!("name its folder: {}", folder.unwrap_or(Path::new(".")).display())
    } else {
        "name a Hugging Face folder, a folder of Meta's, or a GGUF file".into()
    };
    Err(Error::Unsupported { path: path.to_owned(), what: "is no GGUF file".into(), hint })
}

/// Opens a model of any of the formats: its configuration and tables are read and checked, its values are not touched.
pub fn open(path: &Path) -> Result<Checkpoint, Error> {
    match detect(path)? {
        (Format::HuggingFace, folder) => hf::open(&folder),
        (Format::Meta, folder) => meta::open(&folder),
        (Format::Gguf, file) => gguf::open(&file),
    }
}

/// A place in the bytes of a file that does not hold what its format says; [`Fault::of`] adds the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from the beginning of what was parsed.
    pub byte: u64,
    /// The tensor, the key or the part of the header.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it, where the bytes are sound and only not understood.
    pub remedy: Option<&'static str>,
}

impl Fault {
    pub(crate) fn new(byte: usize, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { byte: byte as u64, what: what.into(), reason: reason.into(), remedy: None }
    }

    /// The same of bytes that mean something which is not understood here.
    pub(crate) fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    /// The error for a file in which the parsed bytes begin at `start`.
    pub(crate) fn of(self, path: &Path, start: usize) -> Error {
        let Self { byte, what, reason, remedy } = self;
        let (path, byte) = (path.to_owned(), byte + start as u64);
        match remedy {
            None => Error::Damaged { path, byte, what, reason },
            Some(hint) => {
                Error::Unsupported { path, what: format!("byte {byte}: {what}: {reason}"), hint: hint.into() }
            }
        }
    }
}

/// What a file says of its model that would compute something else than Llama does.
fn unsupported(path: &Path, what: String) -> Error {
    Error::Unsupported {
        path: path.to_owned(),
        what,
        hint: "models of the Llama architecture are read: Llama 2, 3, 3.1, 3.2 (text) and 3.3, and those built like them"
            .into(),
    }
}

/// A model of a family of another name, with what is known to differ.
fn other_family(path: &Path, said: String, name: &str) -> Error {
    let what = match kin::difference(name) {
        Some(difference) => format!("{said}, a model that is no Llama: {difference}"),
        None => format!("{said}; \"llama\" is read, and in config.json \"mistral\""),
    };
    unsupported(path, what)
}
