//! Sums and differences of whole numbers below 100 and products up to 10 × 10, with the working written out.
//! Numbers reach the model as one token or several, as the vocabulary happens to merge them; the working names the
//! digits one column at a time, which a small model learns from a few thousand examples where it would need far
//! more to learn the answers alone.

use super::words::number_in_words;
use super::{Check, Item, Kind, Split, side, worded};
use ledger::seed::Rng;

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
}

struct Problem {
    operation: Operation,
    left: u32,
    right: u32,
}

/// A problem in figures: `What is 17 + 25?`, `7+5=12, 1+2+1=4: 42`.
pub(super) fn in_figures(split: Split, rng: &mut Rng) -> Item {
    const WORDINGS: [&str; 10] = [
        "What is {}?",
        "{}",
        "{} = ?",
        "{} =",
        "Calculate {}.",
        "How much is {}?",
        "What's {}?",
        "Compute {}.",
        "Can you work out {}?",
        "Please solve {}.",
    ];
    let problem = draw(split, rng, true);
    let (left, right) = (problem.left, problem.right);
    let expression = match (problem.operation, rng.below(4)) {
        (Operation::Add, 0) => format!("{left}+{right}"),
        (Operation::Add, 1) => format!("{left} plus {right}"),
        (Operation::Add, _) => format!("{left} + {right}"),
        (Operation::Subtract, 0) => format!("{left}-{right}"),
        (Operation::Subtract, 1) => format!("{left} minus {right}"),
        (Operation::Subtract, _) => format!("{left} - {right}"),
        (Operation::Multiply, 0) => format!("{left}*{right}"),
        (Operation::Multiply, 1) => format!("{left} times {right}"),
        (Operation::Multiply, 2) => format!("{left} x {right}"),
        (Operation::Multiply, _) => format!("{left} * {right}"),
    };
    let question = worded(rng, &WORDINGS, &expression);
    let answer = problem.result().to_string();
    let reply = format!("{}: {answer}", problem.working());
    Item::new(Kind::Arithmetic, problem.fact(), question, reply, answer, Check::Final)
}

/// A sum or difference in words: `What is seventeen plus four?`, `17+4. 7+4=11, 1+1=2, 21: twenty-one`.
pub(super) fn in_words(split: Split, rng: &mut Rng) -> Item {
    const WORDINGS: [&str; 8] = [
        "What is {}?",
        "How much is {}?",
        "Calculate {}.",
        "What's {}?",
        "{}",
        "Can you work out {}?",
        "Tell me what {} is.",
        "Please add it up: {}.",
    ];
    let problem = draw(split, rng, false);
    let (left, right) = (number_in_words(problem.left), number_in_words(problem.right));
    let (expression, sign, wordings) = match problem.operation {
        Operation::Subtract => (format!("{left} minus {right}"), '-', &WORDINGS[..7]),
        _ => (format!("{left} plus {right}"), '+', &WORDINGS[..]),
    };
    let question = worded(rng, wordings, &expression);
    let result = problem.result();
    let answer = number_in_words(result);
    let reply = format!("{}{sign}{}, {}, {result}: {answer}", problem.left, problem.right, problem.working());
    Item::new(Kind::ArithmeticWords, problem.fact(), question, reply, answer, Check::Final)
}

fn draw(split: Split, rng: &mut Rng, products: bool) -> Problem {
    loop {
        let operation = match rng.below(if products { 5 } else { 4 }) {
            0 | 1 => Operation::Add,
            2 | 3 => Operation::Subtract,
            _ => Operation::Multiply,
        };
        let problem = if operation == Operation::Multiply {
            Problem { operation, left: 2 + rng.below(9) as u32, right: 2 + rng.below(9) as u32 }
        } else {
            let (one, other) = (number(rng), number(rng));
            match operation {
                Operation::Add => Problem { operation, left: one, right: other },
                _ => Problem { operation, left: one.max(other), right: one.min(other) },
            }
        };
        if problem.side() == split {
            return problem;
        }
    }
}

/// A number below 100, below 10 one time in four, so that small numbers are not rare.
fn number(rng: &mut Rng) -> u32 {
    if rng.below(4) == 0 { rng.below(10) as u32 } else { rng.below(100) as u32 }
}

impl Problem {
    fn result(&self) -> u32 {
        match self.operation {
            Operation::Add => self.left + self.right,
            Operation::Subtract => self.left - self.right,
            Operation::Multiply => self.left * self.right,
        }
    }

    /// Independent of the order of the operands where the result is.
    fn fact(&self) -> String {
        let (low, high) = (self.left.min(self.right), self.left.max(self.right));
        match self.operation {
            Operation::Add => format!("add {low} {high}"),
            Operation::Subtract => format!("subtract {low} {high}"),
            Operation::Multiply => format!("multiply {low} {high}"),
        }
    }

    /// Sums and differences with a one-digit number are steps of other workings, so only pairs of two-digit numbers
    /// are held out; products are held out between the ends of the tables, whose last rows close the counting.
    fn side(&self) -> Split {
        let may_be_held_out = match self.operation {
            Operation::Multiply => self.left < 10 && self.right < 10,
            _ => self.left >= 10 && self.right >= 10,
        };
        if may_be_held_out { side(&self.fact()) } else { Split::Train }
    }

    fn working(&self) -> String {
        let (tens_left, ones_left) = (self.left / 10, self.left % 10);
        let (tens_right, ones_right) = (self.right / 10, self.right % 10);
        match self.operation {
            Operation::Add if ones_left + ones_right >= 10 => format!(
                "{ones_left}+{ones_right}={}, {tens_left}+{tens_right}+1={}",
                ones_left + ones_right,
                tens_left + tens_right + 1
            ),
            Operation::Add => format!(
                "{ones_left}+{ones_right}={}, {tens_left}+{tens_right}={}",
                ones_left + ones_right,
                tens_left + tens_right
            ),
            Operation::Subtract if ones_left < ones_right => format!(
                "{}-{ones_right}={}, {tens_left}-{tens_right}-1={}",
                ones_left + 10,
                ones_left + 10 - ones_right,
                tens_left - tens_right - 1
            ),
            Operation::Subtract => format!(
                "{ones_left}-{ones_right}={}, {tens_left}-{tens_right}={}",
                ones_left - ones_right,
                tens_left - tens_right
            ),
            Operation::Multiply => super::units::counted(self.left, self.right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workings_are_right() {
        let check = |operation, left, right, working: &str, result| {
            let problem = Problem { operation, left, right };
            assert_eq!(problem.working(), working);
            assert_eq!(problem.result(), result);
        };
        check(Operation::Add, 17, 25, "7+5=12, 1+2+1=4", 42);
        check(Operation::Add, 4, 5, "4+5=9, 0+0=0", 9);
        check(Operation::Add, 99, 98, "9+8=17, 9+9+1=19", 197);
        check(Operation::Subtract, 42, 17, "12-7=5, 4-1-1=2", 25);
        check(Operation::Subtract, 48, 17, "8-7=1, 4-1=3", 31);
        check(Operation::Multiply, 3, 7, "1:7 2:14 3:21", 21);
    }
}
