//! What the server remembers of responses, in memory: the newest, within bounds of number and size. Nothing outlives the
//! process, and nothing promises that a response is still there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokenizer::chat::{Message, ToolCall};

/// Bytes that an entry takes besides its texts, roughly.
const OVERHEAD: usize = 2048;

/// Responses by their identifiers.
pub(crate) struct Store {
    most: usize,
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// Identifiers, oldest first; those that were forgotten meanwhile are passed over.
    order: VecDeque<String>,
    bytes: usize,
}

struct Entry {
    conversation: Arc<Vec<Message>>,
    response: Arc<Value>,
    bytes: usize,
}

impl Store {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Store { most, most_bytes, kept: Mutex::default() }
    }

    /// Remembers a response and the conversation up to its end; forgets the oldest where there is no room.
    pub(crate) fn keep(&self, id: &str, conversation: Vec<Message>, response: Value) {
        let texts: usize = conversation.iter().map(size).sum();
        let own = conversation.last().map_or(0, size);
        let bytes = OVERHEAD + texts + own;
        if self.most == 0 || bytes > self.most_bytes {
            return;
        }
        let entry = Entry { conversation: Arc::new(conversation), response: Arc::new(response), bytes };
        let mut kept = self.kept();
        kept.bytes += bytes;
        kept.entries.insert(id.into(), entry);
        kept.order.push_back(id.into());
        while kept.entries.len() > self.most || kept.bytes > self.most_bytes {
            let Some(oldest) = kept.order.pop_front() else { break };
            kept.remove(&oldest);
        }
    }

    pub(crate) fn conversation(&self, id: &str) -> Option<Vec<Message>> {
        let conversation = self.kept().entries.get(id).map(|entry| Arc::clone(&entry.conversation));
        // Copied outside the lock: it may be long.
        conversation.map(|conversation| conversation.to_vec())
    }

    pub(crate) fn response(&self, id: &str) -> Option<Arc<Value>> {
        self.kept().entries.get(id).map(|entry| Arc::clone(&entry.response))
    }

    /// Whether there was one.
    pub(crate) fn forget(&self, id: &str) -> bool {
        let mut kept = self.kept();
        let found = kept.remove(id);
        if found {
            kept.order.retain(|other| other != id);
        }
        found
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the text of a message, and of its calls as they would be written.
fn size(message: &Message) -> usize {
    let call = |call: &ToolCall| call.name.len() + call.arguments.to_string().len();
    message.content.len() + message.tool_calls.iter().map(call).sum::<usize>()
}

impl Kept {
    fn remove(&mut self, id: &str) -> bool {
        let entry = self.entries.remove(id);
        self.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes);
        entry.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizer::chat::Role;

    use super::*;

    fn keep(store: &Store, id: &str, text: &str) {
        store.keep(id, vec![Message::new(Role::User, text)], json!({ "id": id }));
    }

    #[test]
    fn the_newest_are_kept_within_both_bounds() {
        let store = Store::new(3, 4 * OVERHEAD);
        for id in ["a", "b", "c", "d"] {
            keep(&store, id, "x");
        }
        assert!(store.response("a").is_none());
        assert_eq!(store.response("b").unwrap()["id"], "b");
        assert_eq!(store.conversation("d").unwrap()[0].content, "x");
        // Two texts of it, the message's and the response's: the two oldest give way.
        keep(&store, "e", &"x".repeat(OVERHEAD));
        assert_eq!(["b", "c", "d", "e"].map(|id| store.response(id).is_some()), [false, false, false, true]);
        // One that is too large for the whole store pushes nobody out.
        keep(&store, "f", &"x".repeat(3 * OVERHEAD));
        assert!(store.response("e").is_some() && store.response("f").is_none());
        assert!(store.forget("e") && !store.forget("e"));
        let kept = store.kept();
        assert_eq!((kept.bytes, kept.entries.len(), kept.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_store_of_nothing_keeps_nothing() {
        let store = Store::new(0, 1 << 20);
        keep(&store, "a", "x");
        assert!(store.response("a").is_none());
    }
}
