//! Records as the readers find them, before any step: for programs that want to look at their inputs or to measure
//! the reading. Curation reads the same way, but in a thread of its own.

use std::ops::ControlFlow;

use ledger::progress::Silent;

use crate::batch::Record;
use crate::funnel::SkippedInput;
use crate::read::{self, Flow, Sink};
use crate::{Error, Settings, Source, source};

/// What is found in an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A document.
    Record(Record),
    /// A place that cannot be read, and why.
    Skipped(SkippedInput),
    /// Something that is no document, by its label.
    Ignored(String),
}

/// Reads the sources in their order, as curation does, and hands on what is found until `take` breaks.
///
/// # Errors
/// [`Error::Store`] where an object store cannot be listed or read.
pub fn records(
    sources: &[Source],
    settings: &Settings,
    take: impl FnMut(Found) -> ControlFlow<()>,
) -> Result<(), Error> {
    let inputs = source::expand(sources, settings)?;
    let mut hand = Hand { take, over: false };
    for skipped in inputs.skipped {
        if (hand.take)(Found::Skipped(skipped)).is_break() {
            return Ok(());
        }
    }
    for input in &inputs.inputs {
        if read::read(input, settings, &Silent, &mut hand)?.is_break() || hand.over {
            break;
        }
    }
    Ok(())
}

struct Hand<F> {
    take: F,
    /// Whether a break was asked for where none can be returned.
    over: bool,
}

impl<F: FnMut(Found) -> ControlFlow<()>> Sink for Hand<F> {
    fn record(&mut self, record: Record) -> Flow {
        (self.take)(Found::Record(record))
    }

    fn skip(&mut self, place: String, reason: String) -> Flow {
        (self.take)(Found::Skipped(SkippedInput { place, reason }))
    }

    fn ignore(&mut self, label: &str) {
        self.over |= (self.take)(Found::Ignored(label.to_string())).is_break();
    }
}
