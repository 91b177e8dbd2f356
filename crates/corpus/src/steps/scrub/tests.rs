//! What is found, and what only looks like it.

use super::*;
use crate::kind::{Class, Kind, TEXT};

fn scrub() -> Scrub {
    Scrub::new(&settings::Scrub::default())
}

#[test]
fn numbers_of_persons_are_replaced() {
    let scrub = scrub();
    let check = |text: &str, expected: &str| assert_eq!(scrub.scrub(text, TEXT.class).0, expected, "{text}");
    // Telephone numbers.
    check("call +49 221 470-0123 now", "call <PHONE_NUMBER> now");
    check("Tel.: +49 (0)221 / 470-0123.", "Tel.: <PHONE_NUMBER>.");
    check("(+1 (212) 345-6789)", "(<PHONE_NUMBER>)");
    check("+12123456789", "<PHONE_NUMBER>");
    check("office (212) 345-6789, home 212.345.6780", "office <PHONE_NUMBER>, home <PHONE_NUMBER>");
    check("1-212-345-6789 24 hours a day", "<PHONE_NUMBER> 24 hours a day");
    check("au 01 23 45 67 89.", "au <PHONE_NUMBER>.");
    check("Téléphone : 0123456789", "Téléphone : <PHONE_NUMBER>");
    check("Rufnummer 0221/4700123", "Rufnummer <PHONE_NUMBER>");
    check("Phone number is 555 867 5309", "Phone number is <PHONE_NUMBER>");
    check("тел. 8 (495) 123-45-67", "тел. <PHONE_NUMBER>");
    check("电话：010-62751234", "电话：<PHONE_NUMBER>");
    check("Fax: 212 345 6789\nTel: 212 345 6780", "Fax: <PHONE_NUMBER>\nTel: <PHONE_NUMBER>");
    // Payment cards.
    check("card 4539 1488 0343 6467 exp 12/27", "card <CREDIT_CARD> exp 12/27");
    check("card 4539 1488 0343 6467 12/27", "card <CREDIT_CARD> 12/27");
    check("4539-1488-0343-6467", "<CREDIT_CARD>");
    check("3787 344936 71000 and 4539148803436467", "<CREDIT_CARD> and <CREDIT_CARD>");
    // Bank accounts.
    check("IBAN: DE89 3704 0044 0532 0130 00, thank you", "IBAN: <IBAN>, thank you");
    check("GB82WEST12345698765432", "<IBAN>");
    // Personal numbers.
    check("CPF 529.982.247-25.", "CPF <NATIONAL_ID>.");
    check("no. 85.07.30-033.28", "no. <NATIONAL_ID>");
    check("号码11010519491231002X。", "号码11010519491231002X。");
    check("号码 11010519491231002X。", "号码 <NATIONAL_ID>。");
    check("2 55 08 14 168 025 38", "<NATIONAL_ID>");
    check("hetu 131052-308T", "hetu <NATIONAL_ID>");
    check("CF: RSSMRA85T10A562S", "CF: <NATIONAL_ID>");
    check("SSN: 536-90-4399", "SSN: <NATIONAL_ID>");
    let (_, counts) = scrub.scrub("+1 212 345 6789 or GB82WEST12345698765432", TEXT.class);
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("ibans", 1), ("phone_numbers", 1)]);
}

#[test]
fn what_only_looks_like_them_stays() {
    let scrub = scrub();
    for kept in [
        "version 2.10.4-17, released 2024-12-01 12:34:56",
        "on 01.02.2024 and 1.2.24, 12/31/1999, 2015-2016, 1999-2000",
        "call by 2024-12-01 or mobile 2015-2016",
        "Phone 16 costs 1,299.00 and tel aviv has 460,613 people",
        "a telefon GSM 900/1800, mobile 100000",
        "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, ISSN 2049-3630",
        "9783161484100 4006381333931",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "commit 1234567890123456789012345678901234567890",
        "arXiv:2407.21783, doi 10.1000/182, RFC 8259, 3.141592653589793",
        "+100 000 000 people, +0200, GMT+1 2024, C++11 200000000",
        "(212) 555-0123 and +1 212 555 0199",
        "4111 1111 1111 1111, 4539 1488 0343 6468, 1234 5678 9012 3456",
        "a population of 1 234 567 890 in 2 345 678 places",
        "the numbers 01 02 03 04 05 06 07 08",
        "https://example.org/4539148803436467 and www.example.org/x?1-212-345-6789",
        "id_212-345-6789 x212-345-6789 212-345-67890 212-345-6789-1",
        "$212-345-6789 part no. 112-345-6789",
        "DE89 3704 0044 0532 0130 01 and DE89 3704 0044",
        "529.982.247-26, 85.07.30-033.29, 131052-308A, 536-90-4399",
        "110105194912310021 and 255081416802538123",
        "lat 40.712776, long -74.005974; 10.0.0.1/8; 127.0.0.1",
        "matrix 12 34 56 78 90 12 34 56",
        "1111 1111 1111 1111 1111 1111",
        "score 3-2, 6-4 6-3 7-6, 10:30-11:45",
    ] {
        assert_eq!(scrub.scrub(kept, TEXT.class).0, kept);
    }
    let code = "let a = (212) 345-6789; // +49 221 470-0123 and 91.198.174.192";
    let class = Kind::of_label("rust").unwrap().class;
    assert_eq!(scrub.scrub(code, class).0, code.replace("91.198.174.192", "<IP_ADDRESS>"));
}

#[test]
fn every_kind_has_its_switch() {
    let text =
        "a@b.de 91.198.174.192 +1 212 345 6789, 4539 1488 0343 6467, GB82WEST12345698765432, 529.982.247-25";
    let off = settings::Scrub {
        emails: false,
        ip_addresses: false,
        secrets: false,
        phone_numbers: false,
        credit_cards: false,
        ibans: false,
        national_ids: false,
    };
    assert_eq!(Scrub::new(&off).scrub(text, Class::Web).0, text);
    type Switch = fn(&mut settings::Scrub) -> &mut bool;
    let switches: [(&str, Switch); 6] = [
        ("emails", |s| &mut s.emails),
        ("ip_addresses", |s| &mut s.ip_addresses),
        ("phone_numbers", |s| &mut s.phone_numbers),
        ("credit_cards", |s| &mut s.credit_cards),
        ("ibans", |s| &mut s.ibans),
        ("national_ids", |s| &mut s.national_ids),
    ];
    for (name, switch) in switches {
        let mut alone = off.clone();
        *switch(&mut alone) = true;
        let counts = Scrub::new(&alone).scrub(text, Class::Web).1;
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(name, 1)]);
    }
}

/// All patterns over the whole text, one after the other, as nothing was left out for speed.
fn plain_patterns(scrub: &Scrub, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for form in &scrub.forms {
        for range in form.pattern.find_iter(text).map(|m| m.range()) {
            if (form.accept)(text, &text[range.clone()], range.start) {
                found.push(Finding { range, name: form.name, placeholder: form.placeholder });
            }
        }
    }
    found
}

fn plain_quads(text: &str) -> Vec<Range<usize>> {
    let quads = Regex::new(r"\d{1,3}(?:\.\d{1,3}){3}").unwrap();
    quads.find_iter(text).filter(|m| is_public_ipv4(text, m.as_str(), m.start())).map(|m| m.range()).collect()
}

proptest::proptest! {
    #[test]
    fn nothing_breaks_the_scrub(text in "\\PC{0,60}|[0-9a-fA-F:.+() /@+A-Zé-]{0,60}") {
        let scrub = scrub();
        scrub.scrub(&text, Class::Web);
        proptest::prop_assert_eq!(scrub.with_patterns(&text), plain_patterns(&scrub, &text));
        let found: Vec<Range<usize>> = ipv6_addresses(&text).into_iter().map(|f| f.range).collect();
        let plain: Vec<Range<usize>> =
            IPV6.find_iter(&text).filter(|m| is_public_ipv6(&text, m.as_str(), m.start())).map(|m| m.range()).collect();
        proptest::prop_assert_eq!(found, plain);
    }

    #[test]
    fn addresses_are_those_that_the_pattern_finds(text in "([0-9]{1,3}[. x]){0,12}") {
        let only = settings::Scrub { ip_addresses: true, ..settings::Scrub::default() };
        let mut found = Vec::new();
        numbers::find(&text, &only, false, &mut found);
        let found: Vec<Range<usize>> = found.into_iter().map(|f| f.range).collect();
        proptest::prop_assert_eq!(found, plain_quads(&text));
    }
}
