//! The frame of every page that is written: its head, its style, and a policy by which a browser loads nothing and runs
//! no script but the page's own, whatever the texts in it say.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A script of the page's own: its text, and `sha256-…` of it in base64, by which the policy knows it.
pub struct Script {
    /// The text.
    pub text: &'static str,
    /// Its hash.
    pub hash: &'static str,
}

/// A page with this title and body; `style` comes after the common one.
pub fn page(title: &str, style: &str, script: Option<&Script>, body: &Markup) -> String {
    let scripts = script.map_or_else(|| "'none'".to_owned(), |script| format!("'{}'", script.hash));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {scripts}; base-uri 'none'; form-action 'none'"
    );
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                // An empty icon keeps browsers from asking a server for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(style)) }
            }
            body {
                main {
                    (body)
                    footer { "Made by Altiplano. This page is one file and asks no server for anything." }
                }
                @if let Some(script) = script { script { (PreEscaped(script.text)) } }
            }
        }
    }
    .into_string()
}
