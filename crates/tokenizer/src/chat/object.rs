//! Where a JSON object that is still being written has its members, and where it ends. It looks only at structure: whether
//! a value is valid is for a parser to say once the object is whole.

use std::ops::Range;

/// Reads one object, a piece of text at a time.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes of the text that have been read.
    at: usize,
    /// Brackets that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where the name of the present member begins, within its quotes.
    key_start: Option<usize>,
    /// The name of the present member, as it is written.
    key: Option<Range<usize>>,
    after_colon: bool,
    value_start: Option<usize>,
    members: Vec<Member>,
    /// Behind the closing bracket.
    end: Option<usize>,
    broken: bool,
}

/// Where a member's name and value stand in the text.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Scanner {
    /// For an object whose `{` is at this byte.
    pub(super) fn at(start: usize) -> Self {
        Scanner { at: start, ..Scanner::default() }
    }

    /// Reads what is new in `text`, which begins as it did the last time; stops behind the object.
    pub(super) fn advance(&mut self, text: &str) {
        while let Some(&byte) = text.as_bytes().get(self.at) {
            if self.end.is_some() || self.broken {
                return;
            }
            self.take(byte, text);
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, text: &str) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if let Some(start) = self.key_start.take() {
                        self.key = Some(start..self.at);
                    }
                }
                _ => {}
            }
            return;
        }
        if self.depth == 1 {
            self.take_at_top(byte, text);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.end = Some(self.at + 1);
                }
            }
            _ => {}
        }
    }

    /// Between the object's own brackets.
    fn take_at_top(&mut self, byte: u8, text: &str) {
        let in_value = self.value_start.is_some();
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b':' if self.key.is_some() && !self.after_colon => self.after_colon = true,
            b',' | b'}' if in_value => self.close(text),
            b'}' if self.key.is_none() && self.members.is_empty() => {}
            b'"' if self.key.is_none() => self.key_start = Some(self.at + 1),
            _ if self.after_colon => {
                self.value_start.get_or_insert(self.at);
            }
            _ => self.broken = true,
        }
    }

    fn close(&mut self, text: &str) {
        if let (Some(key), Some(start)) = (self.key.take(), self.value_start.take()) {
            let value = text[start..self.at].trim_end();
            self.members.push(Member { key, value: start..start + value.len() });
        }
        self.after_colon = false;
    }

    /// Whether this can no longer become an object.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// The byte behind the object, once it is whole.
    pub(super) fn end(&self) -> Option<usize> {
        self.end
    }

    /// The members that are whole.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The name of the member whose value has begun and not ended, and where the value begins.
    pub(super) fn open_member(&self) -> Option<(Range<usize>, usize)> {
        Some((self.key.clone()?, self.value_start?))
    }

    /// The name of the latest member whose name is whole.
    pub(super) fn latest_key(&self) -> Option<Range<usize>> {
        self.key.clone().or_else(|| self.members.last().map(|member| member.key.clone()))
    }

    /// How much of `text` belongs to values inside of the object: what was read, without the closing bracket.
    pub(super) fn inside(&self) -> usize {
        self.members.last().filter(|_| self.value_start.is_none()).map_or(self.at, |member| member.value.end)
    }
}
