//! How fast an engine reads prompts and writes answers, by requests like a client's: scheduling and sampling included.
//!
//! Not here: how it is shown, and the engine beside llama.cpp's, which is `bench/engine`.

use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;

use crate::{Completion, Engine, Error, Request, Sampling};

/// What is to be measured.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// Tokens of the prompts that are read.
    pub prompts: &'a [usize],
    /// Tokens that each answer has; 0 measures no answers.
    pub generate: usize,
    /// Tokens of the prompts whose answers are timed: few, so that writing is what is measured.
    pub after: usize,
    /// How many answers are written at once, one measurement each.
    pub streams: &'a [usize],
    /// How often each is measured.
    pub rounds: u32,
    /// `Some(n)`: answers are written with `n` of the tokens alone, by a bias, so that they repeat themselves, as
    /// speculative decoding wants it; with one token altogether. A random model repeats nothing by itself.
    pub repeat: Option<usize>,
    /// Tokens of a text: prompts are its stretches, each behind the token that begins a text. Without one they are random.
    pub text: Option<&'a [u32]>,
    /// Of the answers; 0: always the likeliest token.
    pub temperature: f32,
    /// The adapter that reads and answers.
    pub adapter: Option<&'a str>,
    /// Where the random prompts, or the places in the text, and what is drawn come from.
    pub seed: Seed,
    /// Where to report.
    pub progress: &'a dyn Progress,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// One for each length of [`Bench::prompts`].
    pub prefill: Vec<Rate>,
    /// One for each number of [`Bench::streams`].
    pub decode: Vec<Rate>,
}

/// How long one thing took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    /// Tokens of the prompt, or answers written at once.
    pub size: usize,
    /// Tokens read or written in each round.
    pub tokens: usize,
    /// Seconds of each round, in order.
    pub seconds: Vec<f64>,
    /// Tokens that were guessed in all rounds, and those of them that were right.
    pub drafted: (usize, usize),
}

impl Rate {
    /// At the median round.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / ledger::median(&self.seconds)
    }
}

/// Measures an engine that does nothing else meanwhile.
///
/// # Errors
/// Those of the requests, such as a prompt that is longer than the context.
pub fn run(engine: &Engine, bench: &Bench) -> Result<Measured, Error> {
    let per_round = bench.prompts.len() + if bench.generate > 0 { bench.streams.len() } else { 0 };
    let task =
        bench.progress.begin("measure", Some(u64::from(bench.rounds) * per_round as u64 + 1), Unit::Items);
    let mut prompts = Prompts { engine, text: bench.text.unwrap_or_default(), seed: bench.seed, drawn: 0 };
    let adapter = bench.adapter.map(str::to_owned);
    let answer = |prompt, tokens| Request {
        ignore_end: true,
        adapter: adapter.clone(),
        ..Request::greedy(prompt, tokens)
    };
    // The first answer finds its buffers and the weights' pages untouched.
    engine.complete(answer(prompts.draw(bench.after), 2))?;
    task.advance(1);
    // Far apart in the vocabulary, and any would do.
    let vocab_size = engine.tokenizer().vocab_size();
    let few = |count: usize| (0..count).map(|place| ((place * 7919 + 1000) % vocab_size) as u32);
    let logit_bias =
        bench.repeat.map(|count| few(count).map(|token| (token, 1e4)).collect()).unwrap_or_default();
    let sampling = Sampling { logit_bias, temperature: bench.temperature, ..Sampling::greedy() };
    // Each answer has a seed of its own, the same whenever this is measured.
    let timed = |(prompt, number): (Vec<u32>, u64)| {
        let seed = Some(bench.seed.stream("engine.bench.answer", number).next_u64());
        let sampling = Sampling { seed, ..sampling.clone() };
        Request { sampling, ..answer(prompt, bench.generate + 1) }
    };
    let mut measured = Measured::default();
    for &size in bench.prompts {
        let mut rate = Rate { size, tokens: size, ..Rate::default() };
        for _ in 0..bench.rounds {
            task.message(&format!("a prompt of {size} tokens"));
            rate.seconds.push(engine.complete(answer(prompts.draw(size), 1))?.timing.prefill.as_secs_f64());
            task.advance(1);
        }
        measured.prefill.push(rate);
    }
    for &size in bench.streams.iter().filter(|_| bench.generate > 0) {
        // The first token comes with the end of the prompt.
        let mut rate = Rate { size, tokens: size * bench.generate, ..Rate::default() };
        for _ in 0..bench.rounds {
            task.message(&format!("{size} answers at once"));
            let requests = (0..size).map(|_| timed((prompts.draw(bench.after), prompts.drawn))).collect();
            let answers = engine.complete_all(requests).into_iter().collect::<Result<Vec<_>, _>>()?;
            rate.seconds.push(answers.iter().map(decode_seconds).fold(0.0, f64::max));
            for usage in answers.iter().map(|answer| answer.usage) {
                rate.drafted.0 += usage.accepted_tokens + usage.rejected_tokens;
                rate.drafted.1 += usage.accepted_tokens;
            }
            task.advance(1);
        }
        measured.decode.push(rate);
    }
    Ok(measured)
}

fn decode_seconds(answer: &Completion) -> f64 {
    answer.timing.decode.as_secs_f64()
}

/// Random prompts, each another: nothing that was read before helps. Those of a text begin at random places.
struct Prompts<'a> {
    engine: &'a Engine,
    text: &'a [u32],
    seed: Seed,
    drawn: u64,
}

impl Prompts<'_> {
    fn draw(&mut self, tokens: usize) -> Vec<u32> {
        let mut random = self.seed.stream("engine.bench", self.drawn);
        self.drawn += 1;
        let vocab_size = self.engine.tokenizer().vocab_size();
        if !self.text.is_empty() {
            let first = random.below(self.text.len() as u64) as usize;
            // A text that is shorter than its prompt begins again.
            let stretch = self.text[first..].iter().chain(self.text.iter().cycle()).copied();
            return std::iter::once(self.engine.tokenizer().bos()).chain(stretch).take(tokens).collect();
        }
        (0..tokens).map(|_| random.below(vocab_size as u64) as u32).collect()
    }
}
