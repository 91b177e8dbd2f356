//! The scanner against the regular expression that it replaces. Both sides are seen through the
//! public interface: with a vocabulary of bytes only, tokens do not show the pieces, so a
//! vocabulary is trained on the text itself, which makes every repeated piece one token.
