//! Append-only files of one JSON value a line, which a kill may leave with a torn last line.
//! Not a database: they are read whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::Error;

/// Opens a file for appending, creating it and the folders above it, after cutting off a torn last line.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    open_with(path, false)
}

/// [`open`] for a file that others append to as well: until the returned file is dropped they wait, so that
/// nobody takes another's line in the making for a torn one.
pub(crate) fn open_shared(path: &Path) -> Result<File, Error> {
    open_with(path, true)
}

/// Appends one line in one write, so that a kill can tear only this line.
pub(crate) fn append(file: &mut File, path: &Path, line: &impl serde::Serialize) -> Result<(), Error> {
    let mut bytes =
        serde_json::to_vec(line).map_err(|source| Error::Encode { what: "a line of a record", source })?;
    bytes.push(b'\n');
    file.write_all(&bytes).map_err(Error::io("append to", path))
}

/// Every whole line, parsed; none where the file does not exist. A last line without its line end is torn and
/// not returned; any other line that cannot be parsed is an error that names it.
pub(crate) fn read<T>(path: &Path, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("read", path))?,
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    bytes[..whole]
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(index, line)| {
            std::str::from_utf8(line)
                .map_err(|error| error.to_string())
                .and_then(|text| parse(text.trim_end()))
                .map_err(|reason| Error::Malformed { path: path.to_owned(), line: index + 1, reason })
        })
        .collect()
}

fn open_with(path: &Path, lock: bool) -> Result<File, Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    if lock {
        match file.lock() {
            // A file system without locks: one writer is trusted to be alone.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            other => other.map_err(Error::io("lock", path))?,
        }
    }
    repair(&mut file).map_err(Error::io("repair the last line of", path))?;
    Ok(file)
}

fn repair(file: &mut File) -> io::Result<()> {
    // Backwards in blocks, because the file may be long and the torn line is short.
    const BLOCK: u64 = 4096;
    let mut end = file.seek(SeekFrom::End(0))?;
    let length = end;
    let mut whole = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            whole = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if whole < length { file.set_len(whole) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(contents: &str, read_back: &[&str], after_append: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/lines.jsonl");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(&path, contents).unwrap();
        let parse = |line: &str| serde_json::from_str::<String>(line).map_err(|error| error.to_string());
        assert_eq!(read(&path, parse).unwrap(), read_back, "{contents:?}");
        append(&mut open(&path).unwrap(), &path, &"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after_append, "{contents:?}");
    }

    #[test]
    fn a_torn_last_line_is_not_read_and_is_cut_off_before_appending() {
        check("", &[], "\"new\"\n");
        check("\"a\"\n", &["a"], "\"a\"\n\"new\"\n");
        check("\"a\"\n\"b", &["a"], "\"a\"\n\"new\"\n");
        check("\"a\"\n\"whole but for its end\"", &["a"], "\"a\"\n\"new\"\n");
        check("\"torn", &[], "\"new\"\n");
        let long = "x".repeat(10_000);
        check(&format!("\"a\"\n\"{long}"), &["a"], "\"a\"\n\"new\"\n");
        check(&format!("\"{long}\"\n\"torn"), &[&long], &format!("\"{long}\"\n\"new\"\n"));
    }

    #[test]
    fn a_bad_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        std::fs::write(&path, "1\n\nx\n3\n").unwrap();
        let parse = |line: &str| line.parse::<u32>().map_err(|error| error.to_string());
        assert!(matches!(read(&path, parse), Err(Error::Malformed { line: 3, .. })));
        std::fs::write(&path, b"1\n\xff\n").unwrap();
        assert!(matches!(read(&path, parse), Err(Error::Malformed { line: 2, .. })));
    }
}
