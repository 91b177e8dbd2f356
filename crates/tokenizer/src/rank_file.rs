//! `tokenizer.model` as Meta and tiktoken have it: one token a line, base64 of its bytes, a space,
//! its rank. The special tokens are not in the file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Reads the tokens in order of rank. Lines may come in any order, but each rank from zero up to
/// the number of lines must be there once.
pub(crate) fn read(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let contents = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&contents).map_err(|(line, problem)| Error::Line { path: path.to_owned(), line, problem })
}

/// Whether a file is text, as ranks are and a SentencePiece model is not: that begins with the length of a piece.
pub(crate) fn is_text(path: &Path) -> Result<bool, Error> {
    let contents = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let allowed = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\n' | b'\r' | b'\t');
    Ok(contents.iter().take(4096).all(allowed))
}

/// The file's bytes.
pub(crate) fn to_bytes(tokenizer: &Tokenizer) -> Vec<u8> {
    let mut text = String::new();
    for (rank, token) in tokenizer.vocabulary().tokens().enumerate() {
        STANDARD.encode_string(token, &mut text);
        text.push_str(&format!(" {rank}\n"));
    }
    text.into_bytes()
}

/// The tokens by rank, or the line (from 1) and what is wrong there.
fn parse(contents: &[u8]) -> Result<Vec<Vec<u8>>, (usize, String)> {
    let lines = || {
        let numbered = contents.split(|&byte| byte == b'\n').enumerate();
        let trimmed = numbered.map(|(index, line)| (index + 1, line.trim_ascii()));
        trimmed.filter(|(_, line)| !line.is_empty())
    };
    let count = lines().count();
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; count];
    for (number, line) in lines() {
        let (token, rank) = parse_line(line).map_err(|problem| (number, problem))?;
        let slot = tokens.get_mut(rank).ok_or_else(|| {
            (number, format!("rank {rank}, although the file has only {count} tokens; lines are missing"))
        })?;
        if slot.replace(token).is_some() {
            return Err((number, format!("rank {rank} was given to an earlier line already")));
        }
    }
    // As many lines as ranks, none twice: each rank is there.
    Ok(tokens.into_iter().flatten().collect())
}

fn parse_line(line: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let text = std::str::from_utf8(line).ok().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or("not text; this may be a SentencePiece model, as Llama 2 has it")?;
    let (token, rank) = text
        .split_once(' ')
        .ok_or_else(|| format!("expected a token in base64, a space and its rank, found {}", shown(text)))?;
    let token = STANDARD
        .decode(token)
        .map_err(|error| format!("the token {} is not base64: {error}", shown(token)))?;
    let rank = rank.parse().map_err(|_| format!("the rank {} is not a number", shown(rank)))?;
    Ok((token, rank))
}

/// Quoted, and short whatever the file holds.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(contents: &str, expected: Result<&[&str], &str>) {
        let found = parse(contents.as_bytes()).map_err(|(line, problem)| format!("{line}: {problem}"));
        let expected = expected.map(|tokens| tokens.iter().map(|token| token.as_bytes().to_vec()).collect());
        assert_eq!(found, expected.map_err(str::to_owned), "{contents:?}");
    }

    #[test]
    fn reads_lines_and_says_where_they_are_wrong() {
        check("YQ== 0\nYmM= 1\n", Ok(&["a", "bc"]));
        check("\nYmM= 1\r\nYQ== 0", Ok(&["a", "bc"]));
        check("", Ok(&[]));
        check("YQ== 0\nYmM=", Err("2: expected a token in base64, a space and its rank, found \"YmM=\""));
        check("YQ== 0\nYm 1", Err("2: the token \"Ym\" is not base64: Invalid padding"));
        check("YQ== x", Err("1: the rank \"x\" is not a number"));
        check("YQ== 0\nYmM= 0", Err("2: rank 0 was given to an earlier line already"));
        check("YQ== 0\nYmM= 2", Err("2: rank 2, although the file has only 2 tokens; lines are missing"));
    }

    #[test]
    fn knows_a_sentencepiece_model() {
        let problem = parse(b"\n\x0e\n\x05<unk>\x15\x00\x00\xff").err().map(|(_, problem)| problem);
        assert!(problem.is_some_and(|problem| problem.contains("SentencePiece")));
    }

    proptest! {
        #[test]
        fn never_panics(contents in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&contents);
        }
    }
}
