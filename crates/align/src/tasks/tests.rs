//! Tests over all kinds: the split, determinism, and that every item is answered by its own reply alone.

use super::*;

fn packages() -> Vec<Package> {
    let package = |name: &str, description: &str, dependencies: &[&str]| Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        description: Some(description.to_owned()).filter(|text| !text.is_empty()),
        keywords: Vec::new(),
        categories: Vec::new(),
        license: Some("MIT".to_owned()),
        repository: None,
        dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        path: Default::default(),
    };
    vec![
        package("alpha", "Parses letters.", &[]),
        package("beta", "Sorts numbers quickly", &["alpha"]),
        package("gamma", "Counts things", &["alpha", "beta"]),
        package("silent", "", &["alpha"]),
    ]
}

fn tasks() -> Tasks {
    Tasks::new(&packages(), 256)
}

#[test]
fn held_out_items_never_occur_in_training() {
    let tasks = tasks();
    let held_out = tasks.held_out(Seed(1), 60);
    let questions: HashSet<String> = held_out.iter().map(|item| normalise(item.question())).collect();
    let facts: HashSet<&str> = held_out
        .iter()
        .filter(|item| !matches!(item.kind, Kind::Identity | Kind::Registry))
        .map(|item| item.fact.as_str())
        .collect();
    for kind in tasks.kinds() {
        let mut rng = Seed(2).stream("test", kind as u64);
        for _ in 0..4000 {
            let item = tasks.draw(kind, Split::Train, &mut rng).unwrap();
            assert!(!questions.contains(&normalise(item.question())), "{}", item.question());
            assert!(!facts.contains(item.fact.as_str()), "{}", item.fact);
        }
    }
}

#[test]
fn every_kind_has_enough_to_hold_out() {
    let held_out = tasks().held_out(Seed(1), 48);
    for kind in Kind::ALL {
        let items: Vec<&Item> = held_out.iter().filter(|item| item.kind == kind).collect();
        // Three packages cannot give 48 questions.
        assert!(items.len() == 48 || kind == Kind::Registry && items.len() > 12, "{kind}: {}", items.len());
    }
}

#[test]
fn the_same_seed_gives_the_same_items() {
    assert_eq!(tasks().held_out(Seed(5), 10), tasks().held_out(Seed(5), 10));
    assert_ne!(tasks().held_out(Seed(5), 10), tasks().held_out(Seed(6), 10));
}

#[test]
fn replies_pass_their_own_check_and_no_other_answer_does() {
    let tasks = tasks();
    for kind in tasks.kinds() {
        let mut rng = Seed(3).stream("test", kind as u64);
        let items: Vec<Item> = (0..300)
            .map(|index| {
                tasks
                    .draw(kind, if index % 2 == 0 { Split::Train } else { Split::HeldOut }, &mut rng)
                    .unwrap()
            })
            .collect();
        for (item, other) in items.iter().zip(items.iter().skip(1)) {
            assert!(item.passes(&item.reply), "{item:?}");
            assert!(!item.passes(""), "{item:?}");
            if normalise(&other.answer) != normalise(&item.answer) && kind != Kind::Refusal {
                assert!(!item.passes(&other.reply), "{item:?} accepts {}", other.reply);
            }
        }
    }
}

#[test]
fn answers_are_right() {
    let tasks = tasks();
    for kind in [Kind::Arithmetic, Kind::Sorting, Kind::Spelling, Kind::Units] {
        let mut rng = Seed(4).stream("test", kind as u64);
        for _ in 0..500 {
            let item = tasks.draw(kind, Split::Train, &mut rng).unwrap();
            let fact: Vec<&str> = item.fact.split(' ').collect();
            let number = |place: usize| fact[place].parse::<i64>().unwrap();
            match fact[0] {
                "add" => assert_eq!(item.answer, (number(1) + number(2)).to_string()),
                "subtract" => assert_eq!(item.answer, (number(2) - number(1)).to_string()),
                "multiply" => assert_eq!(item.answer, (number(1) * number(2)).to_string()),
                "letters" => assert_eq!(item.answer.replace(' ', ""), fact[2]),
                "convert" if fact[2] == "days" => {
                    assert_eq!(item.answer, format!("{} hours", number(1) * 24))
                }
                "convert" => {}
                "sort" => {
                    let mut answer: Vec<&str> = item.answer.split(", ").collect();
                    if answer != fact[1..] {
                        answer.reverse();
                    }
                    assert_eq!(answer, fact[1..]);
                }
                other => panic!("unknown fact {other}"),
            }
        }
    }
}

#[test]
fn dates_agree_with_a_calendar() {
    // 2023 began on a Sunday and is no leap year: day n of the year has a date and a weekday.
    let days: Vec<(String, usize)> = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .iter()
        .zip([
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ])
        .flat_map(|(length, month)| (1..=*length).map(move |day| format!("{month} {day}")))
        .zip(0..)
        .collect();
    let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let mut rng = Seed(4).stream("test", 0);
    let tasks = tasks();
    for _ in 0..1000 {
        let item = tasks.draw(Kind::Dates, Split::Train, &mut rng).unwrap();
        let fact: Vec<&str> = item.fact.split(' ').collect();
        let ahead = fact[1] == "after";
        match fact[0] {
            "date" => {
                let from = days.iter().find(|(date, _)| *date == fact[2..].join(" ")).unwrap().1;
                let to = (from + if ahead { 1 } else { 364 }) % 365;
                assert_eq!(item.answer, days[to].0, "{}", item.question());
            }
            "day" => {
                let from = weekdays.iter().position(|day| *day == fact[2]).unwrap();
                let distance: usize = fact[3].parse().unwrap();
                let to = if ahead { from + distance } else { from + 14 - distance };
                assert_eq!(item.answer, weekdays[to % 7], "{}", item.question());
            }
            _ => {}
        }
    }
}

#[test]
fn without_packages_registry_questions_are_left_out() {
    let tasks = Tasks::new(&[], 256);
    assert_eq!(tasks.packages(), 0);
    assert!(!tasks.kinds().contains(&Kind::Registry));
    assert!(tasks.held_out(Seed(1), 3).iter().all(|item| item.kind != Kind::Registry));
}

#[test]
fn the_most_needed_packages_are_asked_about() {
    let tasks = Tasks::new(&packages(), 1);
    let mut rng = Seed(1).stream("test", 0);
    for _ in 0..50 {
        let item = tasks.draw(Kind::Registry, Split::Train, &mut rng).unwrap();
        assert!(item.question().contains("alpha"), "{}", item.question());
    }
}

#[test]
fn evaluation_texts_hold_questions_and_replies() {
    let items = tasks().held_out(Seed(1), 2);
    let texts = evaluation_texts(&items);
    assert_eq!(texts.len(), items.len());
    assert!(texts[0].contains(items[0].question()) && texts[0].contains(&items[0].reply));
}
