//! Encoding and decoding, special tokens in text, and speed in the length of a piece.

use proptest::prelude::*;
use tokenizer::{Allowed, Error, SpecialNames};

use crate::{TEXT, trained};

#[test]
fn the_special_tokens_follow_the_ordinary_ones() {
    let tokenizer = trained(600);
    assert_eq!((tokenizer.vocab_size(), tokenizer.ordinary_tokens()), (600, 344));
    let ids = [
        (tokenizer.bos(), "<|begin_of_text|>", 0),
        (tokenizer.eos(), "<|end_of_text|>", 1),
        (tokenizer.start_header(), "<|start_header_id|>", 6),
        (tokenizer.end_header(), "<|end_header_id|>", 7),
        (tokenizer.eot(), "<|eot_id|>", 9),
    ];
    for (id, name, index) in ids {
        assert_eq!(id, 344 + index);
        assert_eq!(tokenizer.special(name), Some(id));
        assert_eq!(tokenizer.token_bytes(id), Some(name.as_bytes()));
        assert!(tokenizer.is_special(id));
    }
    assert_eq!(tokenizer.stop_tokens(), [345, 353]);
    assert_eq!(tokenizer.special_names().len(), 256);
    assert_eq!(tokenizer.special_names()[255], "<|reserved_special_token_250|>");
    assert_eq!((tokenizer.special("<|nothing|>"), tokenizer.token_bytes(600)), (None, None));
    assert!(!tokenizer.is_special(343) && !tokenizer.is_special(600));
}

#[test]
fn llama_31_names_other_special_tokens() {
    let names = SpecialNames::Llama31.list();
    for (index, name) in [
        (2, "<|reserved_special_token_0|>"),
        (4, "<|finetune_right_pad_id|>"),
        (5, "<|step_id|>"),
        (8, "<|eom_id|>"),
        (10, "<|python_tag|>"),
        (11, "<|image|>"),
        (12, "<|reserved_special_token_2|>"),
        (255, "<|reserved_special_token_245|>"),
    ] {
        assert_eq!(names[index], name);
    }
    assert_eq!(names.len(), 256);
}

#[test]
fn special_text_is_text_unless_allowed() {
    let tokenizer = trained(600);
    let (eot, bos) = (tokenizer.eot(), tokenizer.bos());
    let text = "a<|eot_id|><|begin_of_text|>";
    let encode = |allowed| tokenizer.encode_with_specials(text, allowed);
    let ordinary = tokenizer.encode(text);
    assert!(ordinary.iter().all(|&id| !tokenizer.is_special(id)));
    assert_eq!(encode(Allowed::none()).ok(), Some(ordinary));
    assert_eq!(encode(Allowed::all()).ok(), Some(vec![b'a'.into(), eot, bos]));
    let only_eot = encode(Allowed::only(&["<|eot_id|>"])).expect("no token is refused");
    assert_eq!(only_eot[..2], [b'a'.into(), eot]);
    assert_eq!(only_eot[2..], tokenizer.encode("<|begin_of_text|>"));
    let refused = |allowed| match encode(allowed) {
        Err(Error::SpecialInText { name, byte }) => (name, byte),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Allowed::none().refusing_others()), ("<|eot_id|>".into(), 1));
    assert_eq!(refused(Allowed::only(&["<|eot_id|>"]).refusing_others()), ("<|begin_of_text|>".into(), 11));
    assert_eq!(refused(Allowed::none().refusing(&["<|begin_of_text|>"])), ("<|begin_of_text|>".into(), 11));
    assert!(encode(Allowed::all().refusing_others()).is_ok());
    assert!(matches!(encode(Allowed::only(&["<|no|>"])), Err(Error::UnknownSpecial { .. })));
}

#[test]
fn what_is_not_text_is_shown_as_such() {
    let tokenizer = trained(600);
    assert_eq!(tokenizer.decode(&[0xFF, b'a'.into(), 600, u32::MAX]), "\u{FFFD}a\u{FFFD}\u{FFFD}");
    assert_eq!(tokenizer.decode_bytes(&[0xFF, b'a'.into()]), [0xFF, b'a']);
}

#[test]
fn two_tokenizers_in_one_thread_do_not_mix() {
    let (small, large) = (trained(600), trained(800));
    let expected = (small.encode(TEXT), large.encode(TEXT));
    for line in TEXT.lines() {
        assert_eq!(large.decode(&large.encode(line)), line);
        assert_eq!(small.decode(&small.encode(line)), line);
    }
    assert_eq!((small.encode(TEXT), large.encode(TEXT)), expected);
}

#[test]
fn a_very_long_word_takes_no_quadratic_time() {
    let tokenizer = trained(800);
    let word: String = TEXT.chars().filter(|c| c.is_ascii_lowercase()).cycle().take(1_000_000).collect();
    let started = std::time::Instant::now();
    let ids = tokenizer.encode(&word);
    assert_eq!(tokenizer.decode(&ids), word);
    // A tenth of a second when optimised; the square would be minutes.
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn text_survives(text in any::<String>(), line in 0..28usize) {
        let tokenizer = trained(700);
        let text = [&text, TEXT.lines().nth(line).unwrap_or_default(), &text].concat();
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
    }
}
