//! Decoding token by token.

use proptest::prelude::*;
use tokenizer::StreamDecoder;

use crate::trained;

#[test]
fn a_character_is_never_shown_by_halves() {
    let tokenizer = trained(512);
    let mut decoder = StreamDecoder::new(&tokenizer);
    let shown: Vec<String> = tokenizer.encode("é日🙂a").iter().map(|&id| decoder.push(id)).collect();
    assert_eq!(shown, ["", "é", "", "", "日", "", "", "", "🙂", "a"]);
    // The first byte of é, and then an e: the byte can no longer become a character.
    assert_eq!([decoder.push(0xC3), decoder.push(0x65)], ["", "\u{FFFD}e"]);
    assert_eq!([decoder.push(0xF0), decoder.push(0x9F), decoder.finish()], ["", "", "\u{FFFD}"]);
    assert_eq!(decoder.finish(), "");
}

proptest! {
    #[test]
    fn the_pieces_are_the_whole(
        ids in proptest::collection::vec(prop_oneof![
            0..=1100u32,
            // Bytes that begin and continue characters, so that some become whole.
            proptest::sample::select(vec![0x61, 0xC3, 0xA9, 0xE6, 0x97, 0xA5, 0xF0, 0x9F, 0x99, 0x82, 0xED, 0xFF]),
            any::<u32>(),
        ], 0..40)
    ) {
        let tokenizer = trained(700);
        let mut decoder = StreamDecoder::new(&tokenizer);
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids));
    }
}
