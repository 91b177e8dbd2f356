//! Names that data sets give languages: ISO 639-1, ISO 639-3, and FLORES' or BCP 47's codes with a script or country.

/// The codes of ISO 639-3 (of macrolanguages, and of the members that data sets name instead) and 639-2 of the
/// languages that the detector knows by ISO 639-1.
#[rustfmt::skip]
const THREE_LETTERS: &[(&str, &[&str])] = &[
    ("af", &["afr"]), ("am", &["amh"]), ("ar", &["ara", "arb"]), ("az", &["aze", "azj"]), ("be", &["bel"]),
    ("bg", &["bul"]), ("bn", &["ben"]), ("bo", &["bod", "tib"]), ("bs", &["bos"]), ("ca", &["cat"]),
    ("cs", &["ces", "cze"]), ("cy", &["cym", "wel"]), ("da", &["dan"]), ("de", &["deu", "ger"]),
    ("el", &["ell", "gre"]), ("en", &["eng"]), ("eo", &["epo"]), ("es", &["spa"]), ("et", &["est", "ekk"]),
    ("eu", &["eus", "baq"]), ("fa", &["fas", "pes", "per"]), ("fi", &["fin"]), ("fr", &["fra", "fre"]),
    ("ga", &["gle"]), ("gu", &["guj"]), ("he", &["heb"]), ("hi", &["hin"]), ("hr", &["hrv"]), ("hu", &["hun"]),
    ("hy", &["hye", "arm"]), ("id", &["ind"]), ("is", &["isl", "ice"]), ("it", &["ita"]), ("ja", &["jpn"]),
    ("ka", &["kat", "geo"]), ("kk", &["kaz"]), ("km", &["khm"]), ("kn", &["kan"]), ("ko", &["kor"]),
    ("la", &["lat"]), ("lg", &["lug"]), ("lo", &["lao"]), ("lt", &["lit"]), ("lv", &["lav", "lvs"]),
    ("mi", &["mri", "mao"]), ("mk", &["mkd", "mac"]), ("ml", &["mal"]), ("mn", &["mon", "khk"]), ("mr", &["mar"]),
    ("ms", &["msa", "zsm", "may"]), ("my", &["mya", "bur"]), ("nb", &["nob"]), ("nl", &["nld", "dut"]),
    ("nn", &["nno"]), ("or", &["ori", "ory"]), ("pa", &["pan"]), ("pl", &["pol"]), ("pt", &["por"]),
    ("ro", &["ron", "rum"]), ("ru", &["rus"]), ("si", &["sin"]), ("sk", &["slk", "slo"]), ("sl", &["slv"]),
    ("sn", &["sna"]), ("so", &["som"]), ("sq", &["sqi", "als", "alb"]), ("sr", &["srp"]), ("st", &["sot"]),
    ("sv", &["swe"]), ("sw", &["swa", "swh"]), ("ta", &["tam"]), ("te", &["tel"]), ("th", &["tha"]),
    ("tl", &["tgl"]), ("tn", &["tsn"]), ("tr", &["tur"]), ("ts", &["tso"]), ("uk", &["ukr"]), ("ur", &["urd"]),
    ("vi", &["vie"]), ("xh", &["xho"]), ("yo", &["yor"]), ("zh", &["zho", "cmn", "chi"]), ("zu", &["zul"]),
];

/// The language of a tag such as `de`, `deu`, `deu_Latn` or `de-AT`: its first part in lower case, by ISO 639-1 where
/// the detector knows the language by that, so that what data say and what is detected are one name. Nothing for what
/// is no such tag.
pub fn subtag(tag: &str) -> Option<String> {
    let first = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let plausible = matches!(first.len(), 2 | 3) && first.bytes().all(|byte| byte.is_ascii_lowercase());
    let known = THREE_LETTERS.iter().find(|(_, names)| names.contains(&first.as_str()));
    plausible.then(|| known.map_or(first.clone(), |(code, _)| (*code).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_languages() {
        let check = |tag: &str, expected: Option<&str>| assert_eq!(subtag(tag).as_deref(), expected, "{tag}");
        check("de", Some("de"));
        check("deu_Latn", Some("de"));
        check("EN-us", Some("en"));
        check("swh_Latn", Some("sw"));
        check("yue", Some("yue"));
        for other in ["", "German", "d3", "-de", "日本", "english (UK)"] {
            check(other, None);
        }
    }

    #[test]
    fn every_language_that_is_detected_has_its_names() {
        let mut codes: Vec<_> = THREE_LETTERS.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        assert_eq!(codes, super::super::languages());
        let mut names: Vec<_> = THREE_LETTERS.iter().flat_map(|(_, names)| names.iter()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == all && names.iter().all(|name| name.len() == 3));
    }
}
