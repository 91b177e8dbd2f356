//! Replaces personal data and secrets by placeholders, as StarCoder does (Li et al. 2023, section 4): mail
//! addresses, public IP addresses, private keys, cloud keys and tokens. It removes no document, and it finds
//! what has a recognisable form, not names, addresses or passwords in prose.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use regex::{Captures, Regex};

use super::{Removed, Step};
use crate::Error;
use crate::batch::{self, Rows};
use crate::settings;

const NAME: &str = "scrub";

/// A form of personal data or secret: its name in the funnel, its pattern, what replaces it, and a second look
/// at each match.
struct Form {
    name: &'static str,
    pattern: Regex,
    placeholder: &'static str,
    accept: fn(whole: &str, found: &str, at: usize) -> bool,
}

/// The step.
pub struct Scrub {
    forms: Vec<Form>,
}

const EMAIL: &str = "<EMAIL>";
const IP_ADDRESS: &str = "<IP_ADDRESS>";
const KEY: &str = "<KEY>";

impl Scrub {
    /// The step with these settings.
    pub fn new(settings: &settings::Scrub) -> Scrub {
        let mut forms = Vec::new();
        let mut add = |wanted: bool, name, placeholder, pattern: &str, accept| {
            if wanted {
                let pattern = Regex::new(pattern).expect("the patterns are constants, tried by the tests");
                forms.push(Form { name, pattern, placeholder, accept });
            }
        };
        let any = |_: &str, _: &str, _: usize| true;
        let secrets = settings.secrets;
        add(
            secrets,
            "private_keys",
            KEY,
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]{32,}(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
            any,
        );
        add(secrets, "aws_keys", KEY, r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", is_random);
        add(secrets, "google_keys", KEY, r"\bAIza[0-9A-Za-z_-]{35}", is_random);
        add(
            secrets,
            "github_tokens",
            KEY,
            r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
            is_random,
        );
        add(secrets, "gitlab_tokens", KEY, r"\bglpat-[A-Za-z0-9_-]{20,}", is_random);
        add(secrets, "slack_tokens", KEY, r"\bxox[abeoprs]-[0-9A-Za-z-]{20,}", is_random);
        add(secrets, "stripe_keys", KEY, r"\b[rs]k_live_[0-9A-Za-z]{20,}", is_random);
        add(secrets, "openai_keys", KEY, r"\bsk-[A-Za-z0-9_-]{32,}", is_random);
        add(secrets, "hugging_face_tokens", KEY, r"\bhf_[A-Za-z]{34}\b", is_random);
        add(secrets, "npm_tokens", KEY, r"\bnpm_[A-Za-z0-9]{36}\b", is_random);
        add(secrets, "crates_io_tokens", KEY, r"\bcio[A-Za-z0-9]{32}\b", is_random);
        add(
            secrets,
            "json_web_tokens",
            KEY,
            r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
            any,
        );
        add(
            settings.emails,
            "emails",
            EMAIL,
            r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,}",
            is_personal_email,
        );
        add(settings.ip_addresses, "ip_addresses", IP_ADDRESS, r"\d{1,3}(?:\.\d{1,3}){3}", is_public_ipv4);
        add(
            settings.ip_addresses,
            "ip_addresses",
            IP_ADDRESS,
            r"(?i)[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7}(?:::)?",
            is_public_ipv6,
        );
        Scrub { forms }
    }

    /// The text with placeholders, and how many of each form were replaced.
    pub fn scrub<'a>(&self, text: &'a str) -> (Cow<'a, str>, BTreeMap<&'static str, u64>) {
        let mut text = Cow::Borrowed(text);
        let mut counts = BTreeMap::new();
        for form in &self.forms {
            let mut count = 0;
            let replaced = form.pattern.replace_all(&text, |captures: &Captures| {
                let found = captures.get(0).expect("group 0 is the whole match");
                if (form.accept)(&text, found.as_str(), found.start()) {
                    count += 1;
                    form.placeholder.to_string()
                } else {
                    found.as_str().to_string()
                }
            });
            if count > 0 {
                text = Cow::Owned(replaced.into_owned());
                *counts.entry(form.name).or_default() += count;
            }
        }
        (text, counts)
    }
}

impl Step for Scrub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut account = Removed::default();
        let mut texts = StringBuilder::new();
        for row in Rows::of(&batch, NAME)?.iter() {
            let (text, counts) = self.scrub(row.text);
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
