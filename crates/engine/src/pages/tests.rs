use proptest::prelude::*;

use super::*;

impl Pages {
    /// What holds at any time, given the tables of all that run and what they have read.
    fn check(&self, running: &[(Table, Vec<u32>)]) {
        let mut holders = vec![0; self.pages.len()];
        for page in running.iter().flat_map(|(table, _)| &table.pages) {
            holders[*page as usize] += 1;
        }
        let free: Vec<u32> = self.free.clone();
        let kept: Vec<u32> = self.kept.values().copied().collect();
        for (number, page) in self.pages.iter().enumerate() {
            assert_eq!(page.holders, holders[number], "page {number}");
            let number = number as u32;
            let places = [free.contains(&number), kept.contains(&number), page.holders > 0];
            assert_eq!(places.iter().filter(|place| **place).count(), 1, "page {number} is in {places:?}");
            assert!(!free.contains(&number) || page.content.is_none(), "page {number} is free and known");
            if let Some(content) = &page.content {
                assert_eq!(self.known.get(content), Some(&number));
                let before = content.before.map(|before| self.pages[before as usize].content.is_some());
                assert_ne!(before, Some(false), "page {number} follows one that is not known");
            }
        }
        assert_eq!(self.known.len(), self.pages.iter().filter(|page| page.content.is_some()).count());
        assert_eq!(free.len() + kept.len() + self.held(), self.pages.len());
        assert_eq!(self.promised, running.iter().map(|(table, _)| table.promised).sum::<usize>());
        assert!(free.len() + kept.len() >= self.promised, "more is promised than there is");
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Act {
    /// A request comes: its adapter, a prompt from a small alphabet, so that beginnings agree, and most tokens to follow.
    Admit(Option<u64>, Vec<u32>, usize),
    /// The sequence of this number, of those that run, reads so many tokens.
    Read(usize, usize),
    /// It ends, for whatever reason.
    End(usize),
    /// No request will name this adapter again, as far as the pages know.
    Forget(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (prop::option::of(0u64..2), prop::collection::vec(0u32..2, 1..24), 0usize..12)
            .prop_map(|(adapter, prompt, more)| Act::Admit(adapter, prompt, more)),
        (0usize..8, 1usize..9).prop_map(|(which, count)| Act::Read(which, count)),
        (0usize..8).prop_map(Act::End),
        (0u64..2).prop_map(Act::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes and goes in whatever order, every page is in one place, nothing runs out of room, and the pages of a
    /// sequence hold its own tokens, read with its own adapter.
    #[test]
    fn pages_are_never_lost_nor_anothers(acts in prop::collection::vec(act(), 1..120), count in 4usize..14) {
        const TOKENS: usize = 4;
        let mut pages = Pages::new(TOKENS, count);
        // What was written to each place of each page.
        let mut memory = vec![[(None, u32::MAX); TOKENS]; count];
        let mut running: Vec<(Table, Vec<u32>)> = Vec::new();
        let mut state: Vec<(usize, usize)> = Vec::new();
        for act in acts {
            match act {
                Act::Admit(adapter, prompt, more) => {
                    let most = prompt.len() + more;
                    if let Some(table) = pages.admit(adapter, &prompt, most) {
                        let read = pages.known_tokens(&table);
                        prop_assert!(read < prompt.len());
                        // What follows the prompt is made up as a model would: by the prompt alone.
                        let tokens = prompt.iter().copied().chain((0..more as u32).map(|i| i % 2)).collect();
                        running.push((table, tokens));
                        state.push((read, prompt.len()));
                    } else {
                        prop_assert!(most.div_ceil(TOKENS) > count || !running.is_empty(), "refused an idle engine");
                    }
                }
                Act::Read(which, step) if which < running.len() => {
                    let (table, tokens) = &mut running[which];
                    let (read, prompt) = &mut state[which];
                    if *read == pages.known_tokens(table) {
                        pages.adopt(table, &tokens[..*prompt]);
                        *read = (*read).max(pages.known_tokens(table));
                    }
                    let end = (*read + step).min(tokens.len());
                    pages.make_room(table, end);
                    for place in *read..end {
                        memory[table.pages[place / TOKENS] as usize][place % TOKENS] =
                            (table.adapter, tokens[place]);
                    }
                    *read = end;
                    pages.learn(table, &tokens[..end]);
                }
                Act::End(which) if which < running.len() => {
                    let (table, _) = running.remove(which);
                    state.remove(which);
                    pages.release(table);
                }
                Act::Forget(adapter) => {
                    pages.forget(adapter);
                    let of_adapter = |page: &u32| {
                        let content = &pages.pages[*page as usize].content;
                        content.as_ref().is_some_and(|content| content.adapter == Some(adapter))
                    };
                    prop_assert!(!pages.kept.values().any(of_adapter), "pages of an adapter that is gone are kept");
                }
                Act::Read(..) | Act::End(..) => {}
            }
            pages.check(&running);
            for ((table, tokens), (read, _)) in running.iter().zip(&state) {
                for (place, &token) in tokens[..*read].iter().enumerate() {
                    let found = memory[table.pages[place / TOKENS] as usize][place % TOKENS];
                    prop_assert_eq!(found, (table.adapter, token));
                }
            }
        }
        for (table, _) in running.drain(..) {
            pages.release(table);
        }
        pages.check(&[]);
        // All of it can be had again.
        let mut table = pages.admit(None, &[7], count * TOKENS).unwrap();
        pages.make_room(&mut table, count * TOKENS);
        pages.check(&[(table, vec![])]);
    }
}

#[test]
fn the_page_that_was_let_go_first_is_given_up_first_and_ends_before_beginnings() {
    let mut pages = Pages::new(2, 4);
    let mut read = |tokens: &[u32]| {
        let mut table = pages.admit(None, tokens, tokens.len()).unwrap();
        let known = pages.known_tokens(&table);
        pages.make_room(&mut table, tokens.len());
        pages.learn(&mut table, tokens);
        pages.release(table);
        known
    };
    assert_eq!(read(&[1, 1, 2, 2]), 0);
    assert_eq!(read(&[3, 3, 4, 4]), 0);
    // A fifth page is needed: the end of the first sequence goes, its beginning stays.
    assert_eq!(read(&[1, 1, 5, 5]), 2);
    assert_eq!(read(&[1, 1, 2, 2]), 2);
    assert_eq!(read(&[3, 3, 4, 4, 9]), 2);
}

#[test]
fn what_one_adapter_read_is_nothing_to_another() {
    let mut pages = Pages::new(2, 8);
    let mut read = |adapter: Option<u64>, forget: Option<u64>| {
        forget.into_iter().for_each(|adapter| pages.forget(adapter));
        let tokens = [1, 1, 2, 2, 3];
        let mut table = pages.admit(adapter, &tokens, tokens.len()).unwrap();
        let known = pages.known_tokens(&table);
        pages.make_room(&mut table, tokens.len());
        pages.learn(&mut table, &tokens);
        pages.release(table);
        (known, pages.kept_tokens())
    };
    assert_eq!(read(None, None), (0, 4));
    assert_eq!(read(Some(0), None), (0, 8));
    assert_eq!(read(Some(1), None), (0, 12));
    assert_eq!([read(None, None), read(Some(0), None), read(Some(1), None)], [(4, 12); 3]);
    assert_eq!(read(None, Some(0)), (4, 8));
    assert_eq!(read(Some(0), None), (0, 12));
}
