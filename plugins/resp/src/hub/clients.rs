//! The list of connections, and a mailbox for each.
//!
//! A mailbox carries messages from any worker to the connection's own: pushes of pub/sub, tracking
//! and MONITOR, and the order to close. The first message in an empty mailbox wakes the connection;
//! a mailbox over its limit is dropped, and the connection closes. Called by the session rooms.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::Env;

/// Token of the wake that says "look into your mailbox".
pub const WAKE_MAILBOX: u64 = 1;

/// A message to a connection.
#[derive(Clone, Debug)]
pub enum Message {
    /// On a channel: kind (`message`, `smessage`), channel, payload.
    Channel(&'static str, Arc<[u8]>, Arc<[u8]>),
    /// On a channel that matched a pattern.
    Pattern(Arc<[u8]>, Arc<[u8]>, Arc<[u8]>),
    /// These keys have changed; `None`: everything has.
    Invalidate(Option<Vec<Arc<[u8]>>>),
    /// A line for MONITOR.
    Monitor(Arc<str>),
}

impl Message {
    /// What it counts against the limit, in bytes.
    fn len_bytes(&self) -> usize {
        64 + match self {
            Message::Channel(_, channel, payload) => channel.len() + payload.len(),
            Message::Pattern(pattern, channel, payload) => {
                pattern.len() + channel.len() + payload.len()
            }
            Message::Invalidate(keys) => {
                keys.iter().flatten().map(|key| key.len() + 16).sum::<usize>()
            }
            Message::Monitor(line) => line.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    messages: VecDeque<Message>,
    len_bytes: usize,
    overflowed: bool,
    killed: bool,
}

/// What a look into the mailbox brought.
#[derive(Debug)]
pub struct Delivery {
    /// Messages, oldest first.
    pub messages: VecDeque<Message>,
    /// The connection must close.
    pub close: bool,
}

/// Texts that a client tells about itself.
#[derive(Clone, Debug)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
    /// The user it authenticated as.
    pub user: String,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            name: String::new(),
            lib_name: String::new(),
            lib_ver: String::new(),
            user: "default".to_owned(),
        }
    }
}

/// A connection, as others see it.
#[derive(Debug)]
pub struct Client {
    /// CLIENT ID: grows, never reused.
    pub id: u64,
    /// The host's name for it.
    pub conn_id: u64,
    /// Which listener it came through.
    pub listener: u32,
    /// The peer.
    pub peer: Option<SocketAddr>,
    /// Our side.
    pub local: Option<SocketAddr>,
    /// Unix milliseconds of its opening.
    pub opened_ms: u64,
    /// Unix milliseconds of its latest command.
    pub active_ms: AtomicU64,
    /// Its latest command, by row.
    pub latest: AtomicU8,
    /// A copy of its mode bits.
    pub mode: AtomicU32,
    /// 2 or 3.
    pub version: AtomicU8,
    /// Channels, patterns and shard channels it listens to.
    pub subscriptions: [AtomicU32; 3],
    /// Commands in its open transaction; -1 without one.
    pub queued: std::sync::atomic::AtomicI32,
    /// It waits for a key to get elements.
    pub waits: AtomicBool,
    /// Boxed, because most connections never say a name nor get a message.
    names: Mutex<Option<Box<Names>>>,
    mailbox: Mutex<Option<Box<Mailbox>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain data behind, which stays usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A copy of its texts.
    pub fn names(&self) -> Names {
        lock(&self.names).as_deref().cloned().unwrap_or_default()
    }

    /// Changes its texts.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        change(lock(&self.names).get_or_insert_default());
    }

    /// Notes a command, for CLIENT LIST.
    pub fn note(&self, now_ms: u64, command: u8, mode: u32) {
        self.mode.store(mode, Ordering::Relaxed);
        self.active_ms.store(now_ms, Ordering::Relaxed);
        self.latest.store(command, Ordering::Relaxed);
    }

    /// Takes everything out of the mailbox.
    pub fn collect(&self) -> Delivery {
        match lock(&self.mailbox).as_deref_mut() {
            None => Delivery { messages: VecDeque::new(), close: false },
            Some(mailbox) => {
                mailbox.len_bytes = 0;
                Delivery {
                    messages: std::mem::take(&mut mailbox.messages),
                    close: mailbox.overflowed || mailbox.killed,
                }
            }
        }
    }

    /// The peer as CLIENT LIST shows it.
    pub fn addr(&self) -> String {
        self.peer.map_or_else(|| "unix:0".to_owned(), |a| a.to_string())
    }

    /// Our side as CLIENT LIST shows it.
    pub fn laddr(&self) -> String {
        self.local.map_or_else(|| "unix:0".to_owned(), |a| a.to_string())
    }
}

/// All connections.
#[derive(Debug)]
pub struct Clients {
    env: Env,
    mailbox_len_bytes_max: AtomicU64,
    next_id: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    pub(super) fn new(env: Env, mailbox_len_bytes_max: u64) -> Self {
        Clients {
            env,
            mailbox_len_bytes_max: AtomicU64::new(mailbox_len_bytes_max),
            next_id: AtomicU64::new(1),
            all: Mutex::default(),
        }
    }

    /// Most bytes of messages that wait for one connection: the hard limit of CONFIG's
    /// `client-output-buffer-limit`, class pubsub. 0: no limit.
    pub fn mailbox_len_bytes_max(&self) -> u64 {
        self.mailbox_len_bytes_max.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_mailbox_len_bytes_max(&self, bytes: u64) {
        self.mailbox_len_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Enters a connection.
    pub fn open(
        &self,
        conn_id: u64,
        listener: u32,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
        now_ms: u64,
    ) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            conn_id,
            listener,
            peer,
            local,
            opened_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            latest: AtomicU8::new(u8::MAX),
            mode: AtomicU32::new(0),
            version: AtomicU8::new(2),
            subscriptions: Default::default(),
            queued: std::sync::atomic::AtomicI32::new(-1),
            waits: AtomicBool::new(false),
            names: Mutex::default(),
            mailbox: Mutex::default(),
        });
        lock(&self.all).insert(client.id, Arc::clone(&client));
        client
    }

    /// Takes a connection off the list.
    pub fn close(&self, id: u64) {
        if let Some(client) = lock(&self.all).remove(&id) {
            // Whoever still holds it must not fill its mailbox.
            let mut mailbox = lock(&client.mailbox);
            let mailbox = mailbox.get_or_insert_default();
            mailbox.killed = true;
            mailbox.messages = VecDeque::new();
        }
    }

    /// The connection of that number.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        lock(&self.all).get(&id).cloned()
    }

    /// All connections, by number.
    pub fn list(&self) -> Vec<Arc<Client>> {
        lock(&self.all).values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.all).len()
    }

    /// Sends a message.
    pub fn send(&self, to: &Client, message: Message) {
        let len_bytes_max = match self.mailbox_len_bytes_max() {
            0 => u64::MAX,
            bytes => bytes,
        };
        let wake = {
            let mut mailbox = lock(&to.mailbox);
            let mailbox = mailbox.get_or_insert_default();
            if mailbox.overflowed || mailbox.killed {
                return;
            }
            let was_empty = mailbox.messages.is_empty();
            mailbox.len_bytes += message.len_bytes();
            if mailbox.len_bytes as u64 > len_bytes_max {
                mailbox.messages = VecDeque::new();
                mailbox.overflowed = true;
                true
            } else {
                mailbox.messages.push_back(message);
                was_empty
            }
        };
        if wake {
            self.env.wake(to.conn_id, WAKE_MAILBOX);
        }
    }

    /// Orders a connection to close.
    pub fn kill(&self, client: &Client) {
        lock(&client.mailbox).get_or_insert_default().killed = true;
        self.env.wake(client.conn_id, WAKE_MAILBOX);
    }
}
