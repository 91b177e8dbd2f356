//! `alti curate judge`: a Llama rates a sample of documents by a rubric, for `alti curate classifier train` to learn from.

mod judges;
mod ratings;
mod rubric;
mod sample;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use corpus::{Source, Texts};
use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;

use self::judges::{Answer, Fault, Judge, Local, Remote};
use self::ratings::Ratings;
use self::rubric::{Rubric, Verdict};
use self::sample::{Chosen, Sampling};
use crate::args::CurateJudge;
use crate::endpoint;
use crate::errors::Error;
use crate::interrupt;
use crate::progress::Shown;
use crate::report::scale::{count, figures, percent, short};

/// Documents that fail one after another before the judge is given up.
const GIVE_UP: u64 = 20;

/// `alti curate judge`.
pub fn judge(args: &CurateJudge, shown: &Shown) -> Result<(), Error> {
    let rubric = Rubric::open(&args.rubric)?;
    interrupt::listen("ending the ratings that are being made; once more to stop at once");
    let judge = open(args, &rubric, shown)?;
    let mut ratings = Ratings::open(&args.out, &rubric, judge.name())?;
    let chosen = choose(args, shown)?;
    let pending: Vec<&Chosen> = chosen.iter().filter(|document| !ratings.has(&document.id)).collect();
    let before = chosen.len() - pending.len();
    if before > 0 {
        shown.note(&format!(
            "{} of {} documents were rated before",
            count(before as u64),
            count(chosen.len() as u64)
        ));
    }
    let mut account = Account::default();
    let ended = rate(args, &judge, &rubric, &pending, &mut ratings, &mut account, shown);
    ratings.finish()?;
    if let Some(first) = &account.first_failure {
        shown.warn(&format!(
            "{} documents could not be rated, such as {first}; the same command tries them again",
            count(account.failed)
        ));
    }
    ended?;
    anstream::print!("{}", describe(args, &rubric, &ratings, &account, judge.name()));
    Ok(())
}

fn open(args: &CurateJudge, rubric: &Rubric, shown: &Shown) -> Result<Judge, Error> {
    match (&args.endpoint, &args.model) {
        (Some(address), model) => {
            let timeout = std::time::Duration::from_secs(args.timeout.get());
            let endpoint = endpoint::open(address, args.api_key_file.as_deref(), timeout)?;
            Ok(Judge::Remote(Remote::open(endpoint, model.as_deref(), interrupt::flag())?))
        }
        (None, Some(model)) => {
            Ok(Judge::Local(Box::new(Local::open(model.as_ref(), &args.set, rubric, shown)?)))
        }
        (None, None) => Err(Error::Usage {
            message: "nobody is named to judge".to_owned(),
            hint: "give --model with a run, a model or a GGUF file, or --endpoint with an address".to_owned(),
        }),
    }
}

fn choose(args: &CurateJudge, shown: &Shown) -> Result<Vec<Chosen>, Error> {
    let sources: Vec<Source> =
        args.sources.iter().map(|text| Ok(Source::parse(text)?)).collect::<Result<_, Error>>()?;
    let texts = Texts::find(&sources, &corpus::Settings::default(), &[])?;
    for skipped in texts.skipped() {
        shown.warn(&format!("left out {}: {}", skipped.place, skipped.reason));
    }
    let mut sampling = Sampling::new(args.sample.get(), args.characters.get(), Seed(args.seed));
    let task = shown.begin("choosing documents", Some(texts.bytes()), Unit::Bytes);
    let _ = texts.read(0, 0, task.as_ref(), &mut sampling)?;
    drop(task);
    if let (left_out, Some(first)) = &sampling.left_out {
        shown.warn(&format!("left out {} places, such as {first}", count(*left_out)));
    }
    let seen = sampling.seen;
    let chosen = sampling.finish();
    if chosen.is_empty() {
        return Err(Error::Usage {
            message: format!("no document in {}", args.sources.join(", ")),
            hint: "give a folder, glob or file with text; JSONL needs a field text".to_owned(),
        });
    }
    shown.note(&format!("{} of {} documents chosen", count(chosen.len() as u64), count(seen)));
    Ok(chosen)
}

/// What the ratings took.
#[derive(Default)]
struct Account {
    rated: u64,
    failed: u64,
    failed_in_a_row: u64,
    first_failure: Option<String>,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Account {
    fn cost(&self, args: &CurateJudge) -> Option<f64> {
        let prices = (args.price_in?, args.price_out?);
        Some((self.prompt_tokens as f64 * prices.0 + self.completion_tokens as f64 * prices.1) / 1e6)
    }

    fn line(&self, args: &CurateJudge) -> String {
        let (read, written) = (short(self.prompt_tokens as f64), short(self.completion_tokens as f64));
        let cost = self.cost(args).map(|cost| format!(", cost {}", figures(cost))).unwrap_or_default();
        let failed = if self.failed > 0 { format!(", {} failed", count(self.failed)) } else { String::new() };
        format!("{read} tokens read, {written} written{cost}{failed}")
    }
}

/// Asks about all documents, several at once; answers are written as they come.
fn rate(
    args: &CurateJudge,
    judge: &Judge,
    rubric: &Rubric,
    pending: &[&Chosen],
    ratings: &mut Ratings,
    account: &mut Account,
    shown: &Shown,
) -> Result<(), Error> {
    let task = shown.begin("judging documents", Some(pending.len() as u64), Unit::Documents);
    let (next, halt) = (AtomicUsize::new(0), AtomicBool::new(false));
    let over = || halt.load(Ordering::SeqCst) || interrupt::asked();
    std::thread::scope(|scope| {
        let (results, incoming) = channel();
        for _ in 0..args.concurrency.get().min(pending.len()) {
            let results = results.clone();
            let (next, over) = (&next, &over);
            scope.spawn(move || {
                while !over() {
                    let Some(document) = pending.get(next.fetch_add(1, Ordering::SeqCst)) else { return };
                    let (answer, found) = verdict(judge, rubric, &document.text, args.attempts.get(), over);
                    if results.send((*document, answer, found)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut ended = Ok(());
        for (document, answer, found) in incoming {
            account.prompt_tokens += answer.prompt_tokens;
            account.completion_tokens += answer.completion_tokens;
            match found {
                Ok(verdict) => {
                    (account.rated, account.failed_in_a_row) = (account.rated + 1, 0);
                    if let Err(error) = ratings.add(document, &verdict) {
                        halt.store(true, Ordering::SeqCst);
                        ended = Err(error);
                    }
                }
                // A request that was given up because the person asked to stop.
                Err(Fault::Judge(_)) if interrupt::asked() => {}
                Err(Fault::Judge(error)) => {
                    halt.store(true, Ordering::SeqCst);
                    ended = ended.and(Err(error));
                }
                Err(Fault::Document(reason)) => {
                    account.failed += 1;
                    account.failed_in_a_row += 1;
                    let first = format!("{}: {reason}", document.source);
                    account.first_failure.get_or_insert(first);
                    if account.failed_in_a_row >= GIVE_UP && !halt.swap(true, Ordering::SeqCst) {
                        ended = Err(Error::Usage {
                            message: format!(
                                "{GIVE_UP} documents in a row could not be rated, the last: {reason}"
                            ),
                            hint:
                                "try a better judge, or a rubric that it understands; what was rated is kept"
                                    .to_owned(),
                        });
                    }
                }
            }
            task.advance(1);
            task.message(&account.line(args));
        }
        if interrupt::asked() && ended.is_ok() {
            return Err(Error::Interrupted {
                hint: "run the same command again; it goes on with the documents that are left".to_owned(),
            });
        }
        ended
    })
}

/// Asks until an answer is one. The tokens of all attempts count.
fn verdict(
    judge: &Judge,
    rubric: &Rubric,
    text: &str,
    attempts: u32,
    over: &dyn Fn() -> bool,
) -> (Answer, Result<Verdict, Fault>) {
    let (mut spent, mut reason) = (Answer::default(), String::new());
    for attempt in 0..attempts {
        match judge.ask(rubric, text, attempt, interrupt::flag()) {
            Ok(answer) => {
                spent.prompt_tokens += answer.prompt_tokens;
                spent.completion_tokens += answer.completion_tokens;
                match rubric.parse(&answer.text) {
                    Ok(verdict) => return (spent, Ok(verdict)),
                    Err(wrong) => reason = wrong,
                }
            }
            Err(Fault::Document(wrong)) => reason = wrong,
            Err(fault) => return (spent, Err(fault)),
        }
        if over() {
            break;
        }
    }
    (spent, Err(Fault::Document(reason)))
}

fn describe(
    args: &CurateJudge,
    rubric: &Rubric,
    ratings: &Ratings,
    account: &Account,
    model: &str,
) -> String {
    let total = ratings.len();
    let mut text = format!(
        "{}: {} documents rated by {model} for {}, {} of them now\n",
        args.out.display(),
        count(total),
        rubric.name,
        count(account.rated)
    );
    for (index, &of_score) in ratings.counts.iter().enumerate() {
        let share = of_score as f64 / total.max(1) as f64;
        let bar = "█".repeat((share * 40.0).round() as usize);
        let score = rubric.least + index as i64;
        text.push_str(&format!("  {score:>4} {:>9} {:>5} {bar}\n", count(of_score), percent(share)));
    }
    text.push_str(&format!("{}\n", account.line(args)));
    text
}
