//! The stage `pack`: documents to token shards in Megatron's format.

use ledger::digest::Digest;
use serde_json::json;
use tokenizer::Tokenizer;

use super::{Context, Made, Need, Stage};
use crate::errors::Error;
use crate::report::scale::short;

pub struct Pack;

impl Stage for Pack {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let inputs = context.inputs(&[("curate", "documents"), ("tokenizer", "tokenizer")])?;
        Ok(Need { inputs, settings: Digest::of_value(&"packing has no settings")? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let tokenizer = Tokenizer::load(&context.run.tokenizer())?;
        let (documents, out) = (context.run.documents(), context.run.tokens());
        let packed = corpus::pack(&documents, &tokenizer, &out, context.shown)?;
        Ok(Made {
            outputs: vec!["tokens"],
            line: format!("{} tokens to train on", short(packed.train.tokens as f64)),
            summary: json!({"packed": packed}),
        })
    }
}
