//! Repeating, sorting and reversing lists of numbers, words and letters.

use super::letters::Words;
use super::{Check, Item, Kind, Split, side, worded, words};
use ledger::seed::Rng;

/// `Sort 7, 3, 12.`, `3, 7, 12`. The same set of items is on one side in every order and either direction.
pub(super) fn sorting(split: Split, rng: &mut Rng) -> Item {
    let numbers = rng.below(2) == 0;
    let (shuffled, mut sorted, fact) = loop {
        let length = 3 + rng.below(2) as usize;
        let items =
            if numbers { distinct_numbers(rng, length) } else { words_with_distinct_initials(rng, length) };
        let mut sorted = items.clone();
        if numbers {
            sorted.sort_by_key(|item| item.parse::<u32>().unwrap_or(u32::MAX));
        } else {
            sorted.sort();
        }
        let fact = format!("sort {}", sorted.join(" "));
        if side(&fact) == split {
            break (items, sorted, fact);
        }
    };
    let list = shuffled.join(", ");
    let question = if numbers && rng.below(3) == 0 {
        sorted.reverse();
        worded(
            rng,
            &[
                "Sort from largest to smallest: {}",
                "Sort these numbers in descending order: {}",
                "Put {} in order from largest to smallest.",
                "Arrange in descending order: {}",
            ],
            &list,
        )
    } else if numbers {
        worded(
            rng,
            &[
                "Sort {}.",
                "Sort these numbers: {}",
                "Sort from smallest to largest: {}",
                "Put these numbers in order: {}",
                "Arrange in ascending order: {}",
                "Put {} in order from smallest to largest.",
            ],
            &list,
        )
    } else {
        worded(
            rng,
            &[
                "Sort these words: {}",
                "Sort alphabetically: {}",
                "Put these words in alphabetical order: {}",
                "Arrange {} in alphabetical order.",
                "Sort {} from a to z.",
            ],
            &list,
        )
    };
    let answer = sorted.join(", ");
    Item::new(Kind::Sorting, fact, question, answer.clone(), answer, Check::Exact)
}

/// `Repeat: owl, 17, q`, `owl, 17, q`. Lists are long, and of words that are made up too, so that nothing helps but to
/// look: where each item stands, and what stood after it.
pub(super) fn repeating(split: Split, words: &Words, rng: &mut Rng) -> Item {
    const WORDINGS: [&str; 8] = [
        "Repeat: {}",
        "Repeat after me: {}",
        "Say this again: {}",
        "Copy this: {}",
        "Write the same list: {}",
        "Please repeat {}",
        "Say {}",
        "Can you repeat this? {}",
    ];
    let (list, fact) = loop {
        let separator = *rng.pick(&[", ", " ", " ", "; "]);
        let length = 2 + rng.below(11);
        let items: Vec<String> = (0..length)
            .map(|_| match rng.below(4) {
                0 => rng.below(100).to_string(),
                1 => char::from(b'a' + rng.below(26) as u8).to_string(),
                2 => words::pick(&words::listed(), rng).to_owned(),
                _ => words.any(split, rng),
            })
            .collect();
        let list = items.join(separator);
        let fact = format!("repeat {list}");
        if side(&fact) == split {
            break (list, fact);
        }
    };
    Item::new(Kind::Repeating, fact, worded(rng, &WORDINGS, &list), list.clone(), list, Check::Exact)
}

/// `Reverse the list: red, green`, `green, red`. A list and its reverse are on one side.
pub(super) fn reversing(split: Split, rng: &mut Rng) -> Item {
    const WORDINGS: [&str; 5] = [
        "Reverse the list: {}",
        "Reverse this list: {}",
        "Write this list backwards: {}",
        "Put {} in reverse order.",
        "Turn this list around: {}",
    ];
    let (list, answer, fact) = loop {
        let length = 3 + rng.below(2) as usize;
        let mut items = if rng.below(3) == 0 {
            distinct_numbers(rng, length)
        } else {
            words_with_distinct_initials(rng, length)
        };
        let list = items.join(", ");
        items.reverse();
        let answer = items.join(", ");
        let fact = format!("reverse {}", if list < answer { &list } else { &answer });
        if side(&fact) == split {
            break (list, answer, fact);
        }
    };
    Item::new(Kind::Reversing, fact, worded(rng, &WORDINGS, &list), answer.clone(), answer, Check::Exact)
}

fn distinct_numbers(rng: &mut Rng, count: usize) -> Vec<String> {
    let mut numbers: Vec<u64> = Vec::with_capacity(count);
    while numbers.len() < count {
        let number = rng.below(100);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers.into_iter().map(|number| number.to_string()).collect()
}

fn words_with_distinct_initials(rng: &mut Rng, count: usize) -> Vec<String> {
    let listed = words::listed();
    let mut chosen: Vec<&str> = Vec::with_capacity(count);
    while chosen.len() < count {
        let word = *rng.pick(&listed);
        if chosen.iter().all(|other| other.as_bytes()[0] != word.as_bytes()[0]) {
            chosen.push(word);
        }
    }
    chosen.into_iter().map(str::to_owned).collect()
}
