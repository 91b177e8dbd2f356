//! The URL rules of RefinedWeb (Penedo et al. 2023, section G.1): blocked domains and addresses, words that block an
//! address alone, words of which it takes several, and strings within it. The paper's lists have 4.6 million domains and
//! are not ours to give away; the program brings a few words, and a recipe names files in UT1's form. A document without
//! a URL passes.

use aho_corasick::AhoCorasick;
use arrow_array::{Array, RecordBatch, StringArray};
use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use super::{Removed, Step, lists};
use crate::batch::{self, Rows, column};
use crate::{Error, settings};

const NAME: &str = "url";

/// The step.
pub struct Rules {
    domains: FxHashSet<u64>,
    allowed: FxHashSet<u64>,
    addresses: FxHashSet<u64>,
    hard: FxHashSet<String>,
    soft: FxHashSet<String>,
    subwords: Option<AhoCorasick>,
    min_soft_words: usize,
}

impl Rules {
    /// The step with these settings; the lists that they name are read.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::List`] when a list cannot be read.
    pub fn new(settings: &settings::Url) -> Result<Rules, Error> {
        let mut rules = Rules {
            domains: FxHashSet::default(),
            allowed: settings.allowed_domains.iter().map(|name| hash(&domain_entry(name))).collect(),
            addresses: FxHashSet::default(),
            hard: FxHashSet::default(),
            soft: FxHashSet::default(),
            subwords: None,
            min_soft_words: settings.min_soft_words as usize,
        };
        for file in &settings.domain_files {
            rules.domains.extend(lists::read(file)?.iter().map(|entry| hash(&domain_entry(entry))));
        }
        for file in &settings.address_files {
            let entries = lists::read(file)?;
            rules.addresses.extend(entries.iter().map(|entry| hash(trimmed(&without_scheme(entry)))));
        }
        let words = |given: &[String], list: &str| {
            let builtin = if settings.builtin { lists::builtin(list) } else { Vec::new() };
            given.iter().map(|word| word.to_lowercase()).chain(builtin).collect::<FxHashSet<String>>()
        };
        rules.hard = words(&settings.hard_words, "url-hard");
        rules.soft = words(&settings.soft_words, "url-soft");
        let bare = |word: &String| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let mut subwords: Vec<String> = words(&settings.subwords, "url-sub").iter().map(bare).collect();
        subwords.retain(|word| !word.is_empty());
        if !subwords.is_empty() {
            subwords.sort();
            let built = AhoCorasick::new(&subwords);
            rules.subwords = Some(built.expect("a list of words in memory fits an automaton"));
        }
        Ok(rules)
    }

    /// Why an address is blocked, if it is.
    pub fn verdict(&self, url: &str) -> Option<&'static str> {
        let address = without_scheme(url);
        let host = host(&address);
        if parents(host).any(|domain| self.allowed.contains(&hash(domain))) {
            return None;
        }
        if parents(host).any(|domain| self.domains.contains(&hash(domain))) {
            return Some("blocked_domain");
        }
        if !self.addresses.is_empty() && self.is_blocked_address(&address, host) {
            return Some("blocked_address");
        }
        let mut soft: Vec<&str> = Vec::new();
        for word in address.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            if self.hard.contains(word) {
                return Some("blocked_word");
            }
            if self.soft.contains(word) && !soft.contains(&word) {
                soft.push(word);
            }
        }
        if soft.len() >= self.min_soft_words {
            return Some("suspicious_words");
        }
        if let Some(subwords) = &self.subwords {
            let letters: String = address.chars().filter(|c| c.is_alphanumeric()).collect();
            if subwords.is_match(&letters) {
                return Some("blocked_part_of_a_word");
            }
        }
        None
    }

    /// Whether the address, or what it lies below, is in a list; with and without its `www.`.
    fn is_blocked_address(&self, address: &str, host: &str) -> bool {
        let path = address.find('/').map_or("", |at| &address[at..]);
        [host, host.strip_prefix("www.").unwrap_or(host)].into_iter().any(|host| {
            let whole = format!("{host}{path}");
            let ends = whole.char_indices().filter(|(_, c)| matches!(c, '/' | '?' | '#')).map(|(at, _)| at);
            ends.chain([whole.len()]).any(|end| self.addresses.contains(&hash(trimmed(&whole[..end]))))
        })
    }
}

fn hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// In lower case, without scheme and what a name and password put before the host.
fn without_scheme(url: &str) -> String {
    let rest = url.trim().split_once("://").map_or(url.trim(), |(_, rest)| rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let begin = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    rest[begin..].to_lowercase()
}

/// The host of an address as [`without_scheme`] gives it, without port and last full stop.
fn host(address: &str) -> &str {
    let host = &address[..address.find(['/', '?', '#']).unwrap_or(address.len())];
    // An IPv6 address has colons of its own, in brackets.
    let end = host.rfind(':').filter(|&at| host[at..].bytes().skip(1).all(|b| b.is_ascii_digit()));
    host[..end.unwrap_or(host.len())].trim_end_matches('.')
}

fn domain_entry(entry: &str) -> String {
    host(&without_scheme(entry)).trim_start_matches('.').to_string()
}

fn trimmed(address: &str) -> &str {
    address.trim_end_matches('/')
}

/// A host and all domains that it lies below: `a.b.c`, `b.c`, `c`.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, rest)| rest))
}

impl Step for Rules {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "RefinedWeb: Penedo et al. 2023, section G.1"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let urls: &StringArray = column(&batch, NAME, "url")?;
        if urls.null_count() == urls.len() {
            return Ok((batch, removed));
        }
        let mut keep = Vec::with_capacity(batch.num_rows());
        for (index, row) in Rows::of(&batch, NAME)?.iter().enumerate() {
            let reason = if urls.is_valid(index) { self.verdict(urls.value(index)) } else { None };
            keep.push(reason.is_none());
            if let Some(reason) = reason {
                removed.count(reason, row);
            }
        }
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(domains: &str, addresses: &str) -> Rules {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            vec![path.to_str().unwrap().to_string()]
        };
        Rules::new(&settings::Url {
            builtin: false,
            domain_files: file("domains", domains),
            address_files: file("urls", addresses),
            allowed_domains: vec!["good.bad.example".into()],
            hard_words: vec!["Foobar".into()],
            soft_words: vec!["one".into(), "two".into(), "three".into()],
            subwords: vec!["needle".into()],
            ..settings::Url::default()
        })
        .unwrap()
    }

    #[test]
    fn every_rule_blocks_what_breaks_it() {
        let rules =
            rules("# domains\nbad.example\nXn--E1AFMKFD.test\n", "example.org/~user\nwww.example.net\n");
        let check = |url: &str, expected: Option<&str>| assert_eq!(rules.verdict(url), expected, "{url}");
        check("https://bad.example/", Some("blocked_domain"));
        check("http://WWW.Sub.Bad.Example:8080/page?x=1", Some("blocked_domain"));
        check("bad.example.", Some("blocked_domain"));
        check("http://user:password@bad.example#top", Some("blocked_domain"));
        check("http://xn--e1afmkfd.test", Some("blocked_domain"));
        check("http://notbad.example/", None);
        check("http://bad.example.org/", None);
        check("http://good.bad.example/foobar", None);
        check("http://example.org/~user/deep?x", Some("blocked_address"));
        check("http://www.example.org/~user", Some("blocked_address"));
        check("http://example.org/~user2", None);
        check("http://www.example.net/anything", Some("blocked_address"));
        check("http://x.test/a-FooBar-b", Some("blocked_word"));
        check("http://x.test/foobars", None);
        check("http://one.test/two", Some("suspicious_words"));
        check("http://one.test/one", None);
        check("http://x.test/nee-dle.html", Some("blocked_part_of_a_word"));
        check("", None);
        check("http://[2001:db8::1]:80/x", None);
    }

    #[test]
    fn the_words_of_the_program_spare_ordinary_addresses() {
        let rules = Rules::new(&settings::Url::default()).unwrap();
        for url in [
            "https://en.wikipedia.org/wiki/Essex",
            "https://www.middlesex.ac.uk/courses/adult-nursing",
            "https://www.scunthorpe.gov.uk/adults",
            "https://example.com/2018/09/hot-dogs-and-cocktails",
            "https://www.classactions.org/analysis",
            "https://docs.rs/titanium/latest",
            "https://essex-cambridge.example/final-exams/canals-examined",
            "https://example.org/teen-girls/gay-lesbian-support/adults",
            "https://example.org/birds/great-tits",
        ] {
            assert_eq!(rules.verdict(url), None, "{url}");
        }
        let word = &lists::builtin("url-hard")[0];
        assert_eq!(rules.verdict(&format!("http://{word}.example/")), Some("blocked_word"));
    }

    proptest::proptest! {
        #[test]
        fn no_address_breaks_the_rules(url in "\\PC{0,40}|[a-z:/@.?#\\[\\]%é]{0,30}") {
            let rules = Rules::new(&settings::Url::default()).unwrap();
            let address = without_scheme(&url);
            proptest::prop_assert!(address.starts_with(host(&address)) || host(&address).is_empty());
            rules.verdict(&url);
        }
    }
}
