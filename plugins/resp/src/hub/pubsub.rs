//! Channels and who listens to them. Called by the pub/sub commands of every worker.
//!
//! Names are spread over no shards: a publish takes one short lock to copy the listeners, and
//! sends after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clients::{Client, Clients, Message};
use crate::glob;

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

type Listeners = BTreeMap<u64, Arc<Client>>;

#[derive(Debug, Default)]
struct Names {
    channels: HashMap<Arc<[u8]>, Listeners>,
    patterns: HashMap<Arc<[u8]>, Listeners>,
    shards: HashMap<Arc<[u8]>, Listeners>,
}

impl Names {
    fn of(&mut self, kind: Kind) -> &mut HashMap<Arc<[u8]>, Listeners> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }
}

/// All channels.
#[derive(Debug, Default)]
pub struct Pubsub {
    names: Mutex<Names>,
}

impl Pubsub {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener.
    pub fn subscribe(&self, kind: Kind, name: &[u8], client: &Arc<Client>) {
        let mut names = self.lock();
        let map = names.of(kind);
        let listeners = match map.get_mut(name) {
            Some(listeners) => listeners,
            None => map.entry(name.into()).or_default(),
        };
        listeners.insert(client.id, Arc::clone(client));
    }

    /// Takes a listener away.
    pub fn unsubscribe(&self, kind: Kind, name: &[u8], id: u64) {
        let mut names = self.lock();
        let map = names.of(kind);
        if let Some(listeners) = map.get_mut(name) {
            listeners.remove(&id);
            if listeners.is_empty() {
                map.remove(name);
            }
        }
    }

    /// Sends to everyone who listens; returns how many.
    pub fn publish(&self, clients: &Clients, shard: bool, channel: &[u8], payload: &[u8]) -> usize {
        let (exact, matched) = {
            let names = self.lock();
            let map = if shard { &names.shards } else { &names.channels };
            let exact: Vec<Arc<Client>> =
                map.get(channel).map(|l| l.values().cloned().collect()).unwrap_or_default();
            let mut matched: Vec<(Arc<[u8]>, Arc<Client>)> = Vec::new();
            if !shard {
                for (pattern, listeners) in &names.patterns {
                    if glob::matches(pattern, channel) {
                        let each = listeners.values().map(|c| (Arc::clone(pattern), Arc::clone(c)));
                        matched.extend(each);
                    }
                }
            }
            (exact, matched)
        };
        if exact.is_empty() && matched.is_empty() {
            return 0;
        }
        let (name, payload): (Arc<[u8]>, Arc<[u8]>) = (channel.into(), payload.into());
        let kind = if shard { "smessage" } else { "message" };
        for client in &exact {
            let message = Message::Channel(kind, Arc::clone(&name), Arc::clone(&payload));
            clients.send(client, message);
        }
        for (pattern, client) in &matched {
            let message =
                Message::Pattern(Arc::clone(pattern), Arc::clone(&name), Arc::clone(&payload));
            clients.send(client, message);
        }
        exact.len() + matched.len()
    }

    /// Names with listeners that match a pattern.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let mut names = self.lock();
        let all = names.of(kind).keys();
        all.filter(|name| pattern.is_none_or(|p| glob::matches(p, name))).cloned().collect()
    }

    /// How many listen to a name.
    pub fn count(&self, kind: Kind, name: &[u8]) -> usize {
        self.lock().of(kind).get(name).map_or(0, BTreeMap::len)
    }

    /// How many names of a kind have listeners.
    pub fn len(&self, kind: Kind) -> usize {
        self.lock().of(kind).len()
    }
}
