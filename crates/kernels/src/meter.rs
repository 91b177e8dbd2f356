//! What operations cost: each one measures its own time and counts its arithmetic and the memory that it must move.
//!
//! Off until a [`Meter`] starts, and until then an operation pays one relaxed load. A meter hears the thread that it was
//! started on and no other, which is enough: an operation forks and joins inside. Not a profiler: it sees operations,
//! not lines.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::gemm::{Accumulate, View, ViewMut};

/// Meters that run, on all threads together.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// An operation, whatever it is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`crate::gemm`] on all threads.
    Product,
    /// A strip of a quantised matrix, or rows of a quantised embedding, made f32.
    Dequantise,
    /// [`crate::attention`], its products included.
    Attention,
    /// [`crate::rms_norm`].
    RmsNorm,
    /// [`crate::rope`].
    Rope,
    /// [`crate::swiglu`].
    SwiGlu,
    /// [`crate::cross_entropy`] without its products, which count as such.
    CrossEntropy,
    /// [`crate::embedding`].
    Embedding,
    /// [`crate::adamw`].
    AdamW,
    /// [`crate::reduce::sum_of_squares`].
    SumOfSquares,
    /// [`crate::reduce::zero`].
    Zero,
    /// [`crate::reduce::copy`].
    Copy,
}

impl Operation {
    /// The operation's name, as the field and this crate's files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Dequantise => "dequantise",
            Self::Attention => "attention",
            Self::RmsNorm => "rms_norm",
            Self::Rope => "rope",
            Self::SwiGlu => "swiglu",
            Self::CrossEntropy => "cross_entropy",
            Self::Embedding => "embedding",
            Self::AdamW => "adamw",
            Self::SumOfSquares => "sum_of_squares",
            Self::Zero => "zero",
            Self::Copy => "copy",
        }
    }
}

/// What an operation computes in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pass {
    /// It has no counterpart in another pass, or does both in one.
    #[default]
    Whole,
    /// Its result.
    Forward,
    /// All of its gradients.
    Backward,
    /// The gradient of what went in.
    InputGradient,
    /// The gradient of the weights.
    WeightGradient,
}

impl Pass {
    /// In words; empty where there is nothing to tell apart.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The operation.
    pub operation: Operation,
    /// Of a product: which one, as its caller [labelled](label) it. Else empty.
    pub role: &'static str,
    /// What was computed.
    pub pass: Pass,
    /// Whether it had been computed before and was not kept.
    pub again: bool,
}

impl fmt::Display for Name {
    /// `gate_up weight gradient`, `rms_norm forward again`, `adamw`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let subject = if self.role.is_empty() { self.operation.name() } else { self.role };
        let again = if self.again { "again" } else { "" };
        let dequantise =
            if self.operation == Operation::Dequantise && !self.role.is_empty() { "dequantised" } else { "" };
        let mut text = subject.to_owned();
        for word in [dequantise, self.pass.name(), again].into_iter().filter(|word| !word.is_empty()) {
            text.push(' ');
            text.push_str(word);
        }
        formatter.pad(&text)
    }
}

/// What one call must at least do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations as the formula is written: a multiplication and an addition are two, and an
    /// exponential, a root or a division is one.
    pub flops: u64,
    /// Bytes of its operands as they lie in memory, each read once.
    pub read: u64,
    /// Bytes of its results, each written once.
    pub written: u64,
}

impl Cost {
    /// `flops`, and values of four bytes that are read and written.
    pub(crate) fn of(flops: usize, read: usize, written: usize) -> Self {
        Self { flops: flops as u64, read: 4 * read as u64, written: 4 * written as u64 }
    }

    /// Of a matrix product whose right operand takes `right` bytes.
    pub(crate) fn product(c: &ViewMut, a: &View, right: usize, accumulate: Accumulate) -> Self {
        let (rows, cols, depth) = (c.rows(), c.cols(), a.cols());
        let sums = if accumulate == Accumulate::Add { rows * cols } else { 0 };
        let cost = Self::of(2 * rows * cols * depth, sums, rows * cols);
        Self { read: cost.read + (a.bytes() + right) as u64, ..cost }
    }
}

/// All calls of one kind since the meter was last read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// What they are.
    pub name: Name,
    /// How many.
    pub calls: u64,
    /// Their time on the wall, without that of the operations that they called.
    pub time: Duration,
    /// What they had to do.
    pub cost: Cost,
}

/// While it lives, operations called from its thread are recorded.
#[derive(Debug)]
pub struct Meter {
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Meter {
    /// Kinds of operations that fit before the record grows: a step of a model with adapters has about 50.
    const KINDS: usize = 96;

    /// Begins to record.
    ///
    /// # Panics
    /// When this thread has a meter that runs.
    pub fn start() -> Self {
        RECORDER.with_borrow_mut(|recorder| {
            assert!(recorder.is_none(), "a meter runs on this thread already");
            *recorder = Some(Recorder { entries: Vec::with_capacity(Self::KINDS), ..Recorder::default() });
        });
        RUNNING.fetch_add(1, Relaxed);
        Self { thread: PhantomData }
    }

    /// What was recorded since the start, or since this was last asked, in the order of the first calls.
    pub fn take(&mut self) -> Vec<Entry> {
        RECORDER.with_borrow_mut(|recorder| {
            let entries = recorder.as_mut().map(|recorder| &mut recorder.entries);
            entries.map_or_else(Vec::new, |entries| mem::replace(entries, Vec::with_capacity(Self::KINDS)))
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Relaxed);
        RECORDER.set(None);
    }
}

#[derive(Default)]
struct Recorder {
    entries: Vec<Entry>,
    label: Label,
    /// Time of the operations that ended inside of the one that is open.
    inner: Duration,
}

/// How the products that follow are called.
#[derive(Clone, Copy, Default)]
struct Label {
    role: &'static str,
    pass: Pass,
    again: bool,
}

impl Recorder {
    fn name(&self, operation: Operation, pass: Pass) -> Name {
        let Label { role, pass: label, again } = self.label;
        match operation {
            Operation::Product | Operation::Dequantise => Name { operation, role, pass: label, again },
            _ => Name { operation, role: "", pass, again },
        }
    }

    fn add(&mut self, name: Name, time: Duration, cost: Cost) {
        match self.entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => {
                entry.calls += 1;
                entry.time += time;
                entry.cost.flops += cost.flops;
                entry.cost.read += cost.read;
                entry.cost.written += cost.written;
            }
            None => self.entries.push(Entry { name, calls: 1, time, cost }),
        }
    }
}

/// An operation at work; it ends when this is dropped.
#[must_use = "the operation ends when this is dropped"]
pub(crate) struct Span(Option<Open>);

struct Open {
    name: Name,
    cost: Cost,
    began: Instant,
    /// [`Recorder::inner`] of the operation around this one.
    outer: Duration,
    thread: PhantomData<*const ()>,
}

/// Begins an operation that the calling thread is about to do. The cost is asked for where a meter runs. Products, and
/// what is dequantised for them, are named by their [`label`] and not by `pass`.
#[inline]
pub(crate) fn span(operation: Operation, pass: Pass, cost: impl FnOnce() -> Cost) -> Span {
    if RUNNING.load(Relaxed) == 0 {
        return Span(None);
    }
    Span(begin(operation, pass, cost))
}

/// [`span`] of a product, which is named by its label.
#[inline]
pub(crate) fn product(cost: impl FnOnce() -> Cost) -> Span {
    span(Operation::Product, Pass::Whole, cost)
}

#[cold]
fn begin(operation: Operation, pass: Pass, cost: impl FnOnce() -> Cost) -> Option<Open> {
    RECORDER.with_borrow_mut(|recorder| {
        let recorder = recorder.as_mut()?;
        let (name, cost) = (recorder.name(operation, pass), cost());
        let outer = mem::take(&mut recorder.inner);
        Some(Open { name, cost, outer, began: Instant::now(), thread: PhantomData })
    })
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.end();
        }
    }
}

impl Open {
    #[cold]
    fn end(self) {
        let time = self.began.elapsed();
        RECORDER.with_borrow_mut(|recorder| {
            if let Some(recorder) = recorder {
                recorder.add(self.name, time.saturating_sub(recorder.inner), self.cost);
                recorder.inner = self.outer + time;
            }
        });
    }
}

/// A label that ends when this is dropped.
#[must_use = "the label ends when this is dropped"]
pub struct Labelled(Option<(Label, PhantomData<*const ()>)>);

/// Names the products that this thread multiplies until the end of the scope, such as `("qkv", Pass::Forward)`.
#[inline]
pub fn label(role: &'static str, pass: Pass) -> Labelled {
    relabel(|label| Label { role, pass, again: label.again })
}

/// What this thread computes until the end of the scope was computed before and not kept.
#[inline]
pub fn again() -> Labelled {
    relabel(|label| Label { again: true, ..label })
}

#[inline]
fn relabel(change: impl FnOnce(Label) -> Label) -> Labelled {
    if RUNNING.load(Relaxed) == 0 {
        return Labelled(None);
    }
    let before = RECORDER.with_borrow_mut(|recorder| {
        let label = &mut recorder.as_mut()?.label;
        let changed = change(*label);
        Some((mem::replace(label, changed), PhantomData))
    });
    Labelled(before)
}

impl Drop for Labelled {
    #[inline]
    fn drop(&mut self) {
        if let Some((before, _)) = self.0 {
            RECORDER.with_borrow_mut(|recorder| {
                if let Some(recorder) = recorder {
                    recorder.label = before;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
