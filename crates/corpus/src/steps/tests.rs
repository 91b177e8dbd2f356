//! One passing and one failing text for every rule, through the step as curation runs it.

use std::collections::BTreeSet;

use super::*;
use crate::batch::{Builder, Record};
use crate::kind::{self, Kind};

const PROSE: &str = "\
The harbour was quiet when the ferry came in, and the two sailors who had slept on deck were the first to leave it.
They walked along the mole with their bags, past the fish market, where nobody had yet begun to set up the stalls.
\"We have time for breakfast,\" said the older one, \"because the office will not be open before nine o'clock.\"
So they sat down in front of the small bakery that belongs to a family from the hills, and ordered bread with honey.
An hour later the square had filled with people: farmers, children on their way to school, a priest with an umbrella.
It had begun to rain a little, though the sun still shone over the eastern breakwater and the islands beyond.
Nobody could remember afterwards which of them had first seen the smoke that rose behind the customs house.
";

const RUST: &str = "\
//! Counts words.

use std::collections::BTreeMap;

/// Counts how often each word occurs in a text.
pub fn count_words(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}
";

fn code(label: &str) -> Kind {
    Kind::of_label(label).unwrap()
}

fn batch_of(kind: Kind, text: &str) -> RecordBatch {
    let mut builder = Builder::new(0);
    let text = text.to_string();
    builder.push(&Record { text, kind, url: None, source: "test".into(), date: None, language: None });
    builder.finish()
}

/// All steps with default settings on one document: the text that stays, or the step and reason that removed it.
fn run(kind: Kind, text: &str) -> Result<String, String> {
    run_steps(kind, text, |_| true)
}

fn run_steps(kind: Kind, text: &str, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
    let mut batch = batch_of(kind, text);
    for step in
        per_document(&Settings::default(), &[]).unwrap().into_iter().filter(|step| wanted(step.name()))
    {
        let (kept, removed) = step.apply(batch).unwrap();
        if let Some((reason, count)) = removed.reasons.into_iter().next() {
            assert_eq!((count, kept.num_rows()), (1, 0));
            assert_eq!(removed.samples[0].reason, reason);
            return Err(format!("{}/{reason}", step.name()));
        }
        assert_eq!(kept.num_rows(), 1);
        batch = kept;
    }
    let rows = Rows::of(&batch, "test").unwrap();
    Ok(rows.iter().next().unwrap().text.to_string())
}

/// The prose with something before and after every line.
fn lines(before: &str, after: &str) -> String {
    PROSE.lines().map(|line| format!("{before}{line}{after}\n")).collect()
}

/// The prose with a phrase put in after every so many words.
fn with_phrase(phrase: &str, every: usize) -> String {
    let words: Vec<&str> = PROSE.split_whitespace().collect();
    words.chunks(every).map(|chunk| format!("{} {phrase} ", chunk.join(" "))).collect()
}

/// Distinct words without meaning.
fn nonsense(count: usize, length: usize) -> Vec<String> {
    let mut rng = ledger::seed::Seed(1).stream("nonsense", length as u64);
    (0..count).map(|_| (0..length).map(|_| char::from(b'a' + rng.below(26) as u8)).collect()).collect()
}

#[test]
fn good_texts_pass_unchanged() {
    for kind in [kind::TEXT, kind::WEB_TEXT, code("markdown")] {
        assert_eq!(run(kind, PROSE).as_deref().map(str::trim), Ok(PROSE.trim()), "{}", kind.label);
    }
    assert_eq!(run(code("rust"), RUST).as_deref(), Ok(RUST));
    let manifest = "[package]\nname = \"words\"\ndescription = \"Counts words in a text\"\n";
    assert_eq!(run(code("toml"), manifest).as_deref(), Ok(manifest));
}

#[test]
fn every_rule_removes_what_breaks_it() {
    let (text, page, rust, json) = (kind::TEXT, kind::WEB_TEXT, code("rust"), code("json"));
    let first: Vec<&str> = PROSE.lines().collect();
    let stopless: String = PROSE
        .split_inclusive([' ', '\n'])
        .map(|word| match word.trim().trim_matches(|c: char| !c.is_alphabetic()).to_lowercase().as_str() {
            "be" | "to" | "of" | "and" | "that" | "have" | "with" => "then ",
            _ => word,
        })
        .collect();
    let dotted = PROSE.replace(" the ", " the... ").replace(" and ", " and… ").replace(" had", "... had");
    // Lines without a full stop among them, too long to be wrapped and too short to be asked for sentences.
    let unpunctuated =
        format!("{}{}", PROSE.replace(".\n", "\n").replace(".\"\n", "\n"), "and then the ".repeat(20).trim());
    let exclamations = ["And then it rained.", "Nobody said a word."].repeat(4);
    let narrow: Vec<String> =
        PROSE.split_whitespace().collect::<Vec<_>>().chunks(4).map(|words| words.join(" ")).collect();
    let base64: String =
        nonsense(8, 36).iter().map(|word| format!("    \"{}x9Q{word}\",\n", word.to_uppercase())).collect();
    let item = |i: usize| {
        format!("{{\"name\": \"item\", \"description\": \"the {i}th of the things described here\"}}\n")
    };
    let cases: Vec<(Kind, &str, String)> = vec![
        (text, "gopher_quality/too_few_words", "The words of this note are few, and that is all.".into()),
        (text, "gopher_quality/too_many_words", "the day that we have with you ".repeat(20_000)),
        (text, "gopher_quality/words_too_short", "to be of a b c d the and I we do ".repeat(10)),
        (text, "gopher_quality/words_too_long", nonsense(80, 14).join(" ")),
        (text, "gopher_quality/too_many_hash_signs", PROSE.replace(" the ", " #the #that #")),
        (text, "gopher_quality/too_many_ellipses", dotted),
        (text, "gopher_quality/too_many_bullet_lines", lines("- ", "")),
        (text, "gopher_quality/too_many_ellipsis_lines", lines("", " …")),
        (text, "gopher_quality/too_few_alphabetic_words", PROSE.replace(" the ", " 17 + 4 = 21 ")),
        (text, "gopher_quality/too_few_stop_words", stopless),
        (text, "gopher_repetition/duplicate_paragraphs", format!("{PROSE}\n\n{}", exclamations.join("\n\n"))),
        (
            text,
            "gopher_repetition/duplicate_paragraph_characters",
            format!("{}\n\n{}\n\n{}", first.join("\n\n"), first[0], first[1]),
        ),
        (text, "gopher_repetition/duplicate_lines", format!("{PROSE}{}", exclamations.join("\n"))),
        (text, "gopher_repetition/duplicate_line_characters", format!("{PROSE}{}\n{}\n", first[0], first[1])),
        (page, "c4/lorem_ipsum", format!("{PROSE}Lorem ipsum dolor sit amet is what the printers set.")),
        (
            page,
            "c4/curly_bracket",
            format!("{PROSE}The page went on with function() {{ return 1; }} at its end."),
        ),
        (page, "c4/too_few_sentences", PROSE.replace(['.', '\n'], ",").replace('"', "")),
        (text, "fineweb/too_few_punctuated_lines", unpunctuated),
        (page, "fineweb/too_many_short_lines", narrow.join(".\n")),
        (text, "fineweb/duplicate_line_characters", format!("{PROSE}{}\n", first[0])),
        (text, "fineweb/too_many_line_breaks", lines("", "\n\n\n\n\n\n\n")),
        (rust, "code/generated", format!("// @generated by a program\n{RUST}")),
        (rust, "code/xml_in_disguise", format!("<?xml version=\"1.0\"?>\n{RUST}")),
        (rust, "code/too_small", "fn main() {}\n".into()),
        (rust, "code/too_large", (0..120_000).map(|i| format!("call({i});\n")).collect()),
        (rust, "code/line_too_long", format!("{RUST}// {}\n", nonsense(200, 5).join(" "))),
        (rust, "code/mean_line_too_long", format!("// {}\n", nonsense(30, 5).join(" ")).repeat(12)),
        (rust, "code/too_few_alphanumerics", "a + b; {} () [] => <= >= !! \n".repeat(10)),
        (rust, "code/too_few_letters", "f(12, 45, 78, 90, 11);\n".repeat(10)),
        (rust, "code/encoded_data", format!("const PICTURE: &[&str] = &[\n{base64}];\n")),
        (json, "code/data_too_few_letters", "{\"x\": 1234567, \"y\": 12345678}\n".repeat(5)),
        (json, "code/data_too_large", (0..100).map(item).collect()),
    ];
    let mut covered = BTreeSet::new();
    for (kind, place, text) in &cases {
        let step = place.split('/').next().unwrap();
        let result = run_steps(*kind, text, |name| name == "language" || name == step);
        assert_eq!(result.as_ref().map_err(String::as_str), Err(*place), "{text:.300}");
        assert!(run(*kind, text).is_err());
        covered.insert(place.to_string());
    }

    // The rules on n-grams imply each other for most texts, so each is asked for its own measure.
    let repetition = Settings::default().gopher_repetition;
    let verdict = |text: &str, rule: &str| {
        let batch = batch_of(kind::TEXT, text);
        let rows = Rows::of(&batch, "test").unwrap();
        let measures = gopher_repetition::measures(rows.iter().next().unwrap(), &repetition);
        measures.iter().find(|measure| measure.rule == rule).unwrap().passes()
    };
    for (rule, phrase, every) in [
        ("top_2gram", "terribly unfortunately", 9),
        ("top_3gram", "terribly unfortunately nevertheless", 12),
        ("top_4gram", "terribly unfortunately nevertheless indeed", 14),
        ("duplicate_5grams", "and so they all went", 9),
        ("duplicate_6grams", "and so they all went home", 10),
        ("duplicate_7grams", "and so they all went home again", 11),
        ("duplicate_8grams", "and so they all went home again happily", 12),
        ("duplicate_9grams", "and so they all went home again happily together", 13),
        ("duplicate_10grams", "and so they all went home again happily together once", 14),
    ] {
        assert!(verdict(PROSE, rule), "{rule}");
        assert!(!verdict(&with_phrase(phrase, every), rule), "{rule}");
        covered.insert(format!("gopher_repetition/{rule}"));
    }

    // Every rule that the steps measure is in the tables above.
    let settings = Settings::default();
    let batch = batch_of(kind::TEXT, PROSE);
    let mut row = Rows::of(&batch, "test").unwrap().iter().next().unwrap();
    row.language = Some("en");
    let mut all: Vec<(&str, &str)> = Vec::new();
    all.extend(
        gopher_quality::measures(row, &settings.gopher_quality).iter().map(|m| ("gopher_quality", m.rule)),
    );
    all.extend(gopher_repetition::measures(row, &repetition).iter().map(|m| ("gopher_repetition", m.rule)));
    all.extend(fineweb::measures(row, &settings.fineweb).iter().map(|m| ("fineweb", m.rule)));
    for kind in [rust, json] {
        row.kind = kind;
        all.extend(code::measures(row, &settings.code).iter().map(|m| ("code", m.rule)));
    }
    for (step, rule) in all {
        assert!(covered.contains(&format!("{step}/{rule}")), "{step}/{rule} has no example");
    }
}

#[test]
fn books_and_articles_pass_fineweb() {
    let words: Vec<&str> = PROSE.split_whitespace().collect();
    let wrapped: Vec<String> = words.chunks(10).map(|line| line.join(" ")).collect();
    let book = format!("{}\n", wrapped.join("\n"));
    let ends = book.lines().filter(|line| line.ends_with(['.', '"'])).count();
    assert!((ends as f64) < 0.12 * book.lines().count() as f64, "{book}");
    assert_eq!(run(kind::TEXT, &book).as_deref(), Ok(book.as_str()));
    let article = format!("{} See also", words.join(" "));
    assert_eq!(run(kind::TEXT, &article).as_deref(), Ok(article.as_str()));
    assert_eq!(run(kind::WEB_TEXT, &article), Err("fineweb/too_few_punctuated_lines".into()));
}

#[test]
fn documentation_is_measured_without_its_markup() {
    let image = "https://github.com/someone/something/workflows/Test/badge.svg";
    let badges = format!("[![Build]({image})](https://github.com/someone/something/actions)\n").repeat(20);
    let (rules, table) = ("---\n\n- - -\n\n".repeat(8), "| a | b |\n| - | - |\n| c | d |\n");
    let readme = format!("# words\n\n{badges}\n{}\n{rules}{table}", PROSE.replace('\n', "\n\n"));
    let step = gopher_quality::Quality(Settings::default().gopher_quality);
    let kept = |kind| step.apply(batch_of(kind, &readme)).unwrap();
    assert_eq!(kept(code("markdown")).0.num_rows(), 1);
    assert_eq!(kept(kind::TEXT).1.reasons.keys().next().map(String::as_str), Some("words_too_long"));
}

#[test]
fn c4_drops_lines_and_counts_them() {
    let rules = c4::Rules(crate::settings::C4::default());
    let extra =
        "Home\nPlease enable JavaScript to view this page of ours.\nThis site uses cookies to be better.\n";
    let page = rules.page(kind::WEB_TEXT, &format!("{extra}{PROSE}"));
    assert_eq!(page.text.as_deref(), Ok(PROSE.trim_end()));
    let mut dropped = page.dropped;
    dropped.sort_unstable();
    let expected = [("lines_about_javascript", 1), ("lines_about_policies", 1), ("lines_with_few_words", 1)];
    assert_eq!(dropped, expected);
}

#[test]
fn rules_for_prose_leave_code_alone_and_the_other_way_round() {
    assert_eq!(
        run_steps(code("rust"), "fn main() {}\n", |name| name != "code").as_deref(),
        Ok("fn main() {}\n")
    );
    let long = format!("{}\n", nonsense(200, 5).join(" "));
    assert_eq!(run_steps(kind::TEXT, &long, |name| name == "code").as_deref(), Ok(long.as_str()));
}

#[test]
fn scrub_replaces_secrets_and_leaves_their_likeness() {
    let scrub = scrub::Scrub::new(&crate::settings::Scrub::default());
    let check =
        |text: &str, expected: &str| assert_eq!(scrub.scrub(text, kind::TEXT.class).0, expected, "{text}");
    check("write to jane.doe+news@mail.uni-koeln.de today", "write to <EMAIL> today");
    check("Jane Doe <jane@doe.io>, 1999", "Jane Doe <<EMAIL>>, 1999");
    check("alice@example.com and bob@sub.example.org", "alice@example.com and bob@sub.example.org");
    check("git@github.com:rust-lang/rust.git", "git@github.com:rust-lang/rust.git");
    check("icon@2x.png, node@Some.field(), x @ 1..=5", "icon@2x.png, node@Some.field(), x @ 1..=5");
    check("the host 203.0.114.7 failed", "the host <IP_ADDRESS> failed");
    check("from 91.198.174.192:443", "from <IP_ADDRESS>:443");
    for kept in [
        "127.0.0.1",
        "10.1.2.3",
        "192.0.2.7",
        "255.255.255.0",
        "1.2.3.4",
        "version 91.198.174.192",
        "91.198.174.192.5",
        "Section 7.3.17.1",
        "2.5.29.37",
    ] {
        check(kept, kept);
    }
    check("at 2a02:ec80:300:ed1a::1 now", "at <IP_ADDRESS> now");
    for kept in ["2001:db8::1", "fe80::1", "std::fmt::Debug", "12:30:45", "de:ad:be:ef:00:01"] {
        check(kept, kept);
    }
    let aws = ["AKIA", "Z5WQ7RT2NBH4K6PX"].concat();
    check(&format!("key = {aws}"), "key = <KEY>");
    check("key = AKIAIOSFODNN7EXAMPLE", "key = AKIAIOSFODNN7EXAMPLE");
    let github = ["ghp_", "a8Kd03mZqLx9TfR2vYbN5cWj7HsUe1GpQ4Xo"].concat();
    check(&format!("token {github}"), "token <KEY>");
    let body = "MIIEowIBAAKCAQEA7bq2Yk0vXbJ1m0n4c0GxYf2kq8YVd0".repeat(3);
    let (begin, end) =
        (["-----BEGIN RSA ", "PRIVATE KEY-----"].concat(), ["-----END RSA ", "PRIVATE KEY-----"].concat());
    check(&format!("{begin}\n{body}\n{end}\nrest"), "<KEY>\nrest");
    check(&format!("{begin}\n...\n{end}"), &format!("{begin}\n...\n{end}"));
    let (_, counts) = scrub.scrub("a@b.de, c@d.fr, 91.198.174.192", kind::TEXT.class);
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("emails", 2), ("ip_addresses", 1)]);
}

#[test]
fn overlap_with_evaluation_texts_is_found() {
    let long = "Natalia sold clips to forty eight of her friends in April and then half as many in May.";
    let middle = "How many bolts of fibre does the robe take in total?";
    let short = "What is serde?";
    let texts: Vec<String> = [long, middle, short].map(String::from).into();
    let step = decontaminate::Decontaminate::new(&crate::settings::Decontaminate::default(), &texts);
    let check = |text: &str, expected: Option<&str>| assert_eq!(step.overlap(text), expected, "{text}");
    check(&format!("{PROSE}\n{}", long.to_uppercase().replace(' ', "\n")), Some("shares_an_ngram"));
    check(
        "He sold clips to forty-eight of her friends in April, and then half as good",
        Some("shares_an_ngram"),
    );
    check("sold clips to forty eight of her friends in April and then nothing", None);
    check(
        &format!("{PROSE} how many bolts of fibre does the robe take, in total"),
        Some("contains_a_short_evaluation_text"),
    );
    check("How many bolts of fibre does the robe take", None);
    check("what is SERDE", Some("is_an_evaluation_text"));
    check("What is serde? It is a framework.", None);
    check(PROSE, None);
}

#[test]
fn the_account_keeps_a_few_samples_of_each_reason() {
    let mut total = Removed::default();
    for part in 0..3 {
        let mut builder = Builder::new(part * 10);
        for i in 0..2 {
            let (text, source) = ("fn x() {}".to_string(), format!("{part}-{i}"));
            builder.push(&Record { text, kind: code("rust"), url: None, source, date: None, language: None });
        }
        let step = code::Rules(crate::settings::Code::default());
        let (kept, removed) = step.apply(builder.finish()).unwrap();
        assert_eq!(kept.num_rows(), 0);
        total.merge(removed);
    }
    assert_eq!(total.reasons["too_small"], 6);
    let sources: Vec<&str> = total.samples.iter().map(|sample| sample.source.as_str()).collect();
    assert_eq!(sources, ["0-0", "0-1", "1-0"]);
}

#[test]
fn a_batch_without_the_columns_is_an_error() {
    let batch = batch_of(kind::TEXT, PROSE);
    let batch = batch::without_column(&batch, "test", "text").unwrap();
    let error = gopher_quality::Quality(Settings::default().gopher_quality).apply(batch).unwrap_err();
    assert!(error.to_string().contains("\"text\""), "{error}");
}
