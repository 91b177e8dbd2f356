//! Small pages, one for each kind of structure and of clutter, and hostile ones.

use proptest::prelude::*;

use super::*;

const SENTENCE: &str =
    "The river rose through the night, and by the morning the lower fields were under water. ";

/// A page around an article's inside, with the clutter that every site has.
fn page(inside: &str) -> String {
    format!(
        "<html><head><title>Flood in the valley | The News</title><meta property='og:title' content='Flood in the valley'>\
         <script>var a = '<div>';</script><style>p {{ }}</style></head><body>\
         <nav><ul><li><a href=/a>Home</a></li><li><a href=/b>About us</a></li></ul></nav>\
         <div class='sidebar'><a href=/c>Other stories</a></div>\
         <article class='post'><h1>Flood in the valley</h1><div class='byline'>By A. Writer</div>\
         <p>{SENTENCE}{SENTENCE}</p><p>{SENTENCE}{SENTENCE}{SENTENCE}</p>{inside}<p>{SENTENCE}{SENTENCE}</p>\
         <div class='share-buttons'><a href=/d>Share</a></div></article>\
         <div id='comments'><p>First! {SENTENCE}</p></div><footer>All rights reserved, 2024</footer></body></html>"
    )
}

/// Checks what the inside of an article becomes in Markdown, between the paragraphs around it.
fn check(inside: &str, expected: &str) {
    let markdown = extract(&page(inside)).unwrap().markdown();
    let sentence = SENTENCE.trim();
    let first = format!("# Flood in the valley\n\n{sentence} {sentence}\n\n{sentence} {sentence} {sentence}");
    let rest = markdown.strip_prefix(first.as_str()).unwrap_or_else(|| panic!("{markdown}"));
    let middle = rest.strip_suffix(&format!("{sentence} {sentence}")).unwrap_or_else(|| panic!("{markdown}"));
    assert_eq!(middle.trim(), expected);
}

#[test]
fn boilerplate_goes_and_paragraphs_stay() {
    check("", "");
    check("<div class='advertisement'>Buy this</div><p><a href=/x>Read this other story</a></p>", "");
    check("<p>Advertisement</p><p>Share this:</p><p>Published: 12:30, Tue, Nov 19, 2019</p>", "");
    check("<div style='display: none'>hidden words of a page</div><p hidden>more of them</p>", "");
    check("<aside><p>An aside, which is about another matter, and long enough.</p></aside>", "");
    check("<p>One<br>two<br><br>three.</p>", "One\ntwo\n\nthree.");
}

#[test]
fn structure_is_kept() {
    check(
        "<h2>After  the <em>flood</em></h2><p>Words follow it.</p>",
        "## After the flood\n\nWords follow it.",
    );
    check(
        "<ul><li>first of three, with a comma<ul><li>an inner one</li></ul></li><li>second</li></ul>",
        "- first of three, with a comma\n  - an inner one\n- second",
    );
    check(
        "<ol start=3><li>the third thing</li><li>the fourth thing</li></ol>",
        "3. the third thing\n4. the fourth thing",
    );
    check(
        "<blockquote><p>It was never so high.</p><p>Never.</p></blockquote>",
        "> It was never so high.\n\n> Never.",
    );
    check(
        "<pre><code class='language-rust'>fn main() {\n    let a = \"``\";\n}\n</code></pre>",
        "```rust\nfn main() {\n    let a = \"``\";\n}\n```",
    );
    check("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````");
    check("<p>Call <code>main()</code> to begin.</p>", "Call `main()` to begin.");
    check(
        "<table><tr><th>Year</th><th>Level</th></tr><tr><td>1954</td><td>12 | m</td></tr><tr><td>2013</td><td>13 m</td></tr></table>",
        "| Year | Level |\n| --- | --- |\n| 1954 | 12 \\| m |\n| 2013 | 13 m |",
    );
    check(
        "<img src=a.jpg alt='Boats on a flooded street'><img src=b.gif alt=logo>",
        "![Boats on a flooded street]",
    );
    check(
        "<figure><img src=a.jpg><figcaption>Boats on a street. <span>Photo: A. B.</span></figcaption></figure>",
        "![Boats on a street. Photo: A. B.]",
    );
}

#[test]
fn formulas_are_latex() {
    let mathml = "<math><semantics><mrow><mi>E</mi><mo>=</mo><mi>m</mi></mrow>\
                  <annotation encoding='application/x-tex'>{\\displaystyle E=mc^{2}}</annotation></semantics></math>";
    check(&format!("<p>So {mathml} holds.</p>"), "So $E=mc^{2}$ holds.");
    check(
        &format!(
            "<p>So <span class='katex'><span class='katex-mathml'>{mathml}</span><span class='katex-html' aria-hidden='true'>E=mc2</span></span> holds.</p>"
        ),
        "So $E=mc^{2}$ holds.",
    );
    check("<p>So <script type='math/tex'>a<b</script> holds.</p>", "So $a<b$ holds.");
    check("<script type='math/tex; mode=display'>a^2</script>", "$$a^2$$");
    check("<p>So <math><mi>a</mi><mo>+</mo><mi>b</mi></math> holds.</p>", "So $a + b$ holds.");
    check(
        &format!(
            "<p>So <span class='mwe-math-element'><span class='mwe-math-mathml-inline' style='display: none;'>{mathml}</span><img class='mwe-math-fallback-image-inline' alt='{{\\displaystyle E=mc^{{2}}}}'></span> holds.</p>"
        ),
        "So $E=mc^{2}$ holds.",
    );
}

#[test]
fn text_and_markdown_are_one_extraction() {
    let inside =
        "<h2>Heading of it</h2><ul><li>an item, no more</li><li>another one</li></ul><img alt='some boats'>";
    let page = extract(&page(inside)).unwrap();
    assert_eq!(page.title.as_deref(), Some("Flood in the valley"));
    let text = page.text();
    assert!(text.contains("\nHeading of it\nan item, no more\nanother one\n"), "{text}");
    assert!(!text.contains("boats") && !text.contains("valley"), "{text}");
    let words =
        |text: &str| text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count();
    assert_eq!(words(&page.markdown()), words(&text) + "Flood in the valley".split(' ').count() + 2);
}

#[test]
fn an_article_in_parts_is_read_whole() {
    let part = format!("<div class='part'><p>{SENTENCE}{SENTENCE}</p><p>{SENTENCE}{SENTENCE}</p></div>");
    let html =
        format!("<body><div class=menu><a href=/>Home</a></div><div id=x>{part}{part}{part}</div></body>");
    assert_eq!(extract(&html).unwrap().text().matches("river").count(), 12);
    // Text between line breaks, without any paragraph.
    let html = format!("<body><div>{SENTENCE}<br><br>{SENTENCE}<br><br>{SENTENCE}</div></body>");
    assert_eq!(extract(&html).unwrap().blocks.len(), 3);
}

#[test]
fn hostile_pages_are_refused_without_harm() {
    let refused = |html: &str| extract(html).unwrap_err();
    assert_eq!(refused(""), Refusal::NoMainText);
    assert_eq!(refused("<p></p>"), Refusal::NoMainText);
    assert_eq!(refused(&"<div>".repeat(200_000)), Refusal::NestedTooDeeply);
    assert_eq!(refused(&"<p>".repeat(600_000)), Refusal::TooManyElements);
    // Each paragraph opens all formatting again: a little markup that makes much of it.
    let fonts: String = (0..500).map(|n| format!("<font size={n}>")).collect();
    assert_eq!(refused(&format!("<p>{fonts}{}", "<p>x".repeat(100_000))), Refusal::TooManyElements);
    if let Ok(page) = extract("<<<<>>>> \u{0} & &#xffffffff; <a <b </") {
        assert!(page.text().len() < 40);
    }
    // Tags in scripts and comments are not elements.
    let scripted =
        format!("<script>{}</script><!-- {} -->{}", "'<div>'+".repeat(900), "<div>".repeat(900), page(""));
    assert!(extract(&scripted).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever tags a page is made of, reading it ends, and no more comes out than the text that went in, the
    /// title and the marks.
    #[test]
    fn any_soup_is_read(parts in prop::collection::vec(prop::sample::select(&SOUP[..]), 0..60)) {
        let html = parts.concat();
        if let Ok(page) = extract(&html) {
            let words = |text: &str| text.matches("word").count();
            prop_assert!(words(&page.text()) <= words(&html));
            prop_assert!(page.markdown().len() >= page.text().len());
        }
    }

    #[test]
    fn any_characters_are_read(html in "\\PC{0,400}") {
        let _ = extract(&html);
    }
}

const SOUP: [&str; 44] = [
    "<table>",
    "<tr>",
    "<td>",
    "</td>",
    "</table>",
    "<p>",
    "</p>",
    "<div class='comment'>",
    "<div class=article-body>",
    "</div>",
    "<ul>",
    "<ol start=4294967295>",
    "<li>",
    "</ul>",
    "<b>",
    "</b>",
    "<a href='#x'>",
    "<a href=/y>",
    "</a>",
    "<h1>",
    "<h3>",
    "</h3>",
    "<br>",
    "<pre>",
    "</pre>",
    "<code>",
    "</code>",
    "<math>",
    "</math>",
    "<template>",
    "</template>",
    "<select><option>",
    "</select>",
    "<svg><p>",
    "<blockquote>",
    "</blockquote>",
    "<!--",
    "-->",
    "<img alt='a word of it'>",
    "<figure><figcaption>",
    "</figcaption></figure>",
    "A sentence of words, with a comma in it, that is long enough to count as a paragraph. ",
    "word ",
    "<body class=x>",
];
