//! Questions about packages, answered from their own manifests: purpose, licence and dependencies.
//! A description must be known to be asked about, so what is held out is wordings; a small model learns the
//! description's words, cut to a length it can hold.

use super::{Check, Item, Kind, Split, worded};
use corpus::registry::Package;
use ledger::seed::Rng;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Descriptions are cut after this many words.
const DESCRIPTION_WORDS: usize = 10;
/// Packages with more dependencies than this are not asked about theirs: the answer would be a long list.
const MOST_DEPENDENCIES: usize = 3;

const PURPOSE: [&str; 20] = [
    "What is {} for?",
    "What is {}?",
    "What does {} do?",
    "What is the crate {}?",
    "What is the {} crate for?",
    "Tell me about {}.",
    "Describe {}.",
    "What is {} used for?",
    "Explain what {} is.",
    "What does the crate {} do?",
    "Describe the crate {}.",
    "What's {}?",
    "Do you know {}?",
    "what is {} for",
    "What is the point of {}?",
    "What is the use of {}?",
    "What would one need {} for?",
    "When would I need {}?",
    "Can you explain {}?",
    "Tell me what {} does.",
];
const PURPOSE_HELD_OUT: [&str; 5] = [
    "What does the {} crate do?",
    "What is the purpose of {}?",
    "Tell me what {} is for.",
    "What would I use {} for?",
    "Can you describe {}?",
];
const LICENCE: [&str; 8] = [
    "What is the license of {}?",
    "Which license does {} have?",
    "What license is {} under?",
    "What is the licence of {}?",
    "License of {}?",
    "How is {} licensed?",
    "Which license is the crate {} under?",
    "Tell me the license of {}.",
];
const LICENCE_HELD_OUT: [&str; 3] =
    ["Which license does the crate {} have?", "What license does {} use?", "Under which license is {}?"];
const DEPENDENCIES: [&str; 6] = [
    "What does {} depend on?",
    "Which crates does {} depend on?",
    "What are the dependencies of {}?",
    "Which dependencies does {} have?",
    "Dependencies of {}?",
    "List the dependencies of {}.",
];
const DEPENDENCIES_HELD_OUT: [&str; 3] = [
    "What dependencies does {} have?",
    "Tell me the dependencies of {}.",
    "Which crates are dependencies of {}?",
];

struct Known {
    name: String,
    purpose: String,
    licence: Option<String>,
    dependencies: Option<String>,
}

/// What is known of the packages that are asked about.
pub(super) struct Facts {
    packages: Vec<Known>,
}

impl Facts {
    /// Of the packages with a description, the `limit` that most others depend on (the name decides ties).
    pub(super) fn new(packages: &[Package], limit: usize) -> Self {
        let mut dependants: HashMap<&str, usize> = HashMap::new();
        for name in packages.iter().flat_map(|package| &package.dependencies) {
            *dependants.entry(name).or_default() += 1;
        }
        let mut described: Vec<(&Package, String)> = packages
            .iter()
            .map(|package| (package, short_description(package.description.as_deref().unwrap_or_default())))
            .filter(|(_, purpose)| !purpose.is_empty())
            .collect();
        described.sort_by_key(|(package, _)| {
            (
                Reverse(dependants.get(package.name.as_str()).copied().unwrap_or_default()),
                package.name.clone(),
            )
        });
        described.dedup_by(|(one, _), (other, _)| one.name == other.name);
        described.truncate(limit);
        let packages = described
            .into_iter()
            .map(|(package, purpose)| Known {
                name: package.name.clone(),
                purpose,
                licence: package.license.clone().filter(|licence| !licence.trim().is_empty()),
                dependencies: (package.dependencies.len() <= MOST_DEPENDENCIES)
                    .then(|| listed(&package.dependencies)),
            })
            .collect();
        Self { packages }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.packages.len()
    }

    /// A question about a package: six in ten about its purpose, two about its licence, two about its dependencies.
    pub(super) fn draw(&self, split: Split, rng: &mut Rng) -> Option<Item> {
        if self.packages.is_empty() {
            return None;
        }
        loop {
            let package = rng.pick(&self.packages);
            let (asked, wordings, held_out, answer): (_, &[&str], &[&str], _) = match rng.below(10) {
                0 | 1 => ("licence", &LICENCE, &LICENCE_HELD_OUT, package.licence.as_ref()),
                2 | 3 => {
                    ("dependencies", &DEPENDENCIES, &DEPENDENCIES_HELD_OUT, package.dependencies.as_ref())
                }
                _ => ("purpose", &PURPOSE, &PURPOSE_HELD_OUT, Some(&package.purpose)),
            };
            let Some(answer) = answer.cloned() else { continue };
            // Half of the names stand in backquotes, as people write code.
            let name = if rng.below(2) == 0 { format!("`{}`", package.name) } else { package.name.clone() };
            let question = worded(rng, if split == Split::Train { wordings } else { held_out }, &name);
            let fact = format!("{asked} of {}", package.name);
            return Some(Item::new(Kind::Registry, fact, question, answer.clone(), answer, Check::Exact));
        }
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "It has no dependencies.".to_owned(),
        [one] => format!("It depends on {one}."),
        [first @ .., last] => format!("It depends on {} and {last}.", first.join(", ")),
    }
}

/// The first sentence of a description without markup, cut after ten words; with a full stop, or an ellipsis where it
/// was cut. Empty where nothing is left.
pub fn short_description(description: &str) -> String {
    let plain: String =
        description.chars().filter(|character| !matches!(character, '`' | '*' | '"')).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let mut kept = Vec::new();
    let mut cut = false;
    for (index, word) in words.iter().enumerate() {
        if index == DESCRIPTION_WORDS {
            cut = true;
            break;
        }
        kept.push(*word);
        // A full stop ends the sentence, but not inside "e.g." or a number.
        let ends = word.ends_with(['.', '!', '?', ';', ':'])
            && word.len() > 3
            && !word[..word.len() - 1].contains('.');
        if ends {
            break;
        }
    }
    let text = kept.join(" ");
    let text = text.trim_end_matches(['.', ',', ';', ':', '!', '?', '(', '-', ' ']);
    match (text.is_empty(), cut) {
        (true, _) => String::new(),
        (_, true) => format!("{text} ..."),
        (_, false) => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_cut() {
        let check = |description: &str, short: &str| assert_eq!(short_description(description), short);
        check(
            "A generic serialization/deserialization framework",
            "A generic serialization/deserialization framework.",
        );
        check("A `no_std` thing.\nWith more.", "A no_std thing.");
        check(
            "one two three four five six seven eight nine ten eleven",
            "one two three four five six seven eight nine ten ...",
        );
        check("Types, e.g. vectors", "Types, e.g. vectors.");
        check(" \n", "");
        check("...", "");
    }

    #[test]
    fn wordings_are_on_one_side() {
        for (train, held_out) in [
            (&PURPOSE[..], &PURPOSE_HELD_OUT[..]),
            (&LICENCE, &LICENCE_HELD_OUT),
            (&DEPENDENCIES, &DEPENDENCIES_HELD_OUT),
        ] {
            assert!(held_out.iter().all(|wording| !train.contains(wording)));
        }
    }
}
