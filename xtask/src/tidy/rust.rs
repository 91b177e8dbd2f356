//! Just enough of Rust's lexical grammar to tell code from comments and strings.
//! Not a parser: the rules that need more than words are left to clippy.

/// A source file in two texts, line for line and byte for byte as long as the original.
pub(super) struct Source {
    /// The code; comments and the insides of literals are blanks.
    pub code: String,
    /// The comments; all else is blanks.
    pub comments: String,
}

impl Source {
    /// Separates a file's text.
    pub(super) fn separate(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut code = blanks(bytes);
        let mut comments = blanks(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = at
                + if rest.starts_with(b"//") {
                    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
                } else if rest.starts_with(b"/*") {
                    block_comment(rest)
                } else if let Some(length) = literal(rest, at.checked_sub(1).map(|before| bytes[before])) {
                    at += length;
                    continue;
                } else {
                    code[at] = bytes[at];
                    at += 1;
                    continue;
                };
            comments[at..end].copy_from_slice(&bytes[at..end]);
            at = end;
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: text(code), comments: text(comments) }
    }
}

fn blanks(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }).collect()
}

/// The length of the block comment that begins here; they nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the text or character literal that begins here, where one does.
fn literal(bytes: &[u8], before: Option<u8>) -> Option<usize> {
    match bytes[0] {
        b'"' => Some(quoted(bytes, b'"')),
        // `'a'` and `'\n'` are characters, `'a` is a lifetime.
        b'\'' if bytes.get(1) == Some(&b'\\') => Some(quoted(bytes, b'\'')),
        b'\'' => {
            let text = std::str::from_utf8(&bytes[1..bytes.len().min(6)]);
            let valid = text.or_else(|error| std::str::from_utf8(&bytes[1..1 + error.valid_up_to()])).ok()?;
            let length = valid.chars().next()?.len_utf8();
            (bytes.get(1 + length) == Some(&b'\'')).then_some(length + 2)
        }
        // r"", br"", cr"", with any number of #; not the end of a longer word.
        b'r' if !before.is_some_and(is_word) || matches!(before, Some(b'b' | b'c')) => {
            let hashes = bytes[1..].iter().take_while(|&&byte| byte == b'#').count();
            if bytes.get(1 + hashes) != Some(&b'"') {
                return None;
            }
            let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let body = &bytes[2 + hashes..];
            let closing = body.windows(end.len()).position(|window| window == end);
            Some(closing.map_or(bytes.len(), |at| 2 + hashes + at + end.len()))
        }
        _ => None,
    }
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether this byte can be part of a word (an identifier or a keyword).
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// [`is_word`] for a character.
pub(super) fn is_word_char(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Where in the code this stands as words of its own: not as a part of longer ones.
pub(super) fn occurrences<'a>(code: &'a str, words: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let edge = |at: Option<usize>| at.and_then(|at| bytes.get(at)).copied().is_some_and(is_word);
    code.match_indices(words).map(|(at, _)| at).filter(move |&at| {
        let begins_inside = is_word(words.as_bytes()[0]) && edge(at.checked_sub(1));
        let last = at + words.len() - 1;
        let ends_inside = is_word(bytes[last]) && edge(Some(last + 1));
        !begins_inside && !ends_inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, comments: &str) {
        let source = Source::separate(text);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (words(&source.code), words(&source.comments)),
            (code.to_owned(), comments.to_owned()),
            "{text}"
        );
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.matches('\n').count(), text.matches('\n').count());
    }

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        check("let a = 1; // one", "let a = 1;", "// one");
        check("a /* b /* c */ d */ e", "a e", "/* b /* c */ d */");
        check("a(\"// no \\\" comment\"); // yes", "a( );", "// yes");
        check("r\"\\\" x r#\"a \" b\"# y br##\"# \"##", "x y b", "");
        check("let c = '\"'; let d = '\\''; f::<'a>('é')", "let c = ; let d = ; f::<'a>( )", "");
        check("for<'a> fn(&'a str) -> &'static str", "for<'a> fn(&'a str) -> &'static str", "");
        check("r#type bar\"x\" attr\"y\"", "r#type bar attr", "");
        check("\"unclosed // \n x", "", "");
        check("/* unclosed", "", "/* unclosed");
        check("'", "'", "");
        check("b'\\x00' b'a' c\"x\"", "b b c", "");
    }

    #[test]
    fn words_are_found_whole() {
        let at = |code: &str, words: &str| occurrences(code, words).collect::<Vec<_>>();
        assert_eq!(at("unsafe { } not_unsafe unsafely unsafe", "unsafe"), [0, 31]);
        assert_eq!(at("println!(\"\") eprintln!() my::println!()", "println!"), [0, 29]);
        assert_eq!(at("process::exit(1) process::exit_code", "process::exit"), [0]);
    }
}
