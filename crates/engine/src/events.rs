//! The way of a request's events from the scheduler to whoever waits for them, and from there to one answer.

use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};

use crate::{Completion, Error, Event, Token};

/// Where a request's events go; called on the scheduler's thread, so it must not block.
pub trait Sink: Send {
    /// Takes the next event.
    fn send(&mut self, event: Event);
    /// Nobody will read another event: the request can be dropped.
    fn is_closed(&self) -> bool;
}

/// The events of one request: a [`Receiver`], whose end means that the engine is gone. Dropping it cancels the request.
pub struct Events {
    receiver: Receiver<Event>,
    _alive: Arc<()>,
}

/// A request's sink, and where its events are read.
pub(crate) fn channel() -> (Channel, Events) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let alive = Arc::new(());
    let watch = Arc::downgrade(&alive);
    (Channel { sender, watch }, Events { receiver, _alive: alive })
}

impl Deref for Events {
    type Target = Receiver<Event>;

    fn deref(&self) -> &Receiver<Event> {
        &self.receiver
    }
}

/// The sink behind [`Events`].
pub(crate) struct Channel {
    sender: Sender<Event>,
    watch: Weak<()>,
}

impl Sink for Channel {
    fn send(&mut self, event: Event) {
        // A receiver that is gone is noticed by `is_closed`.
        let _ = self.sender.send(event);
    }

    fn is_closed(&self) -> bool {
        self.watch.strong_count() == 0
    }
}

/// One of many requests that share a receiver.
pub(crate) struct Indexed {
    index: usize,
    sender: Sender<(usize, Event)>,
    watch: Weak<()>,
}

impl Indexed {
    /// Of the request at `index`; nobody waits any more when `alive` is gone.
    pub(crate) fn new(index: usize, sender: Sender<(usize, Event)>, alive: &Arc<()>) -> Self {
        Indexed { index, sender, watch: Arc::downgrade(alive) }
    }
}

impl Sink for Indexed {
    fn send(&mut self, event: Event) {
        let _ = self.sender.send((self.index, event));
    }

    fn is_closed(&self) -> bool {
        self.watch.strong_count() == 0
    }
}

/// What has come of a request: gathers its events into an answer.
#[derive(Debug, Clone, Default)]
pub struct Partial {
    prompt: Vec<Token>,
    embedding: Vec<f32>,
    tokens: Vec<Token>,
}

impl Partial {
    /// Adds an event; at the last gives the answer and leaves nothing.
    pub fn collect(&mut self, event: Event) -> Option<Result<Completion, Error>> {
        match event {
            Event::Prompt(tokens) => self.prompt = tokens,
            Event::Embedding(values) => self.embedding = values,
            Event::Token(token) => self.tokens.push(token),
            Event::Done { reason, stopped_by, usage, timing } => {
                let Partial { prompt, embedding, tokens } = std::mem::take(self);
                let text = tokens.iter().map(|token| token.text.as_str()).collect();
                return Some(Ok(Completion {
                    prompt,
                    embedding,
                    text,
                    tokens,
                    reason,
                    stopped_by,
                    usage,
                    timing,
                }));
            }
            Event::Failed(error) => return Some(Err(error)),
        }
        None
    }
}
