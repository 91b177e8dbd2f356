//! Who makes vectors of documents: a model in this process, or one behind an endpoint of OpenAI's API. Which, the recipe's
//! section `[curate.semantic]` says; what is done with the vectors is the corpus'.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corpus::settings::Semantic;
use corpus::{Embedder, EmbeddingFault};
use engine::{Engine, Pooling, Speculative};
use hub::endpoint::Endpoint;
use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::endpoint::{self, refuses, unanswered};
use crate::errors::Error;
use crate::interrupt;
use crate::open::{self, Found};
use crate::progress::Shown;
use crate::recipe::Recipe;

/// Bytes of a text that are looked at for each token: more of them make no token that a person writes.
const BYTES_PER_TOKEN: usize = 32;
/// Characters that an endpoint is sent for each token.
const CHARACTERS_PER_TOKEN: usize = 4;
/// Requests to an endpoint that are on the way at once, and texts of each.
const REQUESTS: usize = 4;
const TEXTS: usize = 16;
/// How often a text that an endpoint refuses is tried again with half of it.
const HALVINGS: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(300);

/// Whoever the recipe names, if documents are to be embedded at all. What is wrong with the name is said at once; the model is
/// loaded when the first document is embedded.
///
/// # Errors
/// A model that cannot be found, an endpoint that does not say what it has.
pub fn of<'a>(recipe: &'a Recipe, shown: &'a Shown) -> Result<Option<Box<dyn Embedder + 'a>>, Error> {
    let semantic = &recipe.curate.semantic;
    if !semantic.enabled {
        return Ok(None);
    }
    if let Some(address) = &semantic.endpoint {
        let key_file = semantic.api_key_file.as_deref().map(Path::new);
        let endpoint = endpoint::open(address, key_file, TIMEOUT)?;
        let model = endpoint::model_of(&endpoint, semantic.model.as_deref(), interrupt::flag())?;
        let characters = semantic.max_tokens as usize * CHARACTERS_PER_TOKEN;
        return Ok(Some(Box::new(Remote { endpoint, model, characters })));
    }
    let Some(model) = &semantic.model else { return Ok(None) };
    let found = open::find(model.as_ref())?;
    // Nothing is written, so there is nothing to guess.
    let settings = engine::Settings { speculative: Speculative::Off, ..recipe.engine.clone() };
    Ok(Some(Box::new(Local { found, semantic, settings, shown, engine: Mutex::new(None) })))
}

/// What tells the vectors of an embedder from those of others.
///
/// # Errors
/// A model that cannot be read.
pub fn digest(embedder: &dyn Embedder) -> Result<Digest, Error> {
    let identity = embedder.identity().map_err(|fault| Error::Usage {
        message: format!("the embedding model cannot be used: {}", fault.reason),
        hint: fault.hint.unwrap_or_else(|| "check curate.semantic.model".to_owned()),
    })?;
    Ok(Digest::of_bytes(identity.as_bytes()))
}

fn fault(error: &Error) -> EmbeddingFault {
    EmbeddingFault { text: None, reason: error.to_string(), hint: error.hint() }
}

/// A model in this process.
struct Local<'a> {
    found: Found,
    semantic: &'a Semantic,
    settings: engine::Settings,
    shown: &'a Shown,
    engine: Mutex<Option<Engine>>,
}

impl fmt::Debug for Local<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Local<'_> {
    fn start(&self) -> Result<Engine, Error> {
        let loaded = open::load(&self.found, self.settings.precision, self.shown)?;
        open::engine(loaded, self.settings.clone(), self.shown)
    }

    /// The beginning of a text, behind `<|begin_of_text|>`, as `/v1/embeddings` reads texts.
    fn prompt(&self, engine: &Engine, text: &str) -> Vec<u32> {
        let most = self.semantic.max_tokens as usize;
        let beginning = &text[..text.floor_char_boundary(most.saturating_mul(BYTES_PER_TOKEN))];
        let tokenizer = engine.tokenizer();
        let mut tokens = vec![tokenizer.bos()];
        tokenizer.encode_into(beginning, &mut tokens);
        tokens.truncate((most + 1).min(engine.context()));
        tokens
    }
}

impl Embedder for Local<'_> {
    fn identity(&self) -> Result<String, EmbeddingFault> {
        let model = Digest::of_path(&self.found.folder).map_err(|error| fault(&error.into()))?;
        // Another version may round otherwise.
        Ok(format!("altiplano {}, {:?}, {model}", env!("CARGO_PKG_VERSION"), self.settings.precision))
    }

    fn batch(&self) -> usize {
        2 * self.settings.max_sequences
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbeddingFault> {
        let mut held = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = match &mut *held {
            Some(engine) => engine,
            None => held.insert(self.start().map_err(|error| fault(&error))?),
        };
        let pooling = match self.semantic.pooling {
            corpus::settings::Pooling::Mean => Pooling::Mean,
            corpus::settings::Pooling::Last => Pooling::Last,
        };
        let prompts = texts.iter().map(|text| self.prompt(engine, text)).collect();
        let vectors = engine.embed(prompts, pooling).into_iter().enumerate();
        let each = vectors.map(|(text, answer)| match answer {
            Ok((vector, _)) => Ok(vector),
            Err(error) => Err(EmbeddingFault { text: Some(text), ..fault(&error.into()) }),
        });
        each.collect()
    }
}

/// A model behind an endpoint.
#[derive(Debug)]
struct Remote {
    endpoint: Endpoint,
    model: String,
    characters: usize,
}

impl Remote {
    fn ask(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, hub::Error> {
        let body = json!({"model": self.model, "input": texts});
        let answer = self.endpoint.ask("/embeddings", &body, interrupt::flag())?;
        read(&answer, texts.len()).map_err(|reason| hub::Error::Answer {
            what: "/embeddings".to_owned(),
            host: self.endpoint.address().to_owned(),
            reason,
        })
    }

    /// The vectors of some texts; where they are refused together, one by one.
    fn embed_some(&self, texts: &[&str], first: usize) -> Result<Vec<Vec<f32>>, EmbeddingFault> {
        match self.ask(texts) {
            Err(hub::Error::Answer { reason, .. }) if refuses(&reason) => {
                (first..).zip(texts).map(|(number, text)| self.embed_one(text, number)).collect()
            }
            answer => answer.map_err(|error| fault(&unanswered(error))),
        }
    }

    /// The vector of a text, or of as much of it as is not refused.
    fn embed_one(&self, text: &str, number: usize) -> Result<Vec<f32>, EmbeddingFault> {
        let mut kept = text;
        for halving in 0.. {
            let error = match self.ask(&[kept]) {
                Ok(mut vectors) => return Ok(vectors.pop().unwrap_or_default()),
                Err(hub::Error::Answer { reason, .. }) if refuses(&reason) && halving < HALVINGS => {
                    kept = &kept[..kept.floor_char_boundary(kept.len() / 2)];
                    continue;
                }
                Err(error) => error,
            };
            return Err(EmbeddingFault { text: Some(number), ..fault(&unanswered(error)) });
        }
        Ok(Vec::new())
    }
}

impl Embedder for Remote {
    fn identity(&self) -> Result<String, EmbeddingFault> {
        Ok(format!("{} at {}", self.model, self.endpoint.address()))
    }

    fn batch(&self) -> usize {
        REQUESTS * TEXTS
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbeddingFault> {
        let cut: Vec<&str> = texts.iter().map(|text| beginning(text, self.characters)).collect();
        std::thread::scope(|scope| {
            let asked: Vec<_> = cut
                .chunks(TEXTS)
                .enumerate()
                .map(|(part, texts)| scope.spawn(move || self.embed_some(texts, part * TEXTS)))
                .collect();
            let mut vectors = Vec::with_capacity(texts.len());
            for answer in asked {
                let some = answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                vectors.extend(some);
            }
            Ok(vectors)
        })
    }
}

/// So many characters of a text, at most.
fn beginning(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(at, _)| &text[..at])
}

/// The vectors of an answer in OpenAI's form, in the order of the texts.
fn read(answer: &Value, texts: usize) -> Result<Vec<Vec<f32>>, String> {
    let data = answer["data"].as_array().ok_or_else(|| "an answer without data".to_owned())?;
    let mut vectors = vec![Vec::new(); texts];
    for (place, item) in data.iter().enumerate() {
        let index = item["index"].as_u64().map_or(place, |index| index as usize);
        let numbers = item["embedding"].as_array().ok_or_else(|| format!("no list of numbers at {index}"))?;
        let vector = vectors.get_mut(index).ok_or_else(|| format!("a vector of text {index} of {texts}"))?;
        // What is no number, such as null for what is none, is found by whoever takes the vector.
        *vector = numbers.iter().map(|number| number.as_f64().unwrap_or(f64::NAN) as f32).collect();
    }
    match vectors.iter().position(Vec::is_empty) {
        Some(missing) => Err(format!("no vector of text {missing} of {texts}")),
        None => Ok(vectors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_taken_by_their_index_or_not_at_all() {
        let check = |answer: Value, wanted: Result<&[&[f32]], &str>| match (read(&answer, 2), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{answer}"),
            (Err(said), Err(wanted)) => assert!(said.contains(wanted), "{answer}: {said}"),
            other => panic!("{answer}: {other:?}"),
        };
        let item = |index: u64, value: f64| json!({"index": index, "embedding": [value, 1.0]});
        check(json!({"data": [item(1, 0.5), item(0, 0.25)]}), Ok(&[&[0.25, 1.0], &[0.5, 1.0]]));
        let bare = json!({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]});
        check(bare, Ok(&[&[1.0], &[2.0]]));
        check(json!({"data": [item(0, 0.5)]}), Err("no vector of text 1 of 2"));
        check(json!({"data": [item(0, 0.5), item(2, 0.5)]}), Err("a vector of text 2 of 2"));
        check(
            json!({"data": [item(0, 0.5), {"index": 1, "embedding": "AAAA"}]}),
            Err("no list of numbers at 1"),
        );
        check(json!({"error": "no"}), Err("without data"));
        let nothing = read(&json!({"data": [{"embedding": [null, 2.0]}]}), 1).unwrap();
        assert!(nothing[0][0].is_nan());
    }

    #[test]
    fn a_beginning_has_whole_characters() {
        assert_eq!(beginning("äöü", 2), "äö");
        assert_eq!(beginning("äöü", 3), "äöü");
        assert_eq!(beginning("", 3), "");
    }
}
