//! `alti tokenizer`: trained in [`train_tokenizer`], looked at in [`tokens`].

use crate::args;
use crate::errors::Error;
use crate::progress::Shown;
use crate::tokens;
use crate::train_tokenizer;

/// `alti tokenizer`.
pub fn tokenizer(args: &args::Tokenizer, shown: &Shown) -> Result<(), Error> {
    match args {
        args::Tokenizer::Train(args) => train_tokenizer::train(args, shown)?,
        args::Tokenizer::Explain(args) => tokens::explain(args)?,
        args::Tokenizer::Compare(args) => tokens::compare(args, shown)?,
        args::Tokenizer::Encode { tokenizer, text, ids, special, lines } => {
            tokens::encode(tokenizer, text.as_deref(), *ids, *special, *lines)?;
        }
        args::Tokenizer::Decode { tokenizer, ids, lines } => tokens::decode(tokenizer, ids, *lines)?,
    }
    Ok(())
}
