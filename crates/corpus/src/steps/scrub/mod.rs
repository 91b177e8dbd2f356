//! Replaces personal data and secrets by placeholders, as StarCoder (Li et al. 2023, section 4) and Dolma (Soldaini et al.
//! 2024) do: mail addresses, public IP addresses, private keys, cloud keys and tokens; in texts that are no code
//! or data also telephone numbers, payment cards, bank accounts and personal numbers of states. It removes no document, and
//! it finds what has a recognisable form, not names, addresses or passwords in prose.

mod ids;
mod numbers;
mod phone;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use regex::Regex;

use super::{Removed, Step};
use crate::Error;
use crate::batch::{self, Rows};
use crate::kind::Class;
use crate::settings;

const NAME: &str = "scrub";

/// A form of secret or address with a pattern: its name in the funnel, how its matches begin or what they contain, what
/// replaces it, and a second look at each match.
struct Form {
    name: &'static str,
    marks: &'static [&'static str],
    pattern: Regex,
    placeholder: &'static str,
    accept: fn(whole: &str, found: &str, at: usize) -> bool,
}

/// Something to be replaced.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    range: Range<usize>,
    name: &'static str,
    placeholder: &'static str,
}

/// The step.
pub struct Scrub {
    forms: Vec<Form>,
    /// All marks of all forms, and the form of each: a text that has none of a form's is not searched for it.
    marks: AhoCorasick,
    form_of_mark: Vec<usize>,
    settings: settings::Scrub,
}

const EMAIL: &str = "<EMAIL>";
const IP_ADDRESS: &str = "<IP_ADDRESS>";
const KEY: &str = "<KEY>";

/// Groups of hexadecimal digits and colons; matched against runs of those alone.
static IPV6: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7}(?:::)?").expect("a constant, tried by the tests")
});

impl Scrub {
    /// The step with these settings.
    pub fn new(settings: &settings::Scrub) -> Scrub {
        let mut forms = Vec::new();
        let mut add = |wanted: bool, name, placeholder, marks, pattern: &str, accept| {
            if wanted {
                let pattern = Regex::new(pattern).expect("the patterns are constants, tried by the tests");
                forms.push(Form { name, marks, pattern, placeholder, accept });
            }
        };
        let any = |_: &str, _: &str, _: usize| true;
        let secrets = settings.secrets;
        add(
            secrets,
            "private_keys",
            KEY,
            &["-----BEGIN "],
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]{32,}(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
            any,
        );
        add(secrets, "aws_keys", KEY, &["AKIA", "ASIA"], r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", is_random);
        add(secrets, "google_keys", KEY, &["AIza"], r"\bAIza[0-9A-Za-z_-]{35}", is_random);
        add(
            secrets,
            "github_tokens",
            KEY,
            &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
            r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
            is_random,
        );
        add(secrets, "gitlab_tokens", KEY, &["glpat-"], r"\bglpat-[A-Za-z0-9_-]{20,}", is_random);
        add(secrets, "slack_tokens", KEY, &["xox"], r"\bxox[abeoprs]-[0-9A-Za-z-]{20,}", is_random);
        add(secrets, "stripe_keys", KEY, &["k_live_"], r"\b[rs]k_live_[0-9A-Za-z]{20,}", is_random);
        add(secrets, "openai_keys", KEY, &["sk-"], r"\bsk-[A-Za-z0-9_-]{32,}", is_random);
        add(secrets, "hugging_face_tokens", KEY, &["hf_"], r"\bhf_[A-Za-z]{34}\b", is_random);
        add(secrets, "npm_tokens", KEY, &["npm_"], r"\bnpm_[A-Za-z0-9]{36}\b", is_random);
        add(secrets, "crates_io_tokens", KEY, &["cio"], r"\bcio[A-Za-z0-9]{32}\b", is_random);
        add(
            secrets,
            "json_web_tokens",
            KEY,
            &["eyJ"],
            r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
            any,
        );
        add(
            settings.emails,
            "emails",
            EMAIL,
            &["@"],
            r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,}",
            is_personal_email,
        );
        let (mut marks, mut form_of_mark): (Vec<&str>, Vec<usize>) = (Vec::new(), Vec::new());
        for (index, form) in forms.iter().enumerate() {
            marks.extend(form.marks);
            form_of_mark.extend(form.marks.iter().map(|_| index));
        }
        let marks = AhoCorasick::new(marks).expect("a few constants fit an automaton");
        Scrub { forms, marks, form_of_mark, settings: settings.clone() }
    }

    /// The text with placeholders, and how many of each form were replaced. Numbers that could be anything in code and
    /// data are looked for in other texts alone.
    pub fn scrub<'a>(&self, text: &'a str, class: Class) -> (Cow<'a, str>, BTreeMap<&'static str, u64>) {
        let mut found = self.with_patterns(text);
        if self.settings.ip_addresses {
            found.extend(ipv6_addresses(text));
        }
        let prose = !matches!(class, Class::Code | Class::Data);
        numbers::find(text, &self.settings, prose, &mut found);
        let mut counts = BTreeMap::new();
        if found.is_empty() {
            return (Cow::Borrowed(text), counts);
        }
        // Of findings that overlap the one that was found first counts: secrets, then addresses, then numbers.
        let mut taken: BTreeMap<usize, Finding> = BTreeMap::new();
        for finding in found {
            let before = taken.range(..finding.range.end).next_back();
            if before.is_none_or(|(_, before)| before.range.end <= finding.range.start) {
                taken.insert(finding.range.start, finding);
            }
        }
        let (mut scrubbed, mut at) = (String::with_capacity(text.len()), 0);
        for finding in taken.into_values() {
            scrubbed.push_str(&text[at..finding.range.start]);
            scrubbed.push_str(finding.placeholder);
            at = finding.range.end;
            *counts.entry(finding.name).or_default() += 1;
        }
        scrubbed.push_str(&text[at..]);
        (Cow::Owned(scrubbed), counts)
    }

    /// What the patterns find, form after form.
    fn with_patterns(&self, text: &str) -> Vec<Finding> {
        let mut wanted = vec![false; self.forms.len()];
        for mark in self.marks.find_iter(text) {
            wanted[self.form_of_mark[mark.pattern().as_usize()]] = true;
        }
        let mut found = Vec::new();
        for form in self.forms.iter().zip(wanted).filter_map(|(form, wanted)| wanted.then_some(form)) {
            for range in form.pattern.find_iter(text).map(|m| m.range()) {
                if (form.accept)(text, &text[range.clone()], range.start) {
                    found.push(Finding { range, name: form.name, placeholder: form.placeholder });
                }
            }
        }
        found
    }
}

/// Looks at runs of hexadecimal digits and colons that can be addresses: with all seven colons, or with two in a row.
fn ipv6_addresses(text: &str) -> Vec<Finding> {
    let bytes = text.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b':';
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(colon) = text[at..].find(':').map(|offset| at + offset) {
        let begin = at + bytes[at..colon].iter().rposition(|byte| !inside(byte)).map_or(0, |last| last + 1);
        let end = colon + bytes[colon..].iter().position(|byte| !inside(byte)).unwrap_or(bytes.len() - colon);
        let run = &text[begin..end];
        if run.contains("::") || run.bytes().filter(|&byte| byte == b':').count() >= 7 {
            for part in IPV6.find_iter(run) {
                let range = begin + part.start()..begin + part.end();
                if is_public_ipv6(text, part.as_str(), range.start) {
                    found.push(Finding { range, name: "ip_addresses", placeholder: IP_ADDRESS });
                }
            }
        }
        at = end;
    }
    found
}

impl Step for Scrub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "StarCoder: Li et al. 2023, section 4; Dolma: Soldaini et al. 2024"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut account = Removed::default();
        let mut texts = StringBuilder::new();
        for row in Rows::of(&batch, NAME)?.iter() {
            let (text, counts) = self.scrub(row.text, row.kind.class);
            texts.append_value(text);
            for (name, count) in counts {
                *account.edits.entry(name.to_string()).or_default() += count;
            }
        }
        Ok((batch::with_column(&batch, NAME, "text", Arc::new(texts.finish()))?, account))
    }
}

/// Placeholders of documentation (`AKIAIOSFODNN7EXAMPLE`, `ghp_xxxx…`) are left: they are nobody's, and useful.
fn is_random(_: &str, found: &str, _: usize) -> bool {
    let mut distinct = [false; 256];
    found.bytes().for_each(|byte| distinct[usize::from(byte)] = true);
    distinct.iter().filter(|&&seen| seen).count() >= 11 && !found.to_ascii_uppercase().contains("EXAMPLE")
}

/// Not an address: reserved example domains (RFC 2606), `git@host` of repositories, file names such as
/// `icon@2x.png`, and code such as `value@pattern.field`.
fn is_personal_email(whole: &str, found: &str, at: usize) -> bool {
    let Some((user, domain)) = found.rsplit_once('@') else { return false };
    let domain = domain.to_ascii_lowercase();
    let last = domain.rsplit('.').next().unwrap_or_default();
    let example = ["example.com", "example.org", "example.net"]
        .iter()
        .any(|name| domain == *name || domain.ends_with(&format!(".{name}")));
    let reserved = example || matches!(last, "example" | "test" | "invalid" | "localhost" | "local");
    let file =
        matches!(last, "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "rs" | "py" | "js" | "ts" | "html");
    // `user:password@host` in a URL is a secret rather than an address, but `https://git@host` is neither.
    let repository = matches!(user, "git" | "hg" | "svn");
    // A longer domain that the pattern could not end (`a@b.c_d(`) is code.
    let code = whole[at + found.len()..].starts_with(['(', '_', '[']);
    !(reserved || file || repository || code)
}

/// Whether a dotted quad is an address that can be somebody's. Version numbers and parts of longer numbers are
/// not; neither are private, documentation and other special ranges (RFC 6890).
fn is_public_ipv4(whole: &str, found: &str, at: usize) -> bool {
    let before = whole[..at].chars().next_back();
    let after = &whole[at + found.len()..];
    if before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        || after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        || (after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()))
    {
        return false;
    }
    let context = &whole[whole.floor_char_boundary(at.saturating_sub(24))..at];
    if context.to_ascii_lowercase().contains("version") {
        return false;
    }
    let Ok(address) = found.parse::<Ipv4Addr>() else { return false };
    let octets = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || address.is_unspecified()
        || octets[0] == 0
        || octets[0] >= 240
        || (octets[0] == 100 && (64..128).contains(&octets[1]))
        || (octets[0] == 198 && (18..20).contains(&octets[1]))
        || (octets[0] == 192 && octets[1] == 0 && octets[2] == 0);
    // Small numbers all through are sections and versions (7.3.17.1): of real addresses one in 4,096 looks so.
    // A first number of 0 to 2 and a second below 40 make an object identifier (2.5.4.33, ITU-T X.660). The
    // resolvers that everybody names are nobody's.
    let small = octets.iter().all(|&octet| octet < 32)
        || (octets[0] <= 2 && octets[1] < 40)
        || matches!(octets, [8, 8, 8 | 4, 8 | 4] | [9, 9, 9, 9]);
    !special && !small
}

/// Whether hexadecimal groups are a global unicast address (2000::/3) outside the documentation ranges.
fn is_public_ipv6(whole: &str, found: &str, at: usize) -> bool {
    let outside = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.');
    if whole[..at].chars().next_back().is_some_and(outside)
        || whole[at + found.len()..]
            .starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_'))
    {
        return false;
    }
    let Ok(address) = found.parse::<Ipv6Addr>() else { return false };
    let first = address.segments();
    let documentation = (first[0] == 0x2001 && first[1] == 0x0db8) || first[0] & 0xfff0 == 0x3ff0;
    first[0] & 0xe000 == 0x2000 && !documentation
}

#[cfg(test)]
mod tests;
