//! Documents that were kept and removed, to be read. They are chosen already; here they are laid out and can be searched.

use corpus::funnel::Funnel;
use corpus::steps::Sample;
use corpus::survey::{Excerpt, RemovedBy, Survey};
use corpus::{FunnelStep, RemovedDocument};
use maud::{Markup, html};

use super::text::{language_name, language_tag, line, visible};
use crate::report::facts::readable;
use crate::report::scale::{bytes, count, figures, percent};
use crate::report::shell::Script;

/// Searches among the samples.
pub const SCRIPT: Script =
    Script { text: include_str!("filter.js"), hash: "sha256-LRzunNfFOSK8Ye7o/riDmrsJU/mVPpA4y2XYIDhzDXU=" };

/// What stands over a sample and what it says, taken from whatever kind it is.
struct Card<'a> {
    why: String,
    measured: String,
    from: Vec<String>,
    lang: Option<&'a str>,
    text: &'a str,
    /// Bytes of the whole text, where they are known.
    whole: Option<u64>,
    /// Whether the text is what was cut out of a document that stayed.
    is_part: bool,
}

/// The section's body: a search, what was kept, and what each step removed, at most `most` a step.
pub fn section(survey: &Survey, most: usize) -> Markup {
    let steps = by_step(survey);
    html! {
        form #filter hidden role="search" {
            label.words { "Search in samples" input type="search" autocomplete="off"; }
            label {
                "Kept, or removed by"
                select {
                    option value="" { "all" }
                    option value="kept" { "kept" }
                    @for Removal { step, .. } in &steps { option value=(step) { (readable(step)) } }
                }
            }
            output aria-live="polite" {}
        }
        details open {
            summary {
                "Kept" span.tag { (survey.kept.len()) " of " (count(survey.documents().documents)) ", chosen by a hash" }
            }
            @if survey.kept.is_empty() { p.nothing { "There is no document to show." } }
            div.cards { @for excerpt in &survey.kept { (card("kept", &kept(excerpt))) } }
        }
        @for Removal { step, removed, cards } in &steps {
            @let cards = spread(cards, most);
            details {
                summary {
                    (readable(step))
                    span.tag {
                        (cards.len())
                        @match removed {
                            Some(removed) => { " of " (count(*removed)) " removed" }
                            None => { " of what was cut out" }
                        }
                    }
                }
                div.cards { @for one in cards { (card(step, one)) } }
            }
        }
    }
}

/// What is shown of a step.
struct Removal<'a> {
    step: String,
    /// Documents that it removed, where it did not only cut parts out.
    removed: Option<u64>,
    /// By reason, the most frequent first.
    cards: Vec<Vec<Card<'a>>>,
}

/// The steps in the funnel's order.
fn by_step<'a>(survey: &'a Survey) -> Vec<Removal<'a>> {
    let funnel = survey.funnel.as_ref();
    let account = |name: &str| funnel.and_then(|funnel| funnel.steps.iter().find(|step| step.name == name));
    let Some(removed) = &survey.removed else {
        let steps =
            funnel.into_iter().flat_map(|funnel| &funnel.steps).filter(|step| !step.samples.is_empty());
        let removal = |step: &'a FunnelStep| Removal {
            step: step.name.clone(),
            removed: Some(gone(step)),
            cards: from_account(step),
        };
        return steps.map(removal).collect();
    };
    let mut steps: Vec<&RemovedBy> = removed.iter().collect();
    steps.sort_by_key(|by| place(funnel, &by.step));
    steps
        .into_iter()
        .map(|by| {
            let account = account(&by.step);
            let often =
                |reason: &str| account.and_then(|step| step.removed.get(reason)).copied().unwrap_or(0);
            let mut reasons: Vec<_> = by.reasons.iter().collect();
            reasons.sort_by_key(|(name, reason)| (std::cmp::Reverse(often(name).max(reason.listed)), *name));
            let cards =
                reasons.into_iter().map(|(_, reason)| reason.samples.iter().map(removed_card).collect());
            Removal {
                step: by.step.clone(),
                removed: account.map(gone).filter(|gone| *gone > 0),
                cards: cards.collect(),
            }
        })
        .collect()
}

/// Where a step stands in the funnel; after all others if it does not.
fn place(funnel: Option<&Funnel>, name: &str) -> usize {
    let steps = funnel.map_or(&[][..], |funnel| &funnel.steps);
    steps.iter().position(|step| step.name == name).unwrap_or(usize::MAX)
}

fn gone(step: &FunnelStep) -> u64 {
    step.documents_in.saturating_sub(step.documents_out)
}

/// One of each reason in turn, so that every reason is seen, until there are enough.
fn spread<'c, 'a>(reasons: &'c [Vec<Card<'a>>], most: usize) -> Vec<&'c Card<'a>> {
    let longest = reasons.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| reasons.iter().filter_map(move |cards| cards.get(turn))).take(most).collect()
}

fn kept(excerpt: &Excerpt) -> Card<'_> {
    let numbers = excerpt
        .numbers
        .iter()
        .map(|(name, value)| format!("{} {}", readable(&line(name, 40)), figures(*value)));
    let language = excerpt.lang.as_deref().map_or_else(|| "no language".to_owned(), language_name);
    let held_out = excerpt.held_out.then(|| "held out".to_owned());
    let date = excerpt.date.as_deref().map(|date| line(date, 40));
    Card {
        why: language,
        measured: held_out.into_iter().chain(numbers).collect::<Vec<_>>().join(" · "),
        from: from(excerpt.url.as_deref(), &excerpt.source, date),
        lang: language_tag(excerpt.lang.as_deref()),
        text: &excerpt.text,
        whole: Some(excerpt.bytes),
        is_part: false,
    }
}

fn removed_card(document: &RemovedDocument) -> Card<'_> {
    let value = document.value.map(|value| format!("measured {}", figures(value)));
    let limit = document.limit.map(|limit| match document.value {
        Some(value) if value < limit => format!("at least {}", figures(limit)),
        Some(value) if value > limit => format!("at most {}", figures(limit)),
        _ => format!("bound {}", figures(limit)),
    });
    let stays = document.duplicate_of.as_ref().map(|id| format!("{} stays", readable(&line(id, 40))));
    let language = document.lang.as_deref().map(language_name);
    Card {
        why: readable(&line(&document.reason, 80)),
        measured: value.into_iter().chain(limit).chain(stays).chain(language).collect::<Vec<_>>().join(" · "),
        from: from(document.url.as_deref(), &document.source, None),
        lang: language_tag(document.lang.as_deref()),
        text: document.part.as_deref().or(document.text.as_deref()).unwrap_or_default(),
        whole: document.part.is_none().then_some(document.bytes),
        is_part: document.part.is_some(),
    }
}

/// What the account alone has: the beginnings of a few.
fn from_account(step: &FunnelStep) -> Vec<Vec<Card<'_>>> {
    let mut reasons: Vec<(&String, &u64)> = step.removed.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let cards = |(reason, _): (&String, &u64)| {
        let samples = step.samples.iter().filter(|sample| sample.reason == *reason);
        samples.map(account_card).collect()
    };
    reasons.into_iter().map(cards).collect()
}

fn account_card(sample: &Sample) -> Card<'_> {
    Card {
        why: readable(&line(&sample.reason, 80)),
        measured: String::new(),
        from: from(None, &sample.source, None),
        lang: None,
        text: &sample.excerpt,
        whole: None,
        is_part: false,
    }
}

fn from(url: Option<&str>, source: &str, date: Option<String>) -> Vec<String> {
    let url = url.map(|url| line(url, 200));
    [url, Some(line(source, 200)), date].into_iter().flatten().filter(|text| !text.is_empty()).collect()
}

fn card(step: &str, card: &Card) -> Markup {
    let kept = if step == "kept" { "card sample kept" } else { "card sample gone" };
    let shown = card.text.len() as u64;
    html! {
        article class=(kept) data-step=(step) {
            p.why { bdi { (card.why) } @if !card.measured.is_empty() { span { bdi { (card.measured) } } } }
            p.from { @for part in &card.from { bdi { (part) } br; } }
            @if card.is_part { p.more { "cut out of a document that stayed:" } }
            @if card.text.is_empty() {
                p.nothing { "Its text was not written." }
            } @else {
                // Long texts scroll, and what scrolls must be reached by the keyboard.
                div.text dir="auto" lang=[card.lang] tabindex="0" role="group" aria-label="text" { (visible(card.text)) }
            }
            @if let Some(whole) = card.whole.filter(|whole| *whole > shown && shown > 0) {
                p.more { "the first " (percent(shown as f64 / whole as f64)) " of " (bytes(whole)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_knows_the_script() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(SCRIPT.text.as_bytes()));
        assert_eq!(SCRIPT.hash, format!("sha256-{hash}"));
        assert!(!SCRIPT.text.contains("</script") && !SCRIPT.text.contains("<!--"));
    }

    #[test]
    fn every_reason_has_its_turn() {
        let of = |why: &str, times: usize| -> Vec<Card<'static>> {
            let card = || Card {
                why: why.to_owned(),
                measured: String::new(),
                from: Vec::new(),
                lang: None,
                text: "",
                whole: None,
                is_part: false,
            };
            (0..times).map(|_| card()).collect()
        };
        let reasons = [of("a", 5), of("b", 1), of("c", 2)];
        let order = |most| spread(&reasons, most).iter().map(|card| card.why.as_str()).collect::<String>();
        assert_eq!(order(5), "abcac");
        assert_eq!(order(100), "abcacaaa");
        assert_eq!(order(0), "");
    }

    #[test]
    fn hostile_texts_stay_texts() {
        let document = RemovedDocument {
            reason: "<b>".into(),
            paper: String::new(),
            value: Some(0.5),
            limit: Some(0.25),
            id: "1".into(),
            source: "a\u{202e}b.html".into(),
            url: Some("javascript:alert('x')\" onclick=\"x".into()),
            lang: Some("en\" onload=\"x".into()),
            bytes: 1000,
            text: Some("</div></script><script>alert(1)</script>\0&amp;<!--".into()),
            part: None,
            duplicate_of: Some("<i>1".into()),
        };
        let html = card("url", &removed_card(&document)).into_string();
        for markup in
            ["<script", "</script", "<b>", "<i>", "<!--", "\0", "\u{202e}", "onclick=\"", "onload=\"", "href"]
        {
            assert!(!html.contains(markup), "{markup:?} in {html}");
        }
        for wanted in
            ["&lt;/script&gt;", "␀", "[U+202E]", "measured 0.5 · at most 0.25", "&amp;amp;", "of 1 kB"]
        {
            assert!(html.contains(wanted), "{wanted} is missing in {html}");
        }
    }
}
