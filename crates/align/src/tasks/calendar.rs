//! Weekdays and months a number of steps away, and the dates before and after a date.
//! No question needs to know the year: 28 and 29 February are never asked about.

use super::{Check, Item, Kind, Split, side, worded};
use ledger::seed::Rng;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [(&str, u32); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];
/// The furthest that is counted; always in training, since it holds the last step of every other count.
const FURTHEST: u64 = 8;

/// A question on weekdays, months or dates.
pub(super) fn draw(split: Split, rng: &mut Rng) -> Item {
    loop {
        let item = match rng.below(5) {
            0 | 1 => steps(rng, "day", &WEEKDAYS),
            2 => steps(rng, "month", &MONTHS.map(|(name, _)| name)),
            _ => neighbour(rng),
        };
        if let Some((item, on)) = item
            && on == split
        {
            return item;
        }
    }
}

/// `What day is 3 days after Friday?`, `1 Saturday, 2 Sunday, 3 Monday: Monday`.
fn steps(rng: &mut Rng, unit: &str, names: &[&str]) -> Option<(Item, Split)> {
    let start = rng.below(names.len() as u64) as usize;
    let distance = 1 + rng.below(FURTHEST) as usize;
    let after = rng.below(3) > 0;
    let direction = if after { "after" } else { "before" };
    let plural = if distance == 1 { "" } else { "s" };
    let span = format!("{distance} {unit}{plural} {direction} {}", names[start]);
    let question = match unit {
        "day" => worded(
            rng,
            &[
                "What day is {}?",
                "What day is it {}?",
                "Which day comes {}?",
                "Which weekday is {}?",
                "What day of the week is {}?",
                "{} is which day?",
            ],
            &span,
        ),
        _ => worded(rng, &["What month is {}?", "Which month comes {}?", "Which month is {}?"], &span),
    };
    let step = if after { 1 } else { names.len() - 1 };
    let reached: Vec<&str> =
        (1..=distance).map(|count| names[(start + count * step) % names.len()]).collect();
    let answer = reached[distance - 1].to_owned();
    let working: Vec<String> =
        reached.iter().zip(1..).map(|(name, count)| format!("{count} {name}")).collect();
    let fact = format!("{unit} {direction} {} {distance}", names[start]);
    let on = if distance as u64 == FURTHEST { Split::Train } else { side(&fact) };
    let reply = format!("{}: {answer}", working.join(", "));
    Some((Item::new(Kind::Dates, fact, question, reply, answer, Check::Final), on))
}

/// `What date comes after March 14?`, `March 15`. The ends of months are always in training.
fn neighbour(rng: &mut Rng) -> Option<(Item, Split)> {
    let index = rng.below(12) as usize;
    let (name, length) = MONTHS[index];
    // A fifth of the questions cross the end of a month, or those would be rare.
    let crossing = rng.below(5) == 0;
    let after = rng.below(2) == 0;
    let day = match (crossing, after) {
        (true, true) => length,
        (true, false) => 1,
        _ => 1 + rng.below(u64::from(length)) as u32,
    };
    let (month, number) = match (after, day) {
        (true, _) if day == length => (MONTHS[(index + 1) % 12].0, 1),
        (true, _) => (name, day + 1),
        (false, 1) => {
            let (month, length) = MONTHS[(index + 11) % 12];
            (month, length)
        }
        (false, _) => (name, day - 1),
    };
    let february = name == "February" && (day > 27 || number > 27) || month == "February" && number > 27;
    if february {
        return None;
    }
    let direction = if after { "after" } else { "before" };
    let question = worded(
        rng,
        &[
            "What date comes {}?",
            "What is the date of the day {}?",
            "Which date comes {}?",
            "What is the day {}?",
            "Which day of the year comes {}?",
        ],
        &format!("{direction} {name} {day}"),
    );
    let answer = format!("{month} {number}");
    let fact = format!("date {direction} {name} {day}");
    let on = if month == name { side(&fact) } else { Split::Train };
    Some((Item::new(Kind::Dates, fact, question, answer.clone(), answer, Check::Exact), on))
}
