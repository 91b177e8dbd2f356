//! When a token may be shown: text that may be the beginning of a stop text waits until it is known not to be.
//! A stop text may begin and end anywhere inside tokens; a token is shown whole, with its own text, or cut at the stop.

use std::collections::VecDeque;

use crate::Token;

/// Holds back the end of one answer.
pub(crate) struct Emitter {
    stops: Vec<String>,
    held: VecDeque<Token>,
    /// The texts of `held`, joined.
    text: String,
}

impl Emitter {
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Emitter { stops, held: VecDeque::new(), text: String::new() }
    }

    /// Takes the next token; gives those that may now be shown, and the stop text if it is complete. After a stop nothing
    /// is left to show.
    pub(crate) fn push(&mut self, token: Token) -> (Vec<Token>, Option<String>) {
        self.text.push_str(&token.text);
        self.held.push_back(token);
        let found = self.stops.iter().filter_map(|stop| Some((self.text.find(stop.as_str())?, stop)));
        // The earliest; of those the longest, as if the shorter had not been there to end the answer first.
        let found = found.min_by_key(|(start, stop)| (*start, std::cmp::Reverse(stop.len())));
        if let Some((start, stop)) = found {
            let stop = stop.clone();
            return (self.cut(start), Some(stop));
        }
        let safe = self.text.len() - self.undecided();
        (self.release(safe), None)
    }

    /// The answer has ended: everything held, with `rest`, what the decoder still had, on the last token.
    pub(crate) fn finish(&mut self, rest: &str) -> Vec<Token> {
        if let Some(last) = self.held.back_mut() {
            last.text.push_str(rest);
        }
        self.text.clear();
        self.held.drain(..).collect()
    }

    /// Bytes at the end of the text that begin a stop text.
    fn undecided(&self) -> usize {
        let longest_start = |stop: &String| {
            let most = self.text.len().min(stop.len() - 1);
            (1..=most)
                .rev()
                .find(|&length| self.text.as_bytes().ends_with(&stop.as_bytes()[..length]))
                .unwrap_or(0)
        };
        self.stops.iter().map(longest_start).max().unwrap_or(0)
    }

    /// Tokens that lie within the first `safe` bytes. Those without text wait for the next that has some: it may be that
    /// they hold the beginning of a character, whose rest `finish` would have to put somewhere.
    fn release(&mut self, safe: usize) -> Vec<Token> {
        let (mut end, mut count, mut bytes) = (0, 0, 0);
        for (index, token) in self.held.iter().enumerate() {
            end += token.text.len();
            if end > safe {
                break;
            }
            if !token.text.is_empty() {
                (count, bytes) = (index + 1, end);
            }
        }
        self.text.drain(..bytes);
        self.held.drain(..count).collect()
    }

    /// Tokens that begin within the first `start` bytes, the last of them cut there.
    fn cut(&mut self, start: usize) -> Vec<Token> {
        let mut left = start;
        let mut shown = Vec::new();
        for mut token in self.held.drain(..) {
            if left == 0 {
                break;
            }
            if token.text.len() > left {
                token.text.truncate(left);
            }
            left -= token.text.len();
            shown.push(token);
        }
        self.text.clear();
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(text: &str) -> Token {
        Token { id: 0, text: text.into(), logprob: None, alternatives: Vec::new() }
    }

    /// Text shown after each token, `|` between, and the stop text if there was one.
    fn check(stops: &[&str], pieces: &[&str], expected: &str, stopped: Option<&str>) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut emitter = Emitter::new(&stops);
        let mut shown = Vec::new();
        let mut found = None;
        for piece in pieces {
            let (tokens, stop) = emitter.push(token(piece));
            shown.push(tokens.into_iter().map(|token| token.text).collect::<String>());
            found = stop;
            if found.is_some() {
                break;
            }
        }
        if found.is_none() {
            shown.push(emitter.finish("").into_iter().map(|token| token.text).collect());
        }
        assert_eq!(
            (shown.join("|").as_str(), found.as_deref()),
            (expected, stopped),
            "{stops:?} in {pieces:?}"
        );
    }

    #[test]
    fn stop_texts_end_the_answer_wherever_the_tokens_are_cut() {
        check(&[], &["a", "b"], "a|b|", None);
        check(&[""], &["a", "b"], "a|b|", None);
        check(&["b"], &["a", "b", "c"], "a|", Some("b"));
        check(&["END"], &["one E", "N", "D two"], "||one ", Some("END"));
        check(&["END"], &["one E", "N", "G two"], "||one ENG two|", None);
        check(&["END"], &["one", " E", "N"], "one||| EN", None);
        check(&["\n\n"], &["a\n", "b\n", "\nc"], "|a\n|b", Some("\n\n"));
        check(&["aab"], &["a", "a", "a", "b", "c"], "||a|", Some("aab"));
        check(&["xyz", "yq"], &["x", "y", "q"], "||x", Some("yq"));
        check(&["ab", "abc"], &["xabc"], "x", Some("abc"));
        check(&["é"], &["caf", "é"], "caf|", Some("é"));
    }

    #[test]
    fn a_token_without_text_waits_for_the_end_of_its_character() {
        let mut emitter = Emitter::new(&[]);
        assert_eq!(emitter.push(token("")).0, vec![]);
        assert_eq!(emitter.push(token("é")).0, vec![token(""), token("é")]);
        assert_eq!(emitter.push(token("")).0, vec![]);
        assert_eq!(emitter.finish("\u{fffd}"), vec![token("\u{fffd}")]);
    }

    proptest! {
        /// However a text is cut into tokens, what is shown is the text up to the first stop.
        #[test]
        fn what_is_shown_does_not_depend_on_the_cuts(
            pieces in prop::collection::vec("[abé]{0,3}", 0..20),
            stops in prop::collection::vec("[abé]{1,4}", 0..3),
        ) {
            let whole: String = pieces.concat();
            // The stop that is complete first ends the answer; here it is enough to know where some stop could begin.
            let mut emitter = Emitter::new(&stops);
            let mut shown = String::new();
            let mut stopped = None;
            for piece in &pieces {
                let (tokens, stop) = emitter.push(token(piece));
                shown.extend(tokens.into_iter().map(|token| token.text));
                // Nothing that was shown is part of a stop text, whatever follows.
                prop_assert!(stops.iter().all(|stop| !shown.contains(stop.as_str())));
                if stop.is_some() {
                    stopped = stop;
                    break;
                }
            }
            prop_assert!(whole.starts_with(&shown));
            match stopped {
                Some(stop) => prop_assert!(whole[shown.len()..].starts_with(&stop)),
                None => {
                    shown.extend(emitter.finish("").into_iter().map(|token| token.text));
                    prop_assert_eq!(&shown, &whole);
                    prop_assert!(stops.iter().all(|stop| !whole.contains(stop.as_str())));
                }
            }
        }
    }
}
