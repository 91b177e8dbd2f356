//! The `tokenizer.model` of SentencePiece, as Llama 2 has it: pieces with scores, for other formats to hold, and BPE with
//! them ([`crate::AnyTokenizer`]).
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`), of which the pieces and the settings that change tokens are
//! read and the rest is passed over.

mod bpe;
mod normalizer;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use bpe::SentencePiece;

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

/// The kinds of pieces.
mod kind {
    pub(super) const NORMAL: u32 = 1;
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const CONTROL: u32 = 3;
    pub(super) const USER_DEFINED: u32 = 4;
    pub(super) const UNUSED: u32 = 5;
    pub(super) const BYTE: u32 = 6;
}

/// What of the file changes tokens.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    pieces: Vec<Piece>,
    /// `trainer_spec.model_type`: 1 Unigram, 2 BPE, 3 words, 4 characters.
    algorithm: Option<u64>,
    byte_fallback: bool,
    space_as_suffix: bool,
    unknown_surface: String,
    normalizer: normalizer::Settings,
    has_denormalizer: bool,
}

/// Reads the pieces in order of their ids.
///
/// # Errors
/// A file that cannot be read, is cut short, or holds no pieces.
pub fn read(path: &Path) -> Result<Vec<Piece>, Error> {
    Ok(load(path)?.pieces)
}

fn load(path: &Path) -> Result<Model, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|(byte, problem)| Error::Unsupported {
        path: path.to_owned(),
        place: format!("byte {byte}"),
        problem: problem.to_owned(),
    })
}

/// A place, and what is wrong there.
type Fault = (usize, &'static str);

/// `ModelProto`.
fn parse(bytes: &[u8]) -> Result<Model, Fault> {
    let mut fields = Fields { bytes, start: 0, at: 0 };
    let mut model = Model {
        pieces: Vec::new(),
        algorithm: None,
        byte_fallback: false,
        space_as_suffix: false,
        // The specification's, with spaces around it.
        unknown_surface: " \u{2047} ".to_owned(),
        normalizer: normalizer::Settings::default(),
        has_denormalizer: false,
    };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(inner)) => model.pieces.push(piece(inner)?),
            (2, Field::Bytes(inner)) => trainer(inner, &mut model)?,
            (3, Field::Bytes(inner)) => model.normalizer = normalizer(inner)?,
            (5, Field::Bytes(inner)) => model.has_denormalizer = !normalizer(inner)?.charsmap.is_empty(),
            _ => {}
        }
    }
    if model.pieces.is_empty() { Err((0, "holds no pieces of a SentencePiece model")) } else { Ok(model) }
}

/// `TrainerSpec`
fn trainer(mut fields: Fields, model: &mut Model) -> Result<(), Fault> {
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (3, Field::Varint(algorithm)) => model.algorithm = Some(algorithm),
            (24, Field::Varint(flag)) => model.space_as_suffix = flag != 0,
            (35, Field::Varint(flag)) => model.byte_fallback = flag != 0,
            (44, Field::Bytes(text)) => model.unknown_surface = text.text()?,
            _ => {}
        }
    }
    Ok(())
}

/// `NormalizerSpec`
fn normalizer(mut fields: Fields) -> Result<normalizer::Settings, Fault> {
    let mut settings = normalizer::Settings::default();
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Field::Bytes(map)) => settings.charsmap = map.bytes.to_vec(),
            (3, Field::Varint(flag)) => settings.add_dummy_prefix = flag != 0,
            (4, Field::Varint(flag)) => settings.remove_extra_whitespaces = flag != 0,
            (5, Field::Varint(flag)) => settings.escape_whitespaces = flag != 0,
            _ => {}
        }
    }
    Ok(settings)
}

fn piece(mut fields: Fields) -> Result<Piece, Fault> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => piece.text = text.text()?,
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

    fn text(&self) -> Result<String, Fault> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| (self.start, "a piece is no UTF-8"))?;
        Ok(text.to_owned())
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
