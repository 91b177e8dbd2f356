//! Finds numbers that are somebody's: a text is gone through once, from digit to digit, and where a number begins its groups
//! and what surrounds them decide what it can be. No patterns: on ordinary pages most of the time would be theirs.

use super::{Finding, IP_ADDRESS, ids, is_public_ipv4, phone};
use crate::settings;

const CARD: &str = "<CREDIT_CARD>";
const IBAN: &str = "<IBAN>";
const ID: &str = "<NATIONAL_ID>";

/// Most digits and groups of a number that are looked at.
const MAX_DIGITS: usize = 20;
const MAX_GROUPS: usize = 10;

/// A number as it stands in a text: groups of digits with little between them.
pub(super) struct Grouped<'a> {
    /// The text and where the first digit is.
    pub text: &'a str,
    pub begin: usize,
    /// The digits, 0 to 9.
    digits: [u8; MAX_DIGITS],
    /// For each group where it ends in the text and among the digits.
    ends: [(usize, usize); MAX_GROUPS],
    count: usize,
    /// Whether the number goes on, beyond what is looked at.
    pub cut: bool,
}

impl<'a> Grouped<'a> {
    /// The number that begins at a digit.
    fn at(text: &'a str, begin: usize) -> Grouped<'a> {
        let bytes = text.as_bytes();
        let mut number = Grouped {
            text,
            begin,
            digits: [0; MAX_DIGITS],
            ends: [(0, 0); MAX_GROUPS],
            count: 0,
            cut: false,
        };
        let (mut at, mut digits) = (begin, 0);
        loop {
            while let Some(byte) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
                if digits == MAX_DIGITS {
                    number.cut = true;
                    break;
                }
                number.digits[digits] = byte - b'0';
                (at, digits) = (at + 1, digits + 1);
            }
            if number.cut || number.count == MAX_GROUPS {
                number.cut = true;
                return number;
            }
            number.ends[number.count] = (at, digits);
            number.count += 1;
            let between = separator(&bytes[at..]);
            if between == 0 || !bytes.get(at + between).is_some_and(u8::is_ascii_digit) {
                return number;
            }
            at += between;
        }
    }

    /// Groups.
    pub fn groups(&self) -> usize {
        self.count
    }

    /// Digits of the first groups.
    pub fn digits(&self, groups: usize) -> &[u8] {
        &self.digits[..if groups == 0 { 0 } else { self.ends[groups - 1].1 }]
    }

    /// Where the first groups end in the text.
    pub fn end(&self, groups: usize) -> usize {
        if groups == 0 { self.begin } else { self.ends[groups - 1].0 }
    }

    /// Digits of one group.
    pub fn length(&self, group: usize) -> usize {
        self.ends[group].1 - if group == 0 { 0 } else { self.ends[group - 1].1 }
    }

    /// What stands between a group and the next one.
    pub fn between(&self, group: usize) -> &'a str {
        let next = self.ends[group + 1];
        &self.text[self.ends[group].0..next.0 - (next.1 - self.ends[group].1)]
    }

    /// Whether the number begins with groups of these lengths, what is between them is as said, and nothing follows that
    /// would make it longer.
    pub fn has_form(&self, lengths: &[usize], between: &[&str]) -> bool {
        self.count >= lengths.len()
            && lengths.iter().enumerate().all(|(group, length)| self.length(group) == *length)
            && between.iter().enumerate().all(|(group, between)| self.between(group) == *between)
            && self.ends_after(lengths.len())
    }

    /// Whether the number can end after so many groups: the text ends a word there, and what comes next is not joined to
    /// it in the same way as its groups are to one another.
    pub fn ends_after(&self, groups: usize) -> bool {
        let joined = groups < self.count
            && (!self.between(groups - 1).trim().is_empty()
                || (groups > 1
                    && self.between(groups - 1) == self.between(groups - 2)
                    && self.length(groups) == self.length(groups - 1)));
        let after = self.text[self.end(groups)..].chars().next();
        !joined
            && !self.cut_at(groups)
            && after.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '%' | '@' | '=')))
    }

    fn cut_at(&self, groups: usize) -> bool {
        self.cut && groups == self.count
    }
}

/// Bytes of what may stand between two groups of a number: a blank, a hyphen, a full stop, a slash, a bracket with a blank.
fn separator(bytes: &[u8]) -> usize {
    let one = |at: usize| match bytes.get(at) {
        Some(b' ' | b'-' | b'.' | b'/' | b'(' | b')') => 1,
        Some(0xC2) if bytes.get(at + 1) == Some(&0xA0) => 2,
        Some(0xE2) if bytes.get(at + 1) == Some(&0x80) && matches!(bytes.get(at + 2), Some(0x90..=0x93)) => 3,
        _ => 0,
    };
    let (mut at, mut blanks, mut parts) = (0, 0, 0);
    while parts < 3 {
        let length = one(at);
        if length == 0 {
            break;
        }
        // A full stop before a blank ends a sentence, and two blanks part columns.
        let blank = matches!(bytes[at], b' ' | 0xC2);
        if blank && (at > 0 && matches!(bytes[at - 1], b'.' | b' ')) {
            return 0;
        }
        blanks += usize::from(blank);
        (at, parts) = (at + length, parts + 1);
    }
    if blanks > 2 { 0 } else { at }
}

/// Adds what is found. `prose` says whether numbers are looked for that could be anything in code.
pub(super) fn find(text: &str, settings: &settings::Scrub, prose: bool, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let finding = |range, name, placeholder| Finding { range, name, placeholder };
    let mut at = 0;
    while let Some(begin) = bytes[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) {
        let run = bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        at = begin + run;
        if settings.ip_addresses
            && run <= 3
            && bytes.get(at) == Some(&b'.')
            && let Some(end) = quad_end(bytes, begin)
            && is_public_ipv4(text, &text[begin..end], begin)
        {
            found.push(finding(begin..end, "ip_addresses", IP_ADDRESS));
            at = end;
            continue;
        }
        if !prose {
            continue;
        }
        let before = text[..begin].chars().next_back();
        if before.is_some_and(char::is_alphabetic) {
            if let Some(code) = lettered(text, begin, settings) {
                at = at.max(code.range.end);
                found.push(code);
            }
            continue;
        }
        // Most numbers in a text are years and counts.
        if run < 6 && separator(&bytes[at..]) == 0 {
            continue;
        }
        if before.is_some_and(|c| {
            matches!(c, '_' | '.' | '-' | '/' | '=' | '#' | '&' | '@' | '$' | '€' | '£' | '%' | '\\')
        }) {
            continue;
        }
        let number = Grouped::at(text, begin);
        let card = (settings.credit_cards && before != Some('+')).then(|| card_groups(&number)).flatten();
        let (groups, name, placeholder) = if let Some(groups) = card {
            (groups, "credit_cards", CARD)
        } else if let Some(groups) = settings.national_ids.then(|| id_groups(&number)).flatten() {
            (groups, "national_ids", ID)
        } else if let Some(groups) = settings.phone_numbers.then(|| phone::groups(&number)).flatten() {
            (groups, "phone_numbers", phone::PLACEHOLDER)
        } else {
            let finnish = settings.national_ids.then(|| finnish_end(text, &number)).flatten();
            let chinese = settings.national_ids.then(|| chinese_end(text, &number)).flatten();
            if let Some(end) = finnish.or(chinese) {
                found.push(finding(begin..end, "national_ids", ID));
                at = end;
            }
            continue;
        };
        let end = number.end(groups);
        if is_in_address(text, begin) {
            at = end;
            continue;
        }
        let opening = if name == "phone_numbers" { phone::opening(text, begin) } else { 0 };
        found.push(finding(begin - opening..end, name, placeholder));
        at = end;
    }
}

/// Where four numbers of at most three digits with full stops between them end.
fn quad_end(bytes: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin;
    for part in 0..4 {
        if part > 0 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let digits = bytes[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// Codes that begin with letters: the digit is that after them.
fn lettered(text: &str, digit: usize, settings: &settings::Scrub) -> Option<Finding> {
    let bytes = text.as_bytes();
    let letters = bytes[..digit].iter().rev().take(7).take_while(|byte| byte.is_ascii_uppercase()).count();
    let begin = digit - letters;
    if text[..begin]
        .chars()
        .next_back()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '='))
    {
        return None;
    }
    if settings.ibans
        && letters == 2
        && let Some(length) = ids::iban_end(&bytes[begin..])
    {
        return Some(Finding { range: begin..begin + length, name: "ibans", placeholder: IBAN });
    }
    if settings.national_ids && letters == 6 {
        let code = bytes.get(begin..begin + 16).filter(|code| ids::is_italian(code))?;
        let after = bytes.get(begin + code.len());
        return after.is_none_or(|byte| !byte.is_ascii_alphanumeric()).then(|| Finding {
            range: begin..begin + 16,
            name: "national_ids",
            placeholder: ID,
        });
    }
    None
}

/// How many groups are the number of a payment card.
fn card_groups(number: &Grouped) -> Option<usize> {
    const FORMS: [&[usize]; 7] =
        [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[16], &[15], &[19]];
    FORMS.into_iter().find_map(|form| {
        let same: Vec<&str> = if form.len() > 1 && number.groups() >= form.len() {
            vec![number.between(0); form.len() - 1]
        } else {
            Vec::new()
        };
        let fits = same.iter().all(|between| matches!(*between, " " | "-" | "\u{a0}"));
        (fits && number.has_form(form, &same) && ids::is_card(number.digits(form.len())))
            .then_some(form.len())
    })
}

/// How many groups are a personal number that has check digits and a form of its own.
fn id_groups(number: &Grouped) -> Option<usize> {
    let is = |form: &[usize], between: &[&str], check: fn(&[u8]) -> bool| {
        (number.has_form(form, between) && check(number.digits(form.len()))).then_some(form.len())
    };
    is(&[3, 3, 3, 2], &[".", ".", "-"], ids::is_cpf)
        .or_else(|| is(&[2, 2, 2, 3, 2], &[".", ".", "-", "."], ids::is_belgian))
        .or_else(|| is(&[6, 7], &["-"], ids::is_korean))
        .or_else(|| is(&[1, 2, 2, 2, 3, 3, 2], &[" "; 6], ids::is_french))
        .or_else(|| is(&[15], &[], ids::is_french))
        .or_else(|| {
            let called = || phone::is_called(number.text, number.begin, &["ssn", "social security"]);
            is(&[3, 2, 4], &["-", "-"], ids::is_social_security).filter(|_| called())
        })
}

/// China's number, whose check digit can be a letter; its digits are eighteen in a row.
fn chinese_end(text: &str, number: &Grouped) -> Option<usize> {
    let length = number.length(0);
    if number.cut || !matches!(length, 17 | 18) {
        return None;
    }
    let end = number.begin + 18;
    let check = text.as_bytes().get(end - 1)?.to_ascii_uppercase();
    let after = text.as_bytes().get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (after && ids::is_chinese(&number.digits(1)[..17], check)).then_some(end)
}

/// Finland's code: six digits, a sign of the century, three digits and a check character.
fn finnish_end(text: &str, number: &Grouped) -> Option<usize> {
    if number.length(0) != 6 {
        return None;
    }
    let rest = text.as_bytes().get(number.begin + 6..number.begin + 11)?;
    let after = text.as_bytes().get(number.begin + 11).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let serial: Vec<u8> = rest[1..4].iter().filter(|b| b.is_ascii_digit()).map(|byte| byte - b'0').collect();
    let right = serial.len() == 3 && ids::is_finnish(number.digits(1), rest[0], &serial, rest[4]);
    (after && right).then_some(number.begin + 11)
}

/// Whether a place is inside an address of the web, where numbers name pages.
fn is_in_address(text: &str, at: usize) -> bool {
    let begin = text.floor_char_boundary(at.saturating_sub(300));
    let word = text[begin..at].rsplit(char::is_whitespace).next().unwrap_or_default();
    word.contains("://") || word.contains("www.")
}
