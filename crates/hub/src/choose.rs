//! Which files of a repository make a model, so that nothing is fetched twice over in two formats.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::listing::Remote;
use crate::{Error, Repository};

/// Places of the files that are taken, and of those that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// In the hub's order.
    pub taken: Vec<usize>,
    /// Likewise.
    pub left: Vec<usize>,
}

/// Small files that a model in a Hugging Face folder needs or is described by.
const COMPANIONS: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
    "params.json",
];

/// Chooses by globs, together with the companions of what they choose; without any, in this order: safetensors in the
/// folder itself, one GGUF model, Meta's shards.
pub(crate) fn choose(files: &[Remote], include: &[String], repository: &Repository) -> Result<Choice, Error> {
    let taken =
        if include.is_empty() { by_kind(files, repository)? } else { by_globs(files, include, repository)? };
    let left = (0..files.len()).filter(|index| !taken.contains(index)).collect();
    Ok(Choice { taken, left })
}

fn by_globs(files: &[Remote], include: &[String], repository: &Repository) -> Result<Vec<usize>, Error> {
    let globs = globs(include)?;
    let matched = |file: &Remote| globs.is_match(&file.path);
    if !files.iter().any(matched) {
        let names: Vec<&str> = files.iter().take(12).map(|file| file.path.as_str()).collect();
        let more = if files.len() > names.len() { ", …" } else { "" };
        return Err(Error::Choice {
            repository: repository.to_string(),
            reason: format!("has no file that {} means", include.join(" or ")),
            hint: format!("its files are {}{more}", names.join(", ")),
        });
    }
    // A GGUF file holds everything; what is chosen otherwise is of no use without its companions.
    let whole = files.iter().filter(|file| matched(file)).all(|file| is_gguf(&file.path));
    let taken = |file: &Remote| matched(file) || (!whole && COMPANIONS.contains(&file.path.as_str()));
    Ok((0..files.len()).filter(|&index| taken(&files[index])).collect())
}

fn globs(include: &[String]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for text in include {
        let glob = GlobBuilder::new(text)
            .build()
            .map_err(|error| Error::Glob { given: text.clone(), reason: error.kind().to_string() })?;
        set.add(glob);
    }
    set.build().map_err(|error| Error::Glob { given: include.join(" "), reason: error.to_string() })
}

fn is_gguf(path: &str) -> bool {
    path.ends_with(".gguf")
}

fn by_kind(files: &[Remote], repository: &Repository) -> Result<Vec<usize>, Error> {
    let here = |file: &&Remote| !file.path.contains('/');
    let safetensors = |file: &&Remote| file.path.ends_with(".safetensors");
    let canonical = |file: &&Remote| here(file) && safetensors(file) && file.path.starts_with("model");
    if files.iter().any(|file| here(&file) && safetensors(&file)) {
        // Beside `model*.safetensors` some have the same weights once more, as `consolidated.safetensors`.
        let canon = files.iter().any(|file| canonical(&file));
        return Ok(places(files, |file| {
            let weights = if canon { canonical(&file) } else { here(&file) && safetensors(&file) };
            weights || COMPANIONS.contains(&file.path.as_str())
        }));
    }
    let ggufs: Vec<&Remote> = files.iter().filter(|file| is_gguf(&file.path)).collect();
    if let Some(first) = ggufs.first() {
        let model = parts_of(&first.path);
        if ggufs.iter().all(|file| parts_of(&file.path) == model) {
            return Ok(places(files, |file| is_gguf(&file.path)));
        }
        let names: Vec<&str> = ggufs.iter().take(8).map(|file| file.path.as_str()).collect();
        let more = if ggufs.len() > names.len() { ", …" } else { "" };
        return Err(Error::Choice {
            repository: repository.to_string(),
            reason: format!("holds {} GGUF files, which are several models", ggufs.len()),
            hint: format!("choose one with --include, such as '*Q4_K_M*': {}{more}", names.join(", ")),
        });
    }
    let shards = |path: &str| path.ends_with(".pth") && path.contains("consolidated.");
    if let Some(first) = files.iter().find(|file| shards(&file.path)) {
        let folder = first.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let within = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        return Ok(places(files, |file| {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            within(&file.path) && (shards(&file.path) || ["params.json", "tokenizer.model"].contains(&name))
        }));
    }
    let binary = files.iter().any(|file| file.path.starts_with("pytorch_model"));
    Err(Error::Choice {
        repository: repository.to_string(),
        reason: "holds no weights that are read here: no safetensors, GGUF or consolidated.NN.pth".to_owned(),
        hint: if binary {
            "it has pytorch_model.bin; look for a revision or a fork with safetensors".to_owned()
        } else {
            "look at its files on the hub; --include takes others".to_owned()
        },
    })
}

fn places(files: &[Remote], taken: impl Fn(&Remote) -> bool) -> Vec<usize> {
    (0..files.len()).filter(|&index| taken(&files[index])).collect()
}

/// The name of a GGUF model without the number of its part.
fn parts_of(path: &str) -> &str {
    let stem = path.strip_suffix(".gguf").unwrap_or(path);
    let numbered = |rest: &str| rest.len() == 5 && rest.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once("-of-").and_then(|(rest, count)| Some((rest.rsplit_once('-')?, count))) {
        Some(((model, number), count)) if numbered(number) && numbered(count) => model,
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Checksum;

    fn chosen(names: &[&str], include: &[&str]) -> Result<Vec<String>, Error> {
        let remote = |name: &&str| Remote {
            path: (*name).to_owned(),
            size: Some(1),
            checksum: Some(Checksum::Unknown("x".into())),
        };
        let files: Vec<Remote> = names.iter().map(remote).collect();
        let include: Vec<String> = include.iter().map(|text| (*text).to_owned()).collect();
        let choice = choose(&files, &include, &"a/b".parse().unwrap())?;
        assert_eq!(choice.taken.len() + choice.left.len(), files.len());
        Ok(choice.taken.into_iter().map(|index| files[index].path.clone()).collect())
    }

    #[test]
    fn what_makes_a_model_is_taken_once() {
        for (names, wanted) in [
            (
                &[
                    ".gitattributes",
                    "README.md",
                    "config.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                    "model.safetensors.index.json",
                    "tokenizer.json",
                    "original/consolidated.00.pth",
                    "original/params.json",
                    "original/tokenizer.model",
                    "consolidated.safetensors",
                    "pytorch_model.bin",
                    "onnx/model.onnx",
                ][..],
                &[
                    "config.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                    "model.safetensors.index.json",
                    "tokenizer.json",
                ][..],
            ),
            (&["README.md", "x-Q8_0.gguf"], &["x-Q8_0.gguf"]),
            (
                &["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "config.json"],
                &["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"],
            ),
            (
                &[
                    "original/consolidated.00.pth",
                    "original/params.json",
                    "original/tokenizer.model",
                    "LICENSE",
                ],
                &["original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"],
            ),
            (&["config.json", "weights.safetensors"], &["config.json", "weights.safetensors"]),
        ] {
            assert_eq!(chosen(names, &[]).unwrap(), wanted);
        }
    }

    #[test]
    fn globs_bring_their_companions() {
        let names =
            ["config.json", "a-Q4_K_M.gguf", "a-Q8_0.gguf", "model.safetensors", "original/params.json"];
        for (include, wanted) in [
            (&["*Q4_K_M*"][..], &["a-Q4_K_M.gguf"][..]),
            (&["*.safetensors"], &["config.json", "model.safetensors"]),
            (&["original/*"], &["config.json", "original/params.json"]),
            (&["a-Q8_0.gguf", "*Q4*"], &["a-Q4_K_M.gguf", "a-Q8_0.gguf"]),
        ] {
            assert_eq!(chosen(&names, include).unwrap(), wanted, "{include:?}");
        }
    }

    #[test]
    fn what_cannot_be_chosen_is_said() {
        for (names, include, part, hint) in [
            (&["a-Q4.gguf", "a-Q8.gguf"][..], &[][..], "holds 2 GGUF files", "--include"),
            (&["README.md"], &[], "holds no weights", "--include"),
            (&["pytorch_model.bin"], &[], "holds no weights", "safetensors"),
            (&["config.json"], &["*.gguf"], "no file that *.gguf means", "config.json"),
            (&["config.json"], &["[a"], "is no glob", "*Q4_K_M*"),
        ] {
            let error = chosen(names, include).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        }
    }
}
