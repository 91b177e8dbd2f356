//! The vocabulary of a SentencePiece `tokenizer.model`, as Llama 2 has it: pieces with scores, read and passed on.
//!
//! Text is not encoded with it here. The file is a protocol buffer (`sentencepiece_model.proto`), of which the pieces are
//! read and the rest is passed over.

use std::path::Path;

use crate::error::Error;

/// One piece of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its text; `▁` stands for a space, `<0x41>` for a byte.
    pub text: String,
    /// Its logarithmic probability, or minus its rank.
    pub score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: the numbers of the file, and of GGUF.
    pub kind: u32,
}

/// Reads the pieces in order of their ids.
///
/// # Errors
/// A file that cannot be read, is cut short, or holds no pieces.
pub fn read(path: &Path) -> Result<Vec<Piece>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|(byte, problem)| Error::Unsupported {
        path: path.to_owned(),
        place: format!("byte {byte}"),
        problem: problem.to_owned(),
    })
}

/// A place, and what is wrong there.
type Fault = (usize, &'static str);

fn parse(bytes: &[u8]) -> Result<Vec<Piece>, Fault> {
    let mut fields = Fields { bytes, start: 0, at: 0 };
    let mut pieces = Vec::new();
    while let Some((number, field)) = fields.next()? {
        // `repeated SentencePiece pieces = 1`.
        if let (1, Field::Bytes(inner)) = (number, field) {
            pieces.push(piece(inner)?);
        }
    }
    if pieces.is_empty() { Err((0, "holds no pieces of a SentencePiece model")) } else { Ok(pieces) }
}

fn piece(mut fields: Fields) -> Result<Piece, Fault> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                let found =
                    std::str::from_utf8(text.bytes).map_err(|_| (text.start, "a piece is no UTF-8"))?;
                piece.text = found.to_owned();
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Varint(kind)) => {
                piece.kind = u32::try_from(kind).map_err(|_| (fields.start, "a piece of no known kind"))?;
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// A message's fields, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    /// Where it lies in the file.
    start: usize,
    at: usize,
}

enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(Fields<'a>),
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Fault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let length = self.varint()?;
                let start = self.start + self.at;
                Field::Bytes(Fields { bytes: self.take(length)?, start, at: 0 })
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes(std::array::from_fn(|at| bytes[at])))
            }
            _ => return Err((self.start + self.at, "is no SentencePiece model")),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or((self.start + self.at, "the file ends within a piece"))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err((self.start + self.at, "a number of more than 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three pieces as the `sentencepiece` package writes them, and a trainer's setting after them.
    const MODEL: &[u8] = b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0a\n\x01a\x15\0\0\0\xc0\x18\x06\n\x0a\n\x03\xe2\x96\x81\x15\0\0\x80\xc0\x12\x02\x08\x01";

    #[test]
    fn pieces_are_read() {
        let piece = |text: &str, score, kind| Piece { text: text.into(), score, kind };
        assert_eq!(parse(MODEL), Ok(vec![piece("<unk>", 0.0, 2), piece("a", -2.0, 6), piece("▁", -4.0, 1)]));
        assert_eq!(parse(b""), Err((0, "holds no pieces of a SentencePiece model")));
        assert_eq!(parse(b"YQ== 0\n"), Err((1, "the file ends within a piece")));
        assert_eq!(parse(b"\x0b"), Err((1, "is no SentencePiece model")));
        assert_eq!(parse(b"\n\x05\n\x03\xff\xff\xff"), Err((4, "a piece is no UTF-8")));
        assert_eq!(parse(&[0xff; 12]), Err((10, "a number of more than 64 bits")));
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
}
