//! What an element's class and id say of it. Sites name their parts alike; the words are those that Mozilla's
//! Readability and trafilatura look for, and a few more.

use std::sync::LazyLock;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::tree::Node;

/// What the names of an element promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// Navigation, comments, advertisement and the like; not believed of what `maybe` is said of too.
    pub unlikely: bool,
    /// May hold the article whatever else its names say.
    pub maybe: bool,
    /// Words that articles carry (+25) less words that others carry (−25).
    pub weight: i32,
    /// Never a part of an article's text, wherever it stands: shares, newsletters, related links, bylines.
    pub aside: bool,
    /// What stands under a picture, or around it.
    pub caption: bool,
    /// Says that it is the article's text.
    pub body: bool,
}

macro_rules! words {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a valid pattern"));
    };
}

words!(
    UNLIKELY,
    "-ad-|ai2html|banner|breadcrumb|combx|comment|community|cover-wrap|disqus|extra|footer|gdpr|header|legends|menu\
     |related|remark|replies|rss|shoutbox|sidebar|skyscraper|social|sponsor|supplemental|ad-break|agegate|pagination\
     |pager|popup|yom-remote|cookie|consent|newsletter|outbrain|taboola|navbar|navigation"
);
words!(MAYBE, "and|article|body|column|content|main|mathjax|shadow");
words!(POSITIVE, "article|body|content|entry|hentry|h-entry|main|page|pagination|post|text|blog|story");
words!(
    NEGATIVE,
    "-ad-|hidden|^hid$| hid$| hid |^hid |banner|combx|comment|com-|contact|footer|gdpr|masthead|media|meta|outbrain\
     |promo|related|scroll|share|shoutbox|sidebar|skyscraper|sponsor|shopping|tags|widget"
);
// Whole words (the ends of the text are blanks, camelCase is undone).
words!(
    ASIDE,
    r"(?x) [^a-z](
        share | shares | sharing | sharedaddy | share-?(bar|buttons?|links?|tools?|box|icons?) | addthis | addtoany | socials?
        | social-?(media|links?|icons?|share|bar|buttons?|tools?|sharing|follow) | sociallinks | byline | bylines | dateline | timestamp
        | post-?(meta|date|tags|info|nav|navigation|author|footer|share|categories) | entry-?(meta|date|tags|info|utility|footer)
        | article-?(meta|date|tags|info|share|footer|author|tools|byline|details|actions?|toolbar)
        | meta-?(info|data|wrap(per)?) | pub(lish(ed)?)?-?date | author-?(info|bio|box|name|card|block|details|profile|description|image|byline|wrap|meta) | about-?(the-?)?author
        | breadcrumbs? | newsletters? | newsletter-?(signup|form|box|promo) | subscribe | subscription | signup | sign-up | promo | promos | promotion | promoted
        | related | related-?(posts?|articles?|stories|links?|content|topics?|items?|news|coverage|reads?|widget|video|tags|story|article)
        | relatedposts? | see-?also | read-?(more|next|also) | readmore | recommended | recommendations? | recirc | recirculation
        | more-?(stories|news|from|on|articles|posts|links|coverage|like-this) | most-?(popular|read|viewed|recent|shared) | popular-?(posts|stories) | trending | you-?may-?(also-?)?like | dont-?miss
        | inline-?(related|promo|newsletter|ad) | jp-?relatedposts | jp-post-flair | outbrain | taboola | revcontent | zergnet | criteo
        | ad | ads | advert | adverts | advertisement | advertising | ad-?(container|wrapper|slot|unit|label|box|block|placeholder) | adsbygoogle | dfp | sponsor | sponsored | sponsors
        | comments? | comment-?(list|form|section|area|respond|reply|count|link|thread|body) | disqus | disqus-?thread | respond | livefyre
        | pagination | pager | paginator | prev-?next | next-?prev | post-?navigation
        | tags? | tag-?(list|links|cloud) | taglist | tagcloud | topics? | keywords | categories | cat-links
        | toolbar | tools | print-?(only|link) | sr-only | screen-?reader-?text | visually-?hidden | skip-?link | no-?print | hide-?print
        | cookie | cookies | gdpr | consent | login | popup | modal | overlay | lightbox | tooltip
        | widget | widgets | sidebar | rail | masthead | navbar | menu | nav | navigation | subnav | toc-?toggle | mw-editsection | editsection
        | rating | ratings | star-rating | votes? | reactions? | polls? | correction-?link | feedback | copyright | disclaimer | disclosure | slideshow | carousel | gallery
        | infobox-?share | kicker | eyebrow | slug | credits? | source-?org | republish | donate | donation | bottom-?(links|bar)
    )[^a-z]"
);
words!(
    CAPTION,
    r"(?x) [^a-z](
        captions? | wp-caption(-text)? | image-?(caption|credit|copyright|description|source|info|meta|title|wrap(per)?|container|block) | photo-?(caption|credit|info|wrap|by|source)
        | img-?(caption|credit|desc|title) | media-?(caption|credit|desc|info|placeholder|landscape|with-label) | picture-?(caption|credit) | figcaption | cutline | photographer | copyright-?holder
        | gallery-?caption | video-?(caption|title|desc|description|player|container|wrapper|block|embed|info) | legend | thumbcaption | credit | story-image-copyright | pic-?(caption|credit)
    )[^a-z]"
);
words!(
    BODY,
    r"(?x) [^a-z](
        article-?(body|content|text|main|copy|inner) | articlebody | articletext | articlecontent | entry-?content | post-?(content|body|text|entry) | postcontent | postbody
        | story-?(body|content|text|copy) | storybody | storytext | storycontent | body-?(copy|text|content) | bodytext | body-?content | news-?(body|text|content) | main-?(content|text|article)
        | content-?(body|article|text) | page-?content | field-name-body | blog-?(content|post-?content|body) | single-?(content|post-?content) | mw-parser-output | markdown-body | theme-doc-markdown
    )[^a-z]"
);

/// Names that are read on one page. Ordinary pages have some hundreds; 150,000 of them took ten seconds.
const MAX_NAMES: usize = 5000;

/// Labels by the names that carry them: a page repeats few of them.
#[derive(Default)]
pub(super) struct Labels {
    known: FxHashMap<String, Label>,
}

impl Labels {
    pub fn of(&mut self, node: &Node) -> Label {
        let (class, id) = (node.attribute("class").unwrap_or(""), node.attribute("id").unwrap_or(""));
        if class.is_empty() && id.is_empty() {
            return Label::default();
        }
        let names = format!("{class} {id}");
        // No honest name is so long, and patterns need not read what is not one.
        let names = &names[..names.floor_char_boundary(500)];
        if let Some(label) = self.known.get(names) {
            return *label;
        }
        if self.known.len() >= MAX_NAMES {
            return Label::default();
        }
        let label = read(class, id, names);
        self.known.insert(names.to_string(), label);
        label
    }
}

fn read(class: &str, id: &str, names: &str) -> Label {
    let lower = names.to_ascii_lowercase();
    let mut weight = 0;
    for name in [class, id] {
        let name = name[..name.floor_char_boundary(500)].to_ascii_lowercase();
        if name.is_empty() {
            continue;
        }
        weight -= 25 * i32::from(NEGATIVE.is_match(&name));
        weight += 25 * i32::from(POSITIVE.is_match(&name));
    }
    let words = separate(names);
    Label {
        unlikely: UNLIKELY.is_match(&lower),
        maybe: MAYBE.is_match(&lower),
        weight,
        aside: ASIDE.is_match(&words),
        caption: CAPTION.is_match(&words),
        body: BODY.is_match(&words),
    }
}

/// `postMeta main_text` as ` post-meta  main-text `: each name between two blanks, so that patterns find both
/// ends of a word.
fn separate(names: &str) -> String {
    let mut out = String::with_capacity(names.len() + 8);
    out.push(' ');
    let mut previous = ' ';
    for character in names.chars() {
        match character {
            c if c.is_ascii_uppercase() => {
                if previous.is_ascii_lowercase() {
                    out.push('-');
                }
                out.push(c.to_ascii_lowercase());
            }
            c if c.is_ascii_alphanumeric() => out.push(c),
            c if c.is_whitespace() => out.push_str("  "),
            _ => out.push('-'),
        }
        previous = character;
    }
    out.push(' ');
    out
}
