//! Who may ask: the keys that clients bring as bearer tokens. Only digests are kept, so that no key can be printed, and
//! the time of a comparison tells nothing of a key, its length included.

use std::fmt;

use axum::http::{HeaderMap, header};

/// Keys of clients. None at all: everybody may ask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<blake3::Hash>);

impl ApiKeys {
    /// Everybody may ask.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the request brings one of them, or none is needed.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        if self.is_empty() {
            return true;
        }
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let split = given.iter().position(|&byte| byte == b' ').unwrap_or(given.len());
        let (scheme, given) = given.split_at(split);
        let digest = blake3::hash(given.trim_ascii());
        // Digests compare in constant time; and every key is compared, whichever is the right one.
        let known = self.0.iter().fold(false, |known, key| known | (*key == digest));
        known && scheme.eq_ignore_ascii_case(b"bearer")
    }
}

impl<Key: AsRef<str>> FromIterator<Key> for ApiKeys {
    fn from_iter<Keys: IntoIterator<Item = Key>>(keys: Keys) -> Self {
        ApiKeys(keys.into_iter().map(|key| blake3::hash(key.as_ref().trim().as_bytes())).collect())
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_as_a_bearer_token_and_shown_nowhere() {
        let keys: ApiKeys = ["sesame", " simsim "].into_iter().collect();
        for (given, admitted) in [
            ("Bearer sesame", true),
            ("bearer simsim", true),
            ("Bearer  sesame ", true),
            ("Bearer sesam", false),
            ("Bearer sesame1", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Basic sesame", false),
            ("sesame", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, given.parse().unwrap());
            assert_eq!(keys.admit(&headers), admitted, "{given:?}");
        }
        assert!(!keys.admit(&HeaderMap::new()));
        assert!(ApiKeys::default().admit(&HeaderMap::new()));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");
    }
}
