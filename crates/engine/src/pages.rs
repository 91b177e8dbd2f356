//! Which page belongs to whom: free pages, pages that running sequences hold, and full pages that are kept after their
//! sequences ended, in case another prompt begins in the same way. Numbers only; what is in a page is the model's.
//!
//! A full page is known by its tokens and the page before it, so by all tokens up to its end, and by the adapter that they
//! were read with. It is known as soon as it is
//! full, and what is known is never written again, so any number of sequences can hold it.
//!
//! What holds at any time: a page is free, kept or held; the page before one that is known is known; and free and kept
//! pages together are at least as many as those promised to sequences that run, so that none of these ever has to wait.

use std::collections::{BTreeMap, HashMap};

/// The pages of an engine.
pub(crate) struct Pages {
    /// Tokens of a page.
    tokens: usize,
    pages: Vec<Page>,
    /// Those freed last are taken first: they have memory already.
    free: Vec<u32>,
    /// Known pages by what they hold. Compared in full: a hash alone could be another's.
    known: HashMap<Content, u32>,
    /// Known pages that nobody holds, those to be given up first in front.
    kept: BTreeMap<u64, u32>,
    /// Counts up with each page that is let go.
    clock: u64,
    /// Pages that running sequences may still take.
    promised: usize,
}

#[derive(Clone, Default)]
struct Page {
    /// Sequences that hold it.
    holders: u32,
    /// What it is known by.
    content: Option<Content>,
    /// When it was let go, while it is kept.
    released: u64,
}

/// What identifies a full page.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Content {
    /// What the tokens were read with: the number of an adapter, or the model as it is.
    adapter: Option<u64>,
    /// The page before it, of the first none. It stays what it is as long as this one is known.
    before: Option<u32>,
    tokens: Box<[u32]>,
}

/// What one sequence holds of the pages.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// What its sequence is read with.
    adapter: Option<u64>,
    /// Its pages in order.
    pub(crate) pages: Vec<u32>,
    /// Pages that it may still take.
    promised: usize,
    /// Its first so many pages are known.
    known: usize,
}

impl Pages {
    /// `count` free pages of `tokens` tokens.
    pub(crate) fn new(tokens: usize, count: usize) -> Self {
        Pages {
            tokens,
            pages: vec![Page::default(); count],
            free: (0..count as u32).rev().collect(),
            known: HashMap::new(),
            kept: BTreeMap::new(),
            clock: 0,
            promised: 0,
        }
    }

    /// As many free pages of `page` tokens as `tokens` tokens fill.
    pub(crate) fn within(tokens: usize, page: usize) -> Self {
        Pages::new(page, tokens / page)
    }

    /// All of them.
    pub(crate) fn count(&self) -> usize {
        self.pages.len()
    }

    /// Tokens that all pages together hold.
    pub(crate) fn tokens(&self) -> usize {
        self.pages.len() * self.tokens
    }

    /// Sets aside room for `most` tokens, of which the first are the prompt's; `None` where there is not enough. Known
    /// pages at the prompt's beginning are held at once, so that they cannot be lost. `adapter` is what the sequence will be
    /// read with: no page of another is ever its own.
    pub(crate) fn admit(&mut self, adapter: Option<u64>, prompt: &[u32], most: usize) -> Option<Table> {
        let mut table = Table { adapter, promised: most.div_ceil(self.tokens), ..Table::default() };
        self.promised += table.promised;
        self.adopt(&mut table, prompt);
        if self.free.len() + self.kept.len() < self.promised {
            self.release(table);
            return None;
        }
        Some(table)
    }

    /// Goes on with known pages as far as they hold the sequence's tokens, up to the last of `tokens`, which is to be
    /// read. Only where the sequence's own pages are all full.
    pub(crate) fn adopt(&mut self, table: &mut Table, tokens: &[u32]) {
        while table.known == table.pages.len() && (table.known + 1) * self.tokens < tokens.len() {
            let next = &tokens[table.known * self.tokens..][..self.tokens];
            let Some(&page) = self.known.get(&self.content(table, next)) else { break };
            self.hold(page);
            table.pages.push(page);
            table.known += 1;
            table.promised -= 1;
            self.promised -= 1;
        }
    }

    /// Tokens in a table's known pages.
    pub(crate) fn known_tokens(&self, table: &Table) -> usize {
        table.known * self.tokens
    }

    /// Takes pages until the table has room for `tokens` tokens. What was admitted has been promised.
    pub(crate) fn make_room(&mut self, table: &mut Table, tokens: usize) {
        while table.pages.len() * self.tokens < tokens {
            assert!(table.promised > 0, "a sequence outgrew what was set aside for it");
            let page = self.free.pop().or_else(|| self.give_up());
            let page = page.expect("promised pages are free or kept");
            self.pages[page as usize].holders = 1;
            table.pages.push(page);
            table.promised -= 1;
            self.promised -= 1;
        }
    }

    /// The sequence's first tokens, `read`, are in its pages: those that became full are known from now on. Where another
    /// sequence was first with the same tokens, its page takes the place of this one's, which is free again.
    pub(crate) fn learn(&mut self, table: &mut Table, read: &[u32]) {
        while (table.known + 1) * self.tokens <= read.len() {
            let place = table.known;
            let content = self.content(table, &read[place * self.tokens..][..self.tokens]);
            let own = table.pages[place];
            if let Some(&other) = self.known.get(&content) {
                self.hold(other);
                table.pages[place] = other;
                self.pages[own as usize].holders = 0;
                self.free.push(own);
            } else {
                self.known.insert(content.clone(), own);
                self.pages[own as usize].content = Some(content);
            }
            table.known += 1;
        }
    }

    /// Lets go of a sequence's pages. Known ones are kept, the last of a sequence to be given up first.
    pub(crate) fn release(&mut self, table: Table) {
        self.promised -= table.promised;
        for page in table.pages.into_iter().rev() {
            let entry = &mut self.pages[page as usize];
            entry.holders -= 1;
            if entry.holders > 0 {
                continue;
            }
            if entry.content.is_some() {
                self.clock += 1;
                entry.released = self.clock;
                self.kept.insert(self.clock, page);
            } else {
                self.free.push(page);
            }
        }
    }

    /// Gives up what is kept of an adapter that no request can name any more. What its last sequences still hold they have
    /// to themselves.
    pub(crate) fn forget(&mut self, adapter: u64) {
        let Pages { pages, known, kept, free, .. } = self;
        // What follows a kept page is kept too, and of the same adapter: nothing known is left without what was before it.
        kept.retain(|_, &mut page| {
            let content = &mut pages[page as usize].content;
            let stays = content.as_ref().is_none_or(|content| content.adapter != Some(adapter));
            if !stays && let Some(content) = content.take() {
                known.remove(&content);
                free.push(page);
            }
            stays
        });
    }

    /// Tokens that running sequences hold or were promised; those of a shared page count once.
    pub(crate) fn reserved_tokens(&self) -> usize {
        (self.held() + self.promised) * self.tokens
    }

    /// Tokens that are kept for others.
    pub(crate) fn kept_tokens(&self) -> usize {
        self.kept.len() * self.tokens
    }

    fn held(&self) -> usize {
        self.pages.len() - self.free.len() - self.kept.len()
    }

    /// What the page after a table's known ones would be known by.
    fn content(&self, table: &Table, tokens: &[u32]) -> Content {
        let before = table.known.checked_sub(1).map(|last| table.pages[last]);
        Content { adapter: table.adapter, before, tokens: tokens.into() }
    }

    fn hold(&mut self, page: u32) {
        let entry = &mut self.pages[page as usize];
        if entry.holders == 0 {
            self.kept.remove(&entry.released);
        }
        entry.holders += 1;
    }

    /// Forgets the kept page that was let go first.
    fn give_up(&mut self) -> Option<u32> {
        let (_, page) = self.kept.pop_first()?;
        if let Some(content) = self.pages[page as usize].content.take() {
            self.known.remove(&content);
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests;
