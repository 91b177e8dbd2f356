//! A GGUF file in parts, as `llama-gguf-split` and the converters cut large ones: `NAME-00001-of-00003.gguf` and so on.
//!
//! Each part is a GGUF file with its own tensors. It says which it is (`split.no`, from 0) and how many there are
//! (`split.count`); the first has the model's keys as well. Nothing but the names of the files leads from one to another.

use std::path::{Path, PathBuf};

use super::header::{Header, parse};
use crate::Error;
use crate::formats::map::Mapped;
use crate::formats::{Fault, Stored};

/// The name of a part, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// What comes before the numbers.
    model: String,
    /// Counted from 1.
    number: u64,
    count: u64,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (model, number) = rest.rsplit_once('-')?;
        let five = |digits: &str| {
            (digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse().ok())?
        };
        Some(Self { model: model.to_owned(), number: five(number)?, count: five(count)? })
    }

    fn file(&self, number: u64) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.model, self.count)
    }
}

/// What the model is called whose file, or whose part, this is: the name without its end and its numbers.
pub fn model_name(path: &Path) -> String {
    match Name::of(path) {
        Some(name) => name.model,
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Whether these are names of parts of one model.
pub(in crate::formats) fn are_of_one(paths: &[PathBuf]) -> bool {
    let model = |path: &PathBuf| Name::of(path).map(|name| (name.model, name.count));
    paths
        .first()
        .and_then(model)
        .is_some_and(|first| paths.iter().all(|path| model(path).as_ref() == Some(&first)))
}

/// A file, and what its header says.
pub(super) struct Part {
    pub(super) file: Mapped,
    pub(super) header: Header,
}

impl Part {
    fn open(path: &Path) -> Result<Self, Error> {
        let file = Mapped::open(path)?;
        let header = parse(&file.bytes).map_err(|fault| fault.of(path, 0))?;
        Ok(Self { file, header })
    }
}

/// The files of a model of which `path` is one: all its parts in their order, or itself. A header is read once: one with a
/// vocabulary holds hundreds of thousands of texts.
///
/// # Errors
/// A header that cannot be read, a name that does not say where the others are, and parts that are missing.
pub(super) fn all(path: &Path) -> Result<Vec<Part>, Error> {
    let own = Part::open(path)?;
    let count = own.header.get("split.count").and_then(super::Value::as_u64).unwrap_or(0);
    if count <= 1 {
        return Ok(vec![own]);
    }
    let name = Name::of(path).filter(|name| name.count == count && (1..=count).contains(&name.number));
    let Some(name) = name else {
        return Err(Error::Unsupported {
            path: path.to_owned(),
            what: format!(
                "is one of {count} parts (split.count), and its name does not say where the others are"
            ),
            hint: format!("give the parts their names again: NAME-00001-of-{count:05}.gguf and so on"),
        });
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let paths: Vec<PathBuf> = (1..=count).map(|number| folder.join(name.file(number))).collect();
    let missing: Vec<&PathBuf> = paths.iter().filter(|part| !part.is_file()).collect();
    if let Some(first) = missing.first() {
        return Err(Error::Unsupported {
            path: (*first).clone(),
            what: format!("is missing: {} of the {count} parts of this model are not there", missing.len()),
            hint: "put all parts into one folder, under the names that they came with".into(),
        });
    }
    let mut own = Some(own);
    let open = |(number, path): (u64, &PathBuf)| match own.take_if(|_| number == name.number) {
        Some(own) => Ok(own),
        None => Part::open(path),
    };
    (1..).zip(&paths).map(open).collect()
}

/// Whether these headers, in the order of their files, are those of one model: each the part that its place means, no
/// tensor in two of them, and as many tensors as the first says.
///
/// # Errors
/// Which part contradicts, and where.
pub fn check(headers: &[Header]) -> Result<(), (usize, Fault)> {
    let [first, others @ ..] = headers else { return Ok(()) };
    if others.is_empty() {
        return Ok(());
    }
    let number = |header: &Header, key: &str| header.get(key).and_then(super::Value::as_u64);
    for (place, header) in headers.iter().enumerate() {
        for (key, wanted) in [("split.no", place), ("split.count", headers.len())] {
            let found = number(header, key);
            if found != Some(wanted as u64) {
                let said = found.map_or("missing".to_owned(), |found| found.to_string());
                return Err((
                    place,
                    Fault::new(0, key, format!("is {said}, and the file's name means {wanted}")),
                ));
            }
        }
    }
    let mut seen = std::collections::BTreeMap::<&str, (usize, &Stored)>::new();
    for (place, tensor) in headers
        .iter()
        .enumerate()
        .flat_map(|(place, header)| header.tensors.iter().map(move |tensor| (place, tensor)))
    {
        if let Some((other, _)) = seen.insert(&tensor.stored.name, (place, &tensor.stored)) {
            let reason = format!("is in part {} as well", other + 1);
            return Err((place, Fault::new(tensor.entry, format!("tensor {}", tensor.stored.name), reason)));
        }
    }
    match number(first, "split.tensors.count") {
        Some(meant) if meant != seen.len() as u64 => {
            let reason = format!("is {meant}, and the parts hold {} tensors", seen.len());
            Err((0, Fault::new(0, "split.tensors.count", reason)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_told_from_others() {
        let name = |path: &str| Name::of(Path::new(path)).map(|name| (name.model, name.number, name.count));
        assert_eq!(name("a/llama-q4-00002-of-00003.gguf"), Some(("llama-q4".to_owned(), 2, 3)));
        for other in [
            "llama.gguf",
            "llama-2-of-3.gguf",
            "llama-00002-of-00003.bin",
            "-of-.gguf",
            "a-0000x-of-00003.gguf",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
        assert_eq!(model_name(Path::new("a/llama-00002-of-00003.gguf")), "llama");
        assert_eq!(model_name(Path::new("a/llama-3.2.gguf")), "llama-3.2");
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert!(are_of_one(&paths(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"])));
        assert!(!are_of_one(&paths(&["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"])));
        assert!(!are_of_one(&paths(&["a-00001-of-00002.gguf", "a.gguf"])));
    }
}
