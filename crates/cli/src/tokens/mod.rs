//! What tokenizers do, to be looked at: the tokens of a text, and two tokenizers beside each other.

mod compare;
mod encode;
mod explain;
mod plot;

use std::io::Read;
use std::path::Path;

use tokenizer::{Allowed, AnyTokenizer};

pub use compare::compare;
pub use encode::{decode, encode};
pub use explain::explain;

use crate::args::Special;
use crate::errors::Error;

/// All of standard input, which must be UTF-8.
fn standard_input() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Error::io("read", Path::new("standard input")))?;
    Ok(text)
}

/// The tokens of a text in which the names of special tokens mean what was asked for.
fn tokens_of(tokenizer: &AnyTokenizer, text: &str, special: Special) -> Result<Vec<u32>, tokenizer::Error> {
    let allowed = match special {
        Special::Text => return Ok(tokenizer.encode(text)),
        Special::Ids => Allowed::all(),
        Special::Refuse => Allowed::none().refusing_others(),
    };
    tokenizer.encode_with_specials(text, allowed)
}
