//! Lists of words and addresses: those that a recipe names, an entry a line, and those that the program brings.
//!
//! The lists of the program are in Base64, a list a line, lest the source be a page that no filter would keep. To see or
//! change one: `grep '^de ' dirty_words.txt | cut -d' ' -f2 | base64 -d`; entries lie between commas.

use std::path::Path;

use crate::Error;

/// The entries of a file, blanks around them taken off, without empty lines and lines that begin with `#`.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::List`] for a line that is not UTF-8.
pub(super) fn read(path: &str) -> Result<Vec<String>, Error> {
    let path = Path::new(path);
    let bytes = std::fs::read(path).map_err(Error::io("read the list", path))?;
    let mut entries = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|error| Error::List {
            path: path.to_path_buf(),
            line: index as u64 + 1,
            reason: format!("{error}"),
        })?;
        let entry = line.trim_start_matches('\u{feff}').trim();
        if !entry.is_empty() && !entry.starts_with('#') {
            entries.push(entry.to_string());
        }
    }
    Ok(entries)
}

const DIRTY_WORDS: &str = include_str!("dirty_words.txt");

/// The names of the program's lists: languages, `all` for words of every language, `url-hard`, `url-soft`, `url-sub`.
pub(super) fn builtin_names() -> impl Iterator<Item = &'static str> {
    DIRTY_WORDS.lines().filter_map(|line| Some(line.split_once(' ')?.0)).filter(|name| *name != "#")
}

/// The entries of one of the program's lists; none for a name that it does not have.
pub(super) fn builtin(name: &str) -> Vec<String> {
    let line = DIRTY_WORDS.lines().find_map(|line| line.split_once(' ').filter(|(list, _)| *list == name));
    let decoded = line.and_then(|(_, coded)| String::from_utf8(from_base64(coded.trim())?).ok());
    decoded.iter().flat_map(|list| list.split(',')).map(|entry| entry.trim().to_string()).collect()
}

/// Base64 (RFC 4648) without blanks.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_whole_and_in_lower_case() {
        assert_eq!(from_base64("Zm9vYmE=").as_deref(), Some(&b"fooba"[..]));
        assert_eq!(from_base64("Zm9v!"), None);
        let names: Vec<&str> = builtin_names().collect();
        assert!(names.len() >= 20, "{names:?}");
        for name in names {
            let entries = builtin(name);
            assert!(entries.len() >= 5, "{name}");
            for entry in entries {
                assert!(!entry.is_empty() && entry == entry.to_lowercase(), "{name}: {entry:?}");
            }
        }
        assert!(builtin("none").is_empty());
    }

    #[test]
    fn a_list_is_read_line_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# a list\n one \r\n\ntwo words\n").unwrap();
        assert_eq!(read(file.path().to_str().unwrap()).unwrap(), ["one", "two words"]);
        std::fs::write(file.path(), b"one\n\xFF\n").unwrap();
        let error = read(file.path().to_str().unwrap()).unwrap_err();
        assert!(matches!(error, Error::List { line: 2, .. }), "{error}");
        assert!(matches!(read("/nowhere/list.txt"), Err(Error::Io { .. })));
    }
}
