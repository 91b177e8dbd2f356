//! Which conversation comes next: generated ones by the mixture's weights, one's own in shuffled epochs.

use super::settings::Settings;
use crate::tasks::{Item, Kind, Split, Tasks};
use ledger::seed::{Rng, Seed};
use tokenizer::chat::Message;

/// The stream of conversations, the same for the same seed.
pub(super) struct Source<'a> {
    tasks: &'a Tasks,
    /// Kinds with the sum of the weights up to and with each.
    kinds: Vec<(Kind, f64)>,
    several_turns: f64,
    own: Vec<Vec<Message>>,
    own_share: f64,
    seed: Seed,
    /// Conversations drawn so far.
    drawn: u64,
    /// What is left of the current epoch of one's own, last first, and the epoch's number.
    epoch: (Vec<u32>, u64),
}

impl<'a> Source<'a> {
    pub(super) fn new(settings: &Settings, tasks: &'a Tasks, own: Vec<Vec<Message>>, seed: Seed) -> Self {
        let mut sum = 0.0;
        let mut kinds = Vec::new();
        for kind in tasks.kinds() {
            let weight = settings.weight(kind);
            if weight > 0.0 {
                sum += weight;
                kinds.push((kind, sum));
            }
        }
        let own_share = match (own.is_empty(), kinds.is_empty()) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => settings.conversations_share,
        };
        Self {
            tasks,
            kinds,
            several_turns: settings.several_turns,
            own,
            own_share,
            seed,
            drawn: 0,
            epoch: (Vec::new(), 0),
        }
    }

    /// Whether there is nothing to draw from.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.kinds.is_empty()
    }

    /// The next conversation.
    pub(super) fn next(&mut self) -> Vec<Message> {
        let mut rng = self.seed.stream("align/conversation", self.drawn);
        self.drawn += 1;
        if rng.uniform() < self.own_share {
            return self.own_conversation();
        }
        let turns = if rng.uniform() < self.several_turns { 2 + rng.below(2) } else { 1 };
        (0..turns).flat_map(|_| self.generated(&mut rng).conversation()).collect()
    }

    fn generated(&self, rng: &mut Rng) -> Item {
        let all = self.kinds.last().map_or(0.0, |(_, sum)| *sum);
        let place = rng.uniform() * all;
        let chosen = self.kinds.iter().find(|(_, sum)| place < *sum).or(self.kinds.last());
        let kind = chosen.map_or(Kind::Identity, |(kind, _)| *kind);
        self.tasks.draw(kind, Split::Train, rng).expect("kinds are those that the tasks have")
    }

    /// The next of one's own: each once an epoch, in another order each time.
    fn own_conversation(&mut self) -> Vec<Message> {
        let (left, epoch) = &mut self.epoch;
        if left.is_empty() {
            left.extend(0..self.own.len() as u32);
            self.seed.stream("align/own", *epoch).shuffle(left);
            *epoch += 1;
        }
        left.pop().map(|index| self.own[index as usize].clone()).unwrap_or_default()
    }
}
