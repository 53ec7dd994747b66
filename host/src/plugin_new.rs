//! `crucible-host plugin new`: a crate to begin with.
//!
//! What must always be true: what is written builds, passes its own tests and
//! `plugin check` as it stands, because it is made of the example plugins that
//! the project's own tests build out of tree. An existing file is never
//! overwritten. Called by `plugin_commands`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::NewKind;

const PROTOCOL_SOURCE: &str = include_str!("../../examples/third-party/notes/src/lib.rs");
const PROTOCOL_MANIFEST: &str = include_str!("../../examples/third-party/notes/Cargo.toml");
const BACKEND_SOURCE: &str = include_str!("../../examples/third-party/lru/src/lib.rs");
const BACKEND_MANIFEST: &str = include_str!("../../examples/third-party/lru/Cargo.toml");
const CI: &str = include_str!("templates/ci.yml");
const README: &str = include_str!("templates/README.md");
/// Longest name of a plugin, bytes.
const NAME_LEN_MAX: usize = 40;

/// Why no crate was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// Not a name for a library.
    #[error(
        "{0:?} cannot name a plugin: use lower-case letters, digits and _, with a letter first, at most {NAME_LEN_MAX}"
    )]
    Name(String),
    /// Something is there.
    #[error("{} exists; nothing was overwritten", .0.display())]
    Exists(PathBuf),
    /// A folder or file cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// `--api` leads nowhere.
    #[error("{} is not the folder of crucible-plugin-api: it has no Cargo.toml", .0.display())]
    Api(PathBuf),
}

/// Writes the crate; the files written.
///
/// # Errors
/// One sentence; files written before it stay.
pub fn write(
    kind: NewKind,
    name: &str,
    dir: &Path,
    api: Option<&Path>,
) -> Result<Vec<PathBuf>, NewError> {
    let letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !letter || !rest || name.len() > NAME_LEN_MAX {
        return Err(NewError::Name(name.to_owned()));
    }
    if dir.exists() {
        return Err(NewError::Exists(dir.to_owned()));
    }
    let api = match api {
        None => None,
        Some(api) => match api.canonicalize() {
            Ok(api) if api.join("Cargo.toml").is_file() => Some(api),
            _ => return Err(NewError::Api(api.to_owned())),
        },
    };
    let (source, manifest) = match kind {
        NewKind::Protocol => (
            words(PROTOCOL_SOURCE, &[("Notes", &camel(name)), ("notes", name)])
                .replace("notes_", &format!("{name}_")),
            words(PROTOCOL_MANIFEST, &[("notes", name)]),
        ),
        NewKind::Backend => (
            words(BACKEND_SOURCE, &[("Lru", &camel(name))])
                .replace("\"lru\", SimpleBackend", &format!("\"{name}\", SimpleBackend")),
            words(BACKEND_MANIFEST, &[("lru_store", name)])
                .replace("name = \"crucible-lru\"", &format!("name = \"{name}\"")),
        ),
    };
    let manifest = manifest
        .replace("{ path = \"../../../plugin-api/testkit\" }", &dependency(&api, "testkit"))
        .replace("{ path = \"../../../plugin-api\" }", &dependency(&api, ""));
    let option = match kind {
        NewKind::Protocol => format!("--plugin ./target/release/lib{name}.so@127.0.0.1:7000"),
        NewKind::Backend => format!("--backend ./target/release/lib{name}.so"),
    };
    let readme = README.replace("{name}", name).replace("{option}", &option);
    let mut written = Vec::new();
    for (file, text) in [
        ("Cargo.toml", manifest),
        ("src/lib.rs", source),
        ("README.md", readme),
        (".github/workflows/ci.yml", CI.to_owned()),
        (".gitignore", "/target\n".to_owned()),
    ] {
        let path = dir.join(file);
        put(&path, &text).map_err(|source| NewError::Write { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

fn put(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// The right side of a dependency on the SDK, or on a crate in its folder.
fn dependency(api: &Option<PathBuf>, below: &str) -> String {
    match api {
        None => format!("\"{}\"", crucible_plugin_api::metadata::SDK),
        Some(api) => {
            let path = if below.is_empty() { api.clone() } else { api.join(below) };
            format!("{{ path = {:?} }}", path.display().to_string())
        }
    }
}

/// Replaces whole words.
fn words(text: &str, changes: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        let change = changes.iter().find(|(from, _)| *from == word);
        out.push_str(change.map_or(word.as_str(), |(_, to)| to));
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// `my_store` as a type: `MyStore`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_').filter(|part| !part.is_empty()) {
        let (first, rest) = part.split_at(1);
        out.push_str(&first.to_ascii_uppercase());
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_make_no_library_are_refused() {
        for name in ["", "My", "7up", "a-b", "../x", &"x".repeat(41)] {
            let dir = Path::new("/nonexistent/nowhere");
            let refused = write(NewKind::Protocol, name, dir, None);
            assert!(matches!(refused, Err(NewError::Name(_))), "{name}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let refused = write(NewKind::Backend, "mine", dir.path(), None);
        assert!(matches!(refused, Err(NewError::Exists(_))));
    }

    #[test]
    fn the_new_plugin_bears_its_name_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, other) in [(NewKind::Protocol, "notes"), (NewKind::Backend, "lru_store")] {
            let folder = dir.path().join(other);
            write(kind, "my_thing", &folder, None).unwrap();
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
            assert!(manifest.contains("my_thing") && !manifest.contains("../"), "{manifest}");
            assert!(source.contains("MyThing") && source.contains("(\"my_thing\", "), "{source}");
            assert!(!source.contains(other) && !manifest.contains(other));
        }
    }
}
