//! Calls in an answer: any text, cut into any pieces, means the same; arguments are JSON objects; text without a call comes
//! back as it was.
#![no_main]

use tokenizer::chat::{CallParser, Piece};

fn parser() -> CallParser {
    CallParser::new(["add", "get_weather"].map(str::to_owned).to_vec(), vec!["brave_search".to_owned()])
}

/// What an answer in these pieces is: its text, and its calls with their arguments.
fn read<'a>(pieces: impl Iterator<Item = &'a str>) -> (String, Vec<(String, String)>) {
    let (mut parser, mut content, mut calls) = (parser(), String::new(), Vec::<(String, String)>::new());
    let mut parts: Vec<Piece> = pieces.flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    for part in parts {
        match part {
            Piece::Content(text) => content.push_str(&text),
            Piece::Call { name } => calls.push((name, String::new())),
            Piece::Arguments(more) => calls.last_mut().expect("arguments follow a call").1.push_str(&more),
        }
    }
    (content, calls)
}

libfuzzer_sys::fuzz_target!(|input: (u8, &str)| {
    let (step, text) = (usize::from(input.0 % 7) + 1, input.1);
    let whole = read(std::iter::once(text));
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let pieces = characters.chunks(step).map(|part| {
        let (last, c) = part[part.len() - 1];
        &text[part[0].0..last + c.len_utf8()]
    });
    assert_eq!(read(pieces), whole);
    for (name, arguments) in &whole.1 {
        assert!(["add", "get_weather", "brave_search"].contains(&name.as_str()));
        assert!(arguments.trim_start().starts_with('{') && arguments.trim_end().ends_with('}'), "{arguments}");
    }
    assert!(!whole.1.is_empty() || whole.0 == text, "{:?}", whole.0);
});
