//! The handle that callers hold: it checks requests, hands them to the scheduler's thread and gives back their events.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokenizer::Tokenizer;

use crate::adapters::{Loaded, Registry, Taken};
use crate::constraint::{Grammars, Guide};
use crate::events::{self, Events, Indexed, Partial, Sink};
use crate::pages::Pages;
use crate::scheduler::{Command, Scheduler};
use crate::sequence::Submission;
use crate::speculation::{DraftModel, Drafter};
use crate::{
    AdapterInfo, Completion, Constraint, Error, Forward, Pooling, Request, Settings, Speculative, Usage,
};

/// A running engine. Clones share it.
///
/// When the last clone is gone, the scheduler finishes the requests whose events somebody still holds, then ends.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
    counters: Arc<Counters>,
    tokenizer: Tokenizer,
    grammars: Grammars,
    adapters: Registry,
    settings: Settings,
    context: usize,
    cache_tokens: usize,
    seed: u64,
    submitted: AtomicU64,
}

/// What the scheduler reports as it goes.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) in_flight: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) cache_tokens: AtomicUsize,
    pub(crate) kept_tokens: AtomicUsize,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) drafted_tokens: AtomicU64,
    pub(crate) accepted_tokens: AtomicU64,
    pub(crate) finished: AtomicU64,
    /// The bits of [`Stats::mean_seconds`].
    pub(crate) mean_seconds: AtomicU64,
}

/// How busy an engine is, and what it did since it started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Requests in the running batch.
    pub running: usize,
    /// Requests that wait for room in it.
    pub waiting: usize,
    /// Tokens of cache reserved by the running batch, in whole pages; what several share counts once.
    pub cache_tokens: usize,
    /// Tokens of cache kept for requests that may begin in the same way, until the room is needed.
    pub kept_tokens: usize,
    /// Bytes of the adapters in memory, with those that were unloaded and still answer.
    pub adapter_bytes: usize,
    /// Tokens of prompts that were read.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found in the cache instead.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Tokens guessed by speculative decoding and read.
    pub drafted_tokens: u64,
    /// Those of them that were right.
    pub accepted_tokens: u64,
    /// Requests that ended, in whatever way.
    pub finished: u64,
    /// Seconds in the running batch of one request, averaged with more weight on those that ended last; 0 at first.
    pub mean_seconds: f64,
}

impl Engine {
    /// Loads the adapters of the settings and starts the scheduler's thread.
    pub fn start<F: Forward>(
        model: Arc<F>,
        tokenizer: Tokenizer,
        settings: Settings,
    ) -> Result<Engine, Error> {
        if let Speculative::Draft(path) = &settings.speculative {
            let fault = format!("`speculative` names the draft model {}, and none was given", path.display());
            return Err(Error::Settings { faults: vec![fault] });
        }
        let drafter = if settings.speculative == Speculative::Off { Drafter::Off } else { Drafter::LookUp };
        Engine::start_drafting(model, tokenizer, settings, drafter)
    }

    /// As [`Engine::start`], with a smaller model that guesses, which [`Settings::speculative`] names.
    ///
    /// # Errors
    /// [`Error::DraftVocabulary`] unless both tokenizers have the same tokens under the same numbers.
    pub fn start_with_draft<F: Forward>(
        model: Arc<F>,
        tokenizer: Tokenizer,
        (draft, draft_tokenizer): (Arc<F>, &Tokenizer),
        settings: Settings,
    ) -> Result<Engine, Error> {
        let known = tokenizer.vocab_size();
        let same = difference(&tokenizer, draft_tokenizer).map_or(Ok(()), Err).and_then(|()| {
            let scored = draft.vocab_size();
            if scored < known {
                Err(format!("it scores {scored} tokens, and there are {known}"))
            } else {
                Ok(())
            }
        });
        same.map_err(|reason| {
            let draft = match &settings.speculative {
                Speculative::Draft(path) => path.clone(),
                Speculative::Off | Speculative::Lookup => "the draft model".into(),
            };
            Error::DraftVocabulary { draft, reason }
        })?;
        settings.validate()?;
        let drafter = Drafter::Model(Box::new(DraftModel::new(draft, &settings, known)));
        Engine::start_drafting(model, tokenizer, settings, drafter)
    }

    fn start_drafting<F: Forward>(
        model: Arc<F>,
        tokenizer: Tokenizer,
        settings: Settings,
        drafter: Drafter<F>,
    ) -> Result<Engine, Error> {
        settings.validate()?;
        if tokenizer.vocab_size() > model.vocab_size() {
            return Err(Error::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: model.vocab_size(),
            });
        }
        let (commands, receiver) = channel();
        let counters = Arc::new(Counters::default());
        let pages = Pages::within(settings.max_cache_tokens, model.page_tokens());
        if pages.tokens() == 0 {
            let least = model.page_tokens();
            let fault = format!(
                "`max_cache_tokens` is {} and must be at least {least}, a page",
                settings.max_cache_tokens
            );
            return Err(Error::Settings { faults: vec![fault] });
        }
        let cache_tokens = pages.tokens();
        let context = model.context().min(cache_tokens);
        let reader = Arc::clone(&model);
        let adapters = Registry::new(settings.max_adapters, move |folder| reader.adapter(folder));
        for (name, folder) in &settings.adapters {
            adapters.load(name, folder, Taken::Refused)?;
        }
        let scheduler = Scheduler::new(
            model,
            tokenizer.clone(),
            settings.clone(),
            (context, pages),
            drafter,
            receiver,
            Arc::clone(&counters),
        );
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || scheduler.run())
            .map_err(|error| Error::Thread { reason: error.to_string() })?;
        let seed = settings.seed.unwrap_or_else(entropy);
        Ok(Engine {
            inner: Arc::new(Inner {
                commands,
                thread: Mutex::new(Some(thread)),
                closed: AtomicBool::new(false),
                counters,
                grammars: Grammars::new(tokenizer.clone()),
                adapters,
                tokenizer,
                settings,
                context,
                cache_tokens,
                seed,
                submitted: AtomicU64::new(0),
            }),
        })
    }

    /// The tokenizer that it was started with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Most tokens of one request, prompt and answer together.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// Tokens that the cache can hold: `max_cache_tokens` in whole pages.
    pub fn cache_tokens(&self) -> usize {
        self.inner.cache_tokens
    }

    /// The settings that it was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Loads the adapter of a folder in peft's format, so that requests can name it. Others are answered meanwhile.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a name that is taken or none, for one adapter too many, and for a folder that cannot be read or
    /// was made for another model.
    pub fn load_adapter(&self, name: &str, folder: &Path) -> Result<(), Error> {
        self.inner.adapters.load(name, folder, Taken::Refused).map(|_| ())
    }

    /// As [`Engine::load_adapter`], but that the adapter of this name, if there is one, gives way: requests that named it are
    /// answered with it, and those that come from now on with the new one.
    ///
    /// # Errors
    /// Those of it, but for a name that is taken. What is loaded stays then.
    pub fn replace_adapter(&self, name: &str, folder: &Path) -> Result<(), Error> {
        if let Some(old) = self.inner.adapters.load(name, folder, Taken::Replaced)? {
            self.forget(&old);
        }
        Ok(())
    }

    /// Takes an adapter's name away: no more requests can name it. Those that did are answered with it, and its memory is
    /// free once the last of them is done.
    ///
    /// # Errors
    /// [`Error::UnknownAdapter`].
    pub fn unload_adapter(&self, name: &str) -> Result<(), Error> {
        self.forget(&*self.inner.adapters.unload(name)?);
        Ok(())
    }

    /// Gives up what is kept of an adapter that cannot be named any more.
    fn forget(&self, adapter: &Loaded) {
        // Fails where the thread has ended, and its pages with it.
        let _ = self.inner.commands.send(Command::Forget(adapter.number));
    }

    /// The adapter that requests can name so.
    ///
    /// # Errors
    /// [`Error::UnknownAdapter`].
    pub fn adapter(&self, name: &str) -> Result<AdapterInfo, Error> {
        Ok(self.inner.adapters.get(name)?.info.clone())
    }

    /// The adapters that requests can name, by name.
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.inner.adapters.list()
    }

    /// Whether it takes requests: not after it was told to end, nor when its thread has failed.
    pub fn is_running(&self) -> bool {
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner);
        !self.inner.closed.load(Ordering::SeqCst)
            && thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// How busy it is.
    pub fn stats(&self) -> Stats {
        let counters = &self.inner.counters;
        let running = counters.running.load(Ordering::Relaxed);
        Stats {
            running,
            waiting: counters.in_flight.load(Ordering::Relaxed).saturating_sub(running),
            cache_tokens: counters.cache_tokens.load(Ordering::Relaxed),
            kept_tokens: counters.kept_tokens.load(Ordering::Relaxed),
            adapter_bytes: self.inner.adapters.bytes(),
            prompt_tokens: counters.prompt_tokens.load(Ordering::Relaxed),
            cached_tokens: counters.cached_tokens.load(Ordering::Relaxed),
            completion_tokens: counters.completion_tokens.load(Ordering::Relaxed),
            drafted_tokens: counters.drafted_tokens.load(Ordering::Relaxed),
            accepted_tokens: counters.accepted_tokens.load(Ordering::Relaxed),
            finished: counters.finished.load(Ordering::Relaxed),
            mean_seconds: f64::from_bits(counters.mean_seconds.load(Ordering::Relaxed)),
        }
    }

    /// Puts a request in the queue.
    ///
    /// Errors say what is wrong with the request, that the queue is full, or that the engine was shut down.
    pub fn submit(&self, request: Request) -> Result<Events, Error> {
        let (sink, events) = events::channel();
        self.submit_to(request, Box::new(sink))?;
        Ok(events)
    }

    /// As [`Engine::submit`], with the events sent to `sink`.
    pub fn submit_to(&self, request: Request, sink: Box<dyn Sink>) -> Result<(), Error> {
        let checked = self.check(&request)?;
        let limit = self.inner.settings.max_sequences + self.inner.settings.max_queue;
        let in_flight = &self.inner.counters.in_flight;
        let one_more = |count| (count < limit).then_some(count + 1);
        in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|in_flight| Error::QueueFull { in_flight })?;
        self.enqueue(request, checked, sink)
    }

    /// Runs one request to its end, and waits for it.
    pub fn complete(&self, request: Request) -> Result<Completion, Error> {
        let events = self.submit(request)?;
        let mut partial = Partial::default();
        while let Ok(event) = events.recv() {
            if let Some(completion) = partial.collect(event) {
                return completion;
            }
        }
        Err(Error::Stopped)
    }

    /// Vectors of prompts, all read together; each is of length 1, beside what it cost. Errors as [`Engine::complete`].
    pub fn embed(&self, prompts: Vec<Vec<u32>>, pooling: Pooling) -> Vec<Result<(Vec<f32>, Usage), Error>> {
        let request = |prompt| Request { embedding: Some(pooling), ..Request::new(prompt) };
        let completions = self.complete_all(prompts.into_iter().map(request).collect());
        completions.into_iter().map(|answer| answer.map(|answer| (answer.embedding, answer.usage))).collect()
    }

    /// Runs all requests together and waits for them; the answers are in the order of the requests. The bound on the
    /// queue does not apply.
    pub fn complete_all(&self, requests: Vec<Request>) -> Vec<Result<Completion, Error>> {
        let mut completions: Vec<_> = requests.iter().map(|_| Err(Error::Stopped)).collect();
        self.complete_each(requests, |index, completion| completions[index] = completion);
        completions
    }

    /// As [`Engine::complete_all`], with each answer given to `done` when it is there, beside the index of its request.
    pub fn complete_each(
        &self,
        requests: Vec<Request>,
        mut done: impl FnMut(usize, Result<Completion, Error>),
    ) {
        let (sender, receiver) = channel();
        let mut partial: Vec<Partial> = requests.iter().map(|_| Partial::default()).collect();
        let mut open = vec![true; requests.len()];
        let alive = Arc::new(());
        for (index, request) in requests.into_iter().enumerate() {
            let sink = Indexed::new(index, sender.clone(), &alive);
            let sent = self.check(&request).and_then(|checked| {
                self.inner.counters.in_flight.fetch_add(1, Ordering::Relaxed);
                self.enqueue(request, checked, Box::new(sink))
            });
            if let Err(error) = sent {
                open[index] = false;
                done(index, Err(error));
            }
        }
        drop(sender);
        // Ends when every sink is gone, be it that the scheduler is.
        for (index, event) in receiver {
            if let Some(completion) = partial[index].collect(event) {
                open[index] = false;
                done(index, completion);
            }
        }
        for (index, _) in open.iter().enumerate().filter(|(_, open)| **open) {
            done(index, Err(Error::Stopped));
        }
    }

    /// Takes no more requests, finishes those that run or wait, and ends the scheduler's thread.
    pub fn shutdown(&self) {
        self.end(Command::Finish);
    }

    /// Takes no more requests, cancels those that run or wait, and ends the scheduler's thread.
    pub fn abort(&self) {
        self.end(Command::Abort);
    }

    fn end(&self, command: Command) {
        self.inner.closed.store(true, Ordering::SeqCst);
        // Fails where the thread has ended already, which is what was wanted.
        let _ = self.inner.commands.send(command);
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has reached the callers as the end of their events.
            let _ = thread.join();
        }
    }

    /// Compiles a constraint, so that a request which brings it is submitted at once. Takes milliseconds as a rule, and
    /// up to a few seconds; the first constraint of an engine also waits for the vocabulary to be laid out.
    ///
    /// # Errors
    /// [`Error::Constraint`] with what is wrong with it; [`Engine::submit`] says the same.
    pub fn prepare(&self, constraint: &Constraint) -> Result<(), Error> {
        self.inner.grammars.guide(constraint, &[], false).map(|_| ())
    }

    /// Whether the request can be run at all; and what it is run with.
    fn check(&self, request: &Request) -> Result<Checked, Error> {
        let vocab_size = self.inner.tokenizer.vocab_size();
        let prompt_tokens = request.prompt.len();
        if prompt_tokens == 0 {
            return Err(Error::EmptyPrompt);
        }
        let context = self.inner.context;
        let max_tokens = if request.embedding.is_some() { 0 } else { request.max_tokens.unwrap_or(1) };
        if prompt_tokens.saturating_add(max_tokens) > context {
            return Err(Error::ContextLength { prompt_tokens, max_tokens, context });
        }
        if let Some(position) = request.prompt.iter().position(|&token| token as usize >= vocab_size) {
            return Err(Error::UnknownToken { position, token: request.prompt[position], vocab_size });
        }
        let mut faults = request.sampling.faults(vocab_size);
        if request.max_tokens == Some(0) && request.prompt_logprobs.is_none() && request.embedding.is_none() {
            faults.push(
                "`max_tokens` is 0 and must be at least 1, unless the prompt's log-probabilities are asked for"
                    .into(),
            );
        }
        if !faults.is_empty() {
            return Err(Error::InvalidRequest { faults });
        }
        let guide =
            |constraint| self.inner.grammars.guide(constraint, &request.stop_tokens, request.ignore_end);
        Ok(Checked {
            guide: request.constraint.as_ref().map(guide).transpose()?,
            adapter: request.adapter.as_deref().map(|name| self.inner.adapters.get(name)).transpose()?,
        })
    }

    /// The caller has counted the request among those in flight.
    fn enqueue(&self, request: Request, checked: Checked, sink: Box<dyn Sink>) -> Result<(), Error> {
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        let number = self.inner.submitted.fetch_add(1, Ordering::Relaxed);
        let seed = ledger::seed::Seed(self.inner.seed).stream("engine.request", number).next_u64();
        let Checked { guide, adapter } = checked;
        let submission = Submission { request, guide, adapter, sink, seed, submitted: Instant::now() };
        self.inner.commands.send(Command::Submit(Box::new(submission))).map_err(|_| Error::Stopped)
    }
}

/// What a request needs besides itself.
struct Checked {
    /// Keeps the answer to its constraint.
    guide: Option<Guide>,
    /// What it named.
    adapter: Option<Arc<Loaded>>,
}

/// Where two vocabularies differ first.
fn difference(own: &Tokenizer, other: &Tokenizer) -> Option<String> {
    if own.vocab_size() != other.vocab_size() {
        return Some(format!("it has {} tokens, and this one {}", other.vocab_size(), own.vocab_size()));
    }
    let same = |id: &u32| {
        own.token_bytes(*id) == other.token_bytes(*id) && own.is_special(*id) == other.is_special(*id)
    };
    let id = (0..own.vocab_size() as u32).find(|id| !same(id))?;
    Some(format!("token {id} is {:?} there and {:?} here", other.decode(&[id]), own.decode(&[id])))
}

/// A number that differs from one start to the next; the standard library's hash keys come from the system.
fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
