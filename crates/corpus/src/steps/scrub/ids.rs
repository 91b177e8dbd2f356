//! Numbers with check digits: payment cards, bank accounts and the personal numbers of some states. Each function says
//! whether digits are such a number; where they stand in a text and what surrounds them is [`super::numbers`]' to see.

/// Luhn's check (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            let value = u32::from(digit) << (place % 2);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, &digit| number * 10 + u64::from(digit))
}

/// Whether digits have an issuer's prefix and length and pass Luhn's check. Numbers that card networks publish for tests
/// are nobody's.
pub(super) fn is_card(digits: &[u8]) -> bool {
    if digits.len() < 14 || digits.iter().all(|digit| *digit == digits[0]) {
        return false;
    }
    let four = number(&digits[..4]);
    let length = digits.len();
    let issuer = match four {
        4000..=4999 => matches!(length, 16 | 19),
        5100..=5599 | 2221..=2720 => length == 16,
        3400..=3499 | 3700..=3799 => length == 15,
        6011 | 6440..=6499 | 6500..=6599 => matches!(length, 16 | 19),
        3000..=3059 | 3600..=3699 | 3800..=3999 => length == 14,
        3528..=3589 => length == 16,
        6200..=6299 => matches!(length, 16 | 19),
        _ => false,
    };
    const TESTS: [u64; 8] = [
        4111_1111_1111_1111,
        4242_4242_4242_4242,
        4012_8888_8888_1881,
        5555_5555_5555_4444,
        5105_1051_0510_5100,
        378_282_246_310_005,
        371_449_635_398_431,
        6011_1111_1111_1117,
    ];
    issuer && luhn(digits) && !TESTS.contains(&number(digits))
}

/// Lengths of bank account numbers by country (ISO 13616, the register of 2024).
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Where the account number that begins here ends: a country, its length, letters and digits, in groups of four or
/// without blanks, and right check digits (ISO 7064, MOD 97-10).
pub(super) fn iban_end(text: &[u8]) -> Option<usize> {
    let country = text.first_chunk::<2>()?;
    let length = IBAN_LENGTHS.iter().find(|(code, _)| *code == country)?.1;
    let mut characters = Vec::with_capacity(length);
    let mut at = 0;
    while characters.len() < length {
        match text.get(at)? {
            byte if byte.is_ascii_uppercase() || byte.is_ascii_digit() => characters.push(*byte),
            b' ' if characters.len() % 4 == 0 && text.get(at - 1) != Some(&b' ') => {}
            _ => return None,
        }
        at += 1;
    }
    if text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric())
        || !characters[2..4].iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    characters.rotate_left(4);
    let rest = characters.iter().fold(0u32, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (rest == 1).then_some(at)
}

fn is_date(month: u64, day: u64) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Brazil's CPF: two check digits modulo 11.
pub(super) fn is_cpf(digits: &[u8]) -> bool {
    let check = |count: usize| {
        let sum: usize =
            digits[..count].iter().enumerate().map(|(i, &d)| (count + 1 - i) * usize::from(d)).sum();
        let rest = sum * 10 % 11 % 10;
        rest == usize::from(digits[count])
    };
    digits.len() == 11 && !digits.iter().all(|digit| *digit == digits[0]) && check(9) && check(10)
}

/// Belgium's national number: a date, a serial number and 97 less the rest by 97.
pub(super) fn is_belgian(digits: &[u8]) -> bool {
    if digits.len() != 11 || !is_date(number(&digits[2..4]), number(&digits[4..6])) {
        return false;
    }
    let (nine, check) = (number(&digits[..9]), number(&digits[9..]));
    check == 97 - nine % 97 || check == 97 - (2_000_000_000 + nine) % 97
}

/// Korea's resident registration number: a date, the century and sex, and a check digit modulo 11.
pub(super) fn is_korean(digits: &[u8]) -> bool {
    if digits.len() != 13
        || !is_date(number(&digits[2..4]), number(&digits[4..6]))
        || !(1..=8).contains(&digits[6])
    {
        return false;
    }
    let weights = [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5];
    let sum: u32 = digits.iter().zip(weights).map(|(&digit, weight)| u32::from(digit) * weight).sum();
    (11 - sum % 11) % 10 == u32::from(digits[12])
}

/// China's identity number (GB 11643): a region, a date, a serial number and a check digit of which 10 is `X`.
pub(super) fn is_chinese(seventeen: &[u8], check: u8) -> bool {
    if seventeen.len() != 17 || !(11..=82).contains(&number(&seventeen[..2])) {
        return false;
    }
    let year = number(&seventeen[6..10]);
    if !(1900..2100).contains(&year) || !is_date(number(&seventeen[10..12]), number(&seventeen[12..14])) {
        return false;
    }
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = seventeen.iter().zip(weights).map(|(&digit, weight)| u32::from(digit) * weight).sum();
    b"10X98765432"[(sum % 11) as usize] == check
}

/// France's NIR: sex, year, month, place, serial number, and a key of 97 less the rest by 97.
pub(super) fn is_french(digits: &[u8]) -> bool {
    digits.len() == 15
        && matches!(digits[0], 1 | 2)
        && matches!(number(&digits[3..5]), 1..=12 | 20 | 30..=42 | 50..=99)
        && number(&digits[13..]) == 97 - number(&digits[..13]) % 97
}

/// Finland's personal identity code after its date: `131052-308T`. The separator tells the century.
pub(super) fn is_finnish(date: &[u8], separator: u8, serial: &[u8], check: u8) -> bool {
    let (day, month) = (number(&date[..2]), number(&date[2..4]));
    b"+-ABCDEFUVWXY".contains(&separator)
        && is_date(month, day)
        && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[((number(date) * 1000 + number(serial)) % 31) as usize] == check
}

/// Italy's codice fiscale: sixteen letters and digits of which the last checks the others.
pub(super) fn is_italian(code: &[u8]) -> bool {
    const FORM: &[u8; 16] = b"AAAAAA00A00A000A";
    /// Values of 0 to 9 and A to Z at odd places.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let fits = |(&byte, &form): (&u8, &u8)| {
        if form == b'A' { byte.is_ascii_uppercase() } else { byte.is_ascii_digit() }
    };
    if code.len() != 16 || !code.iter().zip(FORM).all(fits) || !b"ABCDEHLMPRST".contains(&code[8]) {
        return false;
    }
    let value = |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let odd = |byte: u8| ODD[value(byte) as usize];
    let sum: u32 = code[..15]
        .iter()
        .enumerate()
        .map(|(place, &byte)| if place % 2 == 0 { odd(byte) } else { value(byte) })
        .sum();
    u32::from(code[15] - b'A') == sum % 26
}

/// The United States' social security number, which checks nothing: the ranges that were given out.
pub(super) fn is_social_security(digits: &[u8]) -> bool {
    if digits.len() != 9 {
        return false;
    }
    let parts = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    !matches!(parts, (0 | 666 | 900.., _, _) | (_, 0, _) | (_, _, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    /// How many of the ten last digits a number may have.
    fn right_last_digits(text: &str, is: impl Fn(&[u8]) -> bool) -> usize {
        let mut digits = digits(text);
        let last = digits.len() - 1;
        (0..10)
            .filter(|&digit| {
                digits[last] = digit;
                is(&digits)
            })
            .count()
    }

    #[test]
    fn check_digits_are_checked() {
        assert!(is_card(&digits("4539 1488 0343 6467")) && is_card(&digits("378734493671000")));
        assert!(!is_card(&digits("4539 1488 0343 6468")) && !is_card(&digits("4111 1111 1111 1111")));
        assert_eq!(right_last_digits("4539 1488 0343 6467", is_card), 1);
        assert!(is_cpf(&digits("529.982.247-25")) && !is_cpf(&digits("111.111.111-11")));
        assert_eq!(right_last_digits("529.982.247-25", is_cpf), 1);
        assert!(is_belgian(&digits("85.07.30-033.28")));
        assert_eq!(right_last_digits("85.07.30-033.28", is_belgian), 1);
        assert!(is_chinese(&digits("11010519491231002"), b'X'));
        assert!(!is_chinese(&digits("11010519491231002"), b'1'));
        assert!(is_french(&digits("2 55 08 14 168 025 38")));
        assert_eq!(right_last_digits("2 55 08 14 168 025 38", is_french), 1);
        assert!(is_finnish(&digits("131052"), b'-', &digits("308"), b'T'));
        assert!(!is_finnish(&digits("131052"), b'-', &digits("309"), b'T'));
        assert!(is_italian(b"RSSMRA85T10A562S") && !is_italian(b"RSSMRA85T10A562T"));
        assert_eq!(right_last_digits("9001011234560", is_korean), 1);
        assert!(is_social_security(&digits("536-90-4399")) && !is_social_security(&digits("000-12-3456")));
    }

    #[test]
    fn bank_accounts_end_where_their_country_says() {
        let end = |text: &str| iban_end(text.as_bytes());
        assert_eq!(end("DE89 3704 0044 0532 0130 00."), Some(27));
        assert_eq!(end("GB82WEST12345698765432"), Some(22));
        assert_eq!(end("DE89 3704 0044 0532 0130 01"), None);
        assert_eq!(end("DE89 3704 0044 0532 0130 0"), None);
        assert_eq!(end("DE893704004405320130001"), None);
        assert_eq!(end("ZZ89 3704"), None);
        assert_eq!(end("DE"), None);
        for (country, length) in IBAN_LENGTHS {
            assert!(country.iter().all(u8::is_ascii_uppercase) && (15..=34).contains(length));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_the_checks(bytes in proptest::collection::vec(0u8..10, 0..40), text in "[A-Z0-9 é]{0,40}") {
            is_card(&bytes);
            is_cpf(&bytes);
            is_belgian(&bytes);
            is_korean(&bytes);
            is_chinese(&bytes, b'0');
            is_french(&bytes);
            is_social_security(&bytes);
            iban_end(text.as_bytes());
            is_italian(text.as_bytes());
        }
    }
}
