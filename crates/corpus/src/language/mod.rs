//! The natural language of a text: by its script where that is enough, else by how likely its three-letter runs
//! are in each language that uses the script, and the names that data sets give languages. It knows nothing of batches.

mod model;
mod script;
mod tags;

pub use model::{Model, languages};
pub use tags::subtag;

/// A language and how sure the detector is of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detected {
    /// ISO 639-1, or 639-3 where that has none.
    pub language: &'static str,
    /// 0 to 1: the language's share of the likelihood, tempered because letters of a word are not independent,
    /// times the share of the text's letters that are of its script.
    pub score: f64,
}

/// The language of a text, or nothing for a text without letters of a known script.
pub fn detect(text: &str) -> Option<Detected> {
    Model::get().detect(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_are_recognised() {
        let check = |expected: &str, text: &str| {
            let found = detect(text).unwrap();
            assert_eq!(found.language, expected, "{text}: {}", found.score);
            assert!(found.score > 0.5 && found.score <= 1.0, "{text}: {}", found.score);
        };
        check("en", "The library is open on every day of the week, and nobody has to pay to enter it.");
        check("de", "Die Bibliothek ist an jedem Tag der Woche geöffnet, und niemand muss dafür bezahlen.");
        check("fr", "La bibliothèque est ouverte tous les jours de la semaine et l'entrée est gratuite.");
        check(
            "es",
            "La biblioteca está abierta todos los días de la semana y nadie tiene que pagar por entrar.",
        );
        check("pt", "A biblioteca está aberta todos os dias da semana e ninguém precisa pagar para entrar.");
        check("sv", "Biblioteket är öppet alla dagar i veckan och ingen behöver betala för att komma in.");
        check(
            "da",
            "Biblioteket er åbent alle ugens dage, og ingen skal betale for at komme ind i bygningen.",
        );
        check(
            "tr",
            "Kütüphane haftanın her günü açıktır ve içeri girmek için kimsenin para ödemesi gerekmez.",
        );
        check("vi", "Thư viện mở cửa tất cả các ngày trong tuần và không ai phải trả tiền để vào.");
        check("ru", "Библиотека открыта каждый день недели, и никому не нужно платить за вход.");
        check("uk", "Бібліотека відкрита щодня, і нікому не потрібно платити за вхід.");
        check("ar", "المكتبة مفتوحة كل أيام الأسبوع ولا يحتاج أحد إلى الدفع للدخول إليها.");
        check("fa", "کتابخانه همه روزهای هفته باز است و هیچ‌کس برای ورود به آن پول نمی‌دهد.");
        check("hi", "पुस्तकालय सप्ताह के हर दिन खुला रहता है और किसी को प्रवेश के लिए पैसे नहीं देने पड़ते।");
        check("zh", "图书馆每天都开放，任何人都不必为进入而付钱。");
        check("ja", "図書館は毎日開いていて、入るのに誰もお金を払う必要はありません。");
        check("ko", "도서관은 매일 열려 있으며 아무도 입장료를 낼 필요가 없습니다.");
        check("el", "Η βιβλιοθήκη είναι ανοιχτή κάθε μέρα και κανείς δεν πληρώνει για να μπει.");
        assert_eq!(detect("12345 67890 -- ++ … 🦙"), None);
        assert_eq!(detect(""), None);
    }

    #[test]
    fn a_script_counts_by_what_its_letters_say() {
        let check = |expected: &str, text: &str| {
            assert_eq!(detect(text).map(|found| found.language), Some(expected), "{text}")
        };
        check("zh", "使用 Docker 部署应用程序非常简单");
        check("ja", "日本銀行券の発行");
        check("ru", "Это API для JSON, и он работает через HTTP");
        let mixed =
            detect("Das ist ein Satz auf Deutsch. Это предложение на русском языке, и оно длиннее.").unwrap();
        assert!(mixed.language == "ru" && mixed.score < 0.8, "{mixed:?}");
    }

    #[test]
    fn languages_are_known_by_one_code() {
        let all = languages();
        assert!(all.len() >= 80, "{}", all.len());
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(all.iter().all(|code| code.len() == 2 || code.len() == 3));
        for code in ["en", "de", "nb", "nn", "zh", "ja", "ko", "sw", "sr", "hr", "bs", "mk", "th", "te", "ka"]
        {
            assert!(all.contains(&code), "{code}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_at_most_one_language(text in "\\PC{0,200}") {
            if let Some(found) = detect(&text) {
                prop_assert!(languages().contains(&found.language));
                prop_assert!(found.score > 0.0 && found.score <= 1.0);
            }
        }
    }
}
