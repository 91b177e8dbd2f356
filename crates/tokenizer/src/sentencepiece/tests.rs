//! The file's parser; what its pieces make of texts is compared with sentencepiece in `tests/it/golden.rs`.

use proptest::prelude::*;

use super::*;

/// Three pieces as the `sentencepiece` package writes them, and a trainer's setting after them.
const MODEL: &[u8] = b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0a\n\x01a\x15\0\0\0\xc0\x18\x06\n\x0a\n\x03\xe2\x96\x81\x15\0\0\x80\xc0\x12\x02\x08\x01";

#[test]
fn pieces_are_read() {
    let piece = |text: &str, score, kind| Piece { text: text.into(), score, kind };
    let pieces = |bytes: &[u8]| parse(bytes).map(|model| model.pieces);
    assert_eq!(pieces(MODEL), Ok(vec![piece("<unk>", 0.0, 2), piece("a", -2.0, 6), piece("▁", -4.0, 1)]));
    assert_eq!(pieces(b""), Err((0, "holds no pieces of a SentencePiece model")));
    assert_eq!(pieces(b"YQ== 0\n"), Err((1, "the file ends within a piece")));
    assert_eq!(pieces(b"\x0b"), Err((1, "is no SentencePiece model")));
    assert_eq!(pieces(b"\n\x05\n\x03\xff\xff\xff"), Err((4, "a piece is no UTF-8")));
    assert_eq!(pieces(&[0xff; 12]), Err((10, "a number of more than 64 bits")));
    for end in 1..16 {
        assert!(parse(&MODEL[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn never_panics(contents in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&contents);
    }
}
