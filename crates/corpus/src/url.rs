//! Which web addresses are of the same page: scheme, host and default port in one form, without fragment and without
//! the parameters that only follow visitors about. Nothing is looked up, so pages with several addresses stay several.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

/// Parameters that say where a visitor came from and nothing about the page.
const TRACKING: [&str; 22] = [
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "dclid",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "igshid",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "oly_anon_id",
    "oly_enc_id",
    "twclid",
    "ttclid",
    "vero_id",
    "wbraid",
    "yclid",
];

/// The address in its normal form: scheme and host in lower case, `https` taken for `http`, no default port, no
/// fragment, no tracking parameters (`utm_…` and 22 others), a path of at least `/`, and escapes (`%7e`) in capitals.
/// The other parameters stay as they are, in their order. Nothing for what is no `http` or `https` address.
pub fn normalise(url: &str) -> Option<String> {
    let (host, rest) = host_and_rest(url.trim())?;
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let host = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host);
    let host = host.trim_end_matches([':', '.']).to_lowercase();
    if host.is_empty() {
        return None;
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut normal = String::with_capacity(url.len());
    normal.push_str("http://");
    normal.push_str(&host);
    normal.push_str(&capital_escapes(if path.is_empty() { "/" } else { path }));
    let mut mark = '?';
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty() && !is_tracking(parameter)) {
        normal.push(mark);
        normal.push_str(&capital_escapes(parameter));
        mark = '&';
    }
    Some(normal)
}

/// Host with port, and what follows it.
fn host_and_rest(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((authority.rsplit_once('@').map_or(authority, |(_, host)| host), rest))
}

/// The host of a web address in lower case, without port, last full stop and a leading `www.`; nothing for what is no
/// `http` or `https` address. Hosts below one domain stay several: which of them belong together no rule tells.
pub fn host(url: &str) -> Option<String> {
    let (host, _) = host_and_rest(url.trim())?;
    // An IPv6 address has colons of its own, in brackets.
    let port = host.rfind(':').filter(|&at| host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    let host = host[..port.unwrap_or(host.len())].trim_end_matches('.').to_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    (!host.is_empty()).then(|| host.to_string())
}

/// A 128-bit hash of the normal form, by which addresses are compared; never 0.
pub fn key(url: &str) -> Option<u128> {
    normalise(url).map(|normal| xxh3_128(normal.as_bytes()).max(1))
}

fn is_tracking(parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name).to_ascii_lowercase();
    name.starts_with("utm_") || TRACKING.contains(&name.as_str())
}

/// Percent escapes with capital digits, as RFC 3986, section 6.2.2.1, has it.
fn capital_escapes(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let escape = |at: usize| {
        bytes[at] == b'%'
            && bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !(0..bytes.len()).any(|at| escape(at) && bytes[at + 1..at + 3].iter().any(u8::is_ascii_lowercase)) {
        return Cow::Borrowed(text);
    }
    let mut capital = String::with_capacity(text.len());
    let mut digits = 0;
    for (at, character) in text.char_indices() {
        if digits > 0 {
            digits -= 1;
            capital.push(character.to_ascii_uppercase());
        } else {
            digits = if escape(at) { 2 } else { 0 };
            capital.push(character);
        }
    }
    Cow::Owned(capital)
}

/// A date as a number that grows with time, `20240418093000` for 2024-04-18T09:30:00: the first fourteen digits of
/// RFC 3339, of WARC's dates and of indices' timestamps, shorter ones filled up with zeros; 0 for none, or what has
/// no year, month and day in front. Offsets from UTC are not reckoned with.
pub fn date_rank(date: Option<&str>) -> u64 {
    let Some(date) = date else { return 0 };
    let (mut rank, mut digits) = (0u64, 0);
    for character in date.trim().chars() {
        match character {
            '0'..='9' if digits < 14 => {
                rank = rank * 10 + u64::from(character as u32 - '0' as u32);
                digits += 1;
            }
            '-' | ':' | 'T' | 't' | ' ' if digits > 0 && digits < 14 => {}
            _ => break,
        }
    }
    if digits < 8 { 0 } else { rank * 10u64.pow(14 - digits) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_of_one_page_become_one() {
        let check = |url: &str, normal: Option<&str>| assert_eq!(normalise(url).as_deref(), normal, "{url}");
        check("HTTPS://Example.ORG:443/A/b#c", Some("http://example.org/A/b"));
        check("http://example.org:80", Some("http://example.org/"));
        check("http://example.org:8080", Some("http://example.org:8080/"));
        check("http://user:word@example.org./?", Some("http://example.org/"));
        check("http://a.b/?utm_source=x&id=3&fbclid=1&UTM_Medium=y&b", Some("http://a.b/?id=3&b"));
        check("http://a.b?gclid=1", Some("http://a.b/"));
        check("http://a.b/%7euser?q=%c3%a4", Some("http://a.b/%7Euser?q=%C3%A4"));
        check("http://a.b/100%zz", Some("http://a.b/100%zz"));
        check("http://bücher.de/Ä#ü", Some("http://bücher.de/Ä"));
        for other in ["", "mailto:a@b.c", "ftp://a.b/c", "http://", "http://:80/", "crate/src/lib.rs"] {
            check(other, None);
        }
        assert_ne!(key("http://a.b/?id=1"), key("http://a.b/?id=2"));
        assert_eq!(key("http://a.b/?id=1#x"), key("https://A.b/?id=1&utm_id=7"));
    }

    #[test]
    fn hosts_are_found() {
        let check = |url: &str, wanted: Option<&str>| assert_eq!(host(url).as_deref(), wanted, "{url}");
        check(" HTTPS://user:word@www.Example.ORG.:8443/a@b", Some("example.org"));
        check("http://a.example.org?x#y", Some("a.example.org"));
        check("http://[2001:db8::1]:80/", Some("[2001:db8::1]"));
        check("http://[2001:db8::1]/", Some("[2001:db8::1]"));
        check("http://bücher.de", Some("bücher.de"));
        for other in ["http://", "http://:80/", "ftp://a.b", "crate/src/lib.rs"] {
            check(other, None);
        }
    }

    #[test]
    fn dates_are_ordered() {
        let check = |date: &str, rank: u64| assert_eq!(date_rank(Some(date)), rank, "{date}");
        check("2024-04-18T09:30:00Z", 20240418093000);
        check("2024-04-18T09:30:00.123456+02:00", 20240418093000);
        check("20240418093000", 20240418093000);
        check("2024-04-18", 20240418000000);
        check("2024", 0);
        check("Thu, 18 Apr 2024", 0);
        assert_eq!(date_rank(None), 0);
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(url in "(http|HTTPS)://[a-zA-Zä.:@]{0,8}(/[a-z%0-9A-F]{0,6}){0,2}(\\?[a-z=&_%é]{0,12})?(#[a-z]{0,3})?") {
            if let Some(normal) = normalise(&url) {
                prop_assert_eq!(normalise(&normal), Some(normal));
            }
        }

        #[test]
        fn anything_is_taken(url in any::<String>(), date in any::<String>()) {
            let _ = (normalise(&url), normalise(&format!("http://{url}")), date_rank(Some(&date)));
            let _ = (host(&url), host(&format!("http://{url}")));
        }
    }
}
