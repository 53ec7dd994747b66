//! Who may enter a listener: names and salted hashes of passwords.
//!
//! What must always be true: a check takes the same time for a wrong password
//! as for a user that does not exist; no password is kept. Called through the
//! host's table, and by `hash-password`.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest, Sha256};

const SALT_LEN: usize = 16;

/// A stored password: `sha256$SALT$HASH`, both in hex. One round, because it is
/// checked on an event loop: use long random passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    salt: Vec<u8>,
    hash: [u8; 32],
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed(..)")
    }
}

fn digest(salt: &[u8], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Compares without stopping at the first difference.
#[must_use]
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |d, (x, y)| std::hint::black_box(d | (x ^ y))) == 0
}

impl Hashed {
    /// Hashes a password with a fresh salt.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(password: &[u8]) -> std::io::Result<Self> {
        let mut salt = vec![0; SALT_LEN];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut salt)?;
        let hash = digest(&salt, password);
        Ok(Self { salt, hash })
    }

    /// Reads `sha256$SALT$HASH`.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || "expected sha256$SALT$HASH as `crucible-host hash-password` prints it";
        let parts: Vec<&str> = text.split('$').collect();
        let [scheme, salt, hash] = parts[..] else { return Err(wrong().into()) };
        let (Some(salt), Some(hash)) = (unhex(salt), unhex(hash)) else {
            return Err(wrong().into());
        };
        match <[u8; 32]>::try_from(hash) {
            Ok(hash) if scheme == "sha256" && salt.len() >= 8 => Ok(Self { salt, hash }),
            _ => Err(wrong().into()),
        }
    }

    /// As it is written in a configuration file.
    #[must_use]
    pub fn write(&self) -> String {
        format!("sha256${}${}", hex(&self.salt), hex(&self.hash))
    }

    fn matches(&self, password: &[u8]) -> bool {
        same_bytes(&digest(&self.salt, password), &self.hash)
    }
}

/// The users of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    by_name: BTreeMap<Vec<u8>, Hashed>,
}

impl Users {
    /// Reads names and hashes.
    ///
    /// # Errors
    /// The user, and what was expected.
    pub fn read(users: &BTreeMap<String, String>) -> Result<Self, (String, String)> {
        let read = |(name, hash): (&String, &String)| {
            Hashed::read(hash)
                .map(|hash| (name.as_bytes().to_vec(), hash))
                .map_err(|reason| (name.clone(), reason))
        };
        Ok(Self { by_name: users.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// `None` when there are no users and everybody may enter.
    #[must_use]
    pub fn check(&self, user: &[u8], password: &[u8]) -> Option<bool> {
        if self.by_name.is_empty() {
            return None;
        }
        Some(match self.by_name.get(user) {
            Some(hashed) => hashed.matches(password),
            None => {
                let nobody = Hashed { salt: vec![0; SALT_LEN], hash: [0; 32] };
                let _as_long_as_for_a_user = std::hint::black_box(nobody.matches(password));
                false
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_known_user_enters() {
        let hashed = Hashed::new(b"secret").unwrap();
        assert_ne!(hashed, Hashed::new(b"secret").unwrap(), "salts differ");
        let users = Users::read(&BTreeMap::from([("default".to_owned(), hashed.write())])).unwrap();
        assert_eq!(users.check(b"default", b"secret"), Some(true));
        assert_eq!(users.check(b"default", b"Secret"), Some(false));
        assert_eq!(users.check(b"default", b""), Some(false));
        assert_eq!(users.check(b"other", b"secret"), Some(false));
        assert_eq!(Users::default().check(b"default", b""), None);
    }

    #[test]
    fn a_hash_that_is_none_is_refused() {
        for text in ["", "secret", "md5$00$00", "sha256$00$00", "sha256$0011223344556677$zz"] {
            assert!(Hashed::read(text).is_err(), "{text}");
        }
        let good = Hashed::new(b"x").unwrap();
        assert_eq!(Hashed::read(&good.write()), Ok(good));
    }
}
