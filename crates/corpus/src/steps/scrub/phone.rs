//! Telephone numbers: written internationally, as North Americans and the French write theirs, or called such by the
//! word before them. What else looks like one (a date, an ISBN, a part number) is left.

use super::numbers::Grouped;

pub(super) const PLACEHOLDER: &str = "<PHONE_NUMBER>";

/// Words that say that a number is for calling, in lower case.
const LABELS: [&str; 46] = [
    "tel",
    "tel.",
    "telephone",
    "phone",
    "ph.",
    "ph",
    "cell",
    "cellphone",
    "mobile",
    "mob",
    "mob.",
    "fax",
    "call",
    "whatsapp",
    "telefon",
    "tlf",
    "tlf.",
    "handy",
    "mobil",
    "rufnummer",
    "téléphone",
    "tél",
    "tél.",
    "portable",
    "teléfono",
    "móvil",
    "celular",
    "telefono",
    "cellulare",
    "telefone",
    "telemóvel",
    "telefoon",
    "puhelin",
    "puh.",
    "тел",
    "тел.",
    "телефон",
    "факс",
    "电话",
    "手机",
    "電話",
    "電話番号",
    "携帯",
    "전화",
    "هاتف",
    "फ़ोन",
];

/// How many groups of a number are a telephone number.
pub(super) fn groups(number: &Grouped) -> Option<usize> {
    let bytes = number.text.as_bytes();
    if number.begin > 0 && bytes[number.begin - 1] == b'+' {
        return international(number);
    }
    north_american(number).or_else(|| french(number)).or_else(|| labelled(number))
}

/// Bytes before the first digit that belong to a number: a plus sign or an opening bracket.
pub(super) fn opening(text: &str, begin: usize) -> usize {
    usize::from(text[..begin].ends_with(['+', '(']))
}

/// The most groups with at most fifteen digits (E.164) after which the number can end.
fn most_groups(number: &Grouped) -> Option<usize> {
    let most = (1..=number.groups()).rev().find(|&groups| number.digits(groups).len() <= 15)?;
    let after = number.text[number.end(most)..].chars().next();
    let ends = after.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '%' | '@' | '=')));
    (ends && !(number.cut && most == number.groups())).then_some(most)
}

fn international(number: &Grouped) -> Option<usize> {
    let before = number.text[..number.begin - 1].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '+' | '-' | '*' | '^' | ')')) {
        return None;
    }
    let groups = most_groups(number)?;
    let digits = number.digits(groups);
    let country = country_code(digits)?;
    let national = digits.len() - country;
    let fits = match &digits[..country] {
        [1] => national == 10 && digits[1] >= 2 && digits[4] >= 2 && !is_fictional(&digits[1..]),
        [7] => national == 10,
        _ => (6..=13).contains(&national),
    };
    fits.then_some(groups)
}

/// Digits of the country code (ITU-T E.164) that digits begin with.
fn country_code(digits: &[u8]) -> Option<usize> {
    match digits {
        [1 | 7, ..] => Some(1),
        [2, 0 | 7, ..]
        | [3, 0..=4 | 6 | 9, ..]
        | [4, 0 | 1 | 3..=9, ..]
        | [5, 1..=8, ..]
        | [6, 0..=6, ..]
        | [8, 1 | 2 | 4 | 6, ..]
        | [9, 0..=5 | 8, ..] => Some(2),
        [2 | 3 | 4 | 5 | 6 | 8 | 9, _, _, ..] => Some(3),
        _ => None,
    }
}

/// 555-0100 to 555-0199, which stand in books and films for numbers that nobody has.
fn is_fictional(national: &[u8]) -> bool {
    matches!(national, [_, _, _, 5, 5, 5, 0, 1, _, _])
}

/// `(212) 345-6789`, `212-345-6789`, `212.345.6789`, with or without a 1 before.
fn north_american(number: &Grouped) -> Option<usize> {
    let (first, lead) =
        if number.groups() > 3 && number.length(0) == 1 && number.digits(1) == [1] { (1, 1) } else { (0, 0) };
    if number.groups() < first + 3 || [0, 1, 2].iter().any(|&i| number.length(first + i) != [3, 3, 4][i]) {
        return None;
    }
    let (one, two) = (number.between(first), number.between(first + 1));
    let bracketed =
        if lead == 1 { number.between(0).ends_with('(') } else { number.text[..number.begin].ends_with('(') };
    let joined = match (one, two) {
        ("-", "-") | (".", ".") => true,
        (")" | ") " | ")-" | ")\u{a0}", "-" | "." | " " | "\u{a0}") => bracketed,
        _ => false,
    };
    let groups = first + 3;
    let digits = &number.digits(groups)[lead..];
    let fits = digits[0] >= 2 && digits[3] >= 2 && !is_fictional(digits);
    (joined && fits && number.ends_after(groups)).then_some(groups)
}

/// `01 23 45 67 89` and the same with full stops.
fn french(number: &Grouped) -> Option<usize> {
    if number.groups() < 5 {
        return None;
    }
    let between = number.between(0);
    let longer = number.text[..number.begin]
        .strip_suffix(between)
        .is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()));
    let fits = matches!(between, " " | "." | "\u{a0}") && matches!(number.digits(1), [0, 1..=9]) && !longer;
    (fits && number.has_form(&[2; 5], &[between; 4])).then_some(5)
}

fn labelled(number: &Grouped) -> Option<usize> {
    let groups = most_groups(number)?;
    let digits = number.digits(groups);
    if !(6..=15).contains(&digits.len()) || is_date(number, groups) || is_round(number, groups) {
        return None;
    }
    is_called(number.text, number.begin, &LABELS).then_some(groups)
}

/// Whether all groups end in two zeros: `GSM 900/1800` is for telephones, but no number.
fn is_round(number: &Grouped, groups: usize) -> bool {
    (1..=groups).all(|group| number.digits(group).ends_with(&[0, 0]))
}

/// Years, spans of years and dates, in any order.
fn is_date(number: &Grouped, groups: usize) -> bool {
    let year = |group: usize| {
        number.length(group) == 4 && {
            let end = number.digits(group + 1).len();
            matches!(number.digits(group + 1)[end - 4..], [1, 9, _, _] | [2, 0, _, _])
        }
    };
    match groups {
        2 => year(0) && year(1),
        3 => {
            let short = |group: usize| number.length(group) <= 2;
            (year(0) && short(1) && short(2)) || (short(0) && short(1) && (year(2) || short(2)))
        }
        _ => false,
    }
}

/// Whether one of these words stands before a place, with no more than a word, a colon or a bracket between.
pub(super) fn is_called(text: &str, at: usize, words: &[&str]) -> bool {
    let begin = text.floor_char_boundary(at.saturating_sub(32));
    let line = text[begin..at].rsplit('\n').next().unwrap_or_default();
    if line.bytes().any(|byte| byte.is_ascii_digit()) {
        // Between the word and its number is no other number.
        let last = line.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
        return is_called_in(&line[last..], words);
    }
    is_called_in(line, words)
}

fn is_called_in(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    let ends = |c: char| !c.is_alphanumeric();
    words.iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (line[..at].chars().next_back(), &line[at + word.len()..]);
            let unspaced = word.chars().all(super::super::words::is_unspaced);
            let whole = before.is_none_or(ends) && after.chars().next().is_none_or(ends);
            // `Phone number:`, `call us at`: at most three short words.
            let between = after.split_whitespace().filter(|part| part.chars().any(char::is_alphanumeric));
            (whole || unspaced) && !after.contains(". ") && between.count() <= 3 && after.len() <= 20
        })
    })
}
