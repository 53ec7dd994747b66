//! `cargo xtask tidy`: the house rules that are facts. Taste stays with people.
//! Each rule is a pure function from the tree's text to findings, so that each is tested on a
//! planted bad tree; this file only gathers the tree and prints.

mod claims;
mod edges;
mod headers;
mod leftovers;
mod links;
mod rust_source;

use crate::{Failure, paths};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Path from the checkout's top.
    path: String,
    /// Line, from 1; 0 when the whole file is meant.
    line: usize,
    /// The broken rule, as a sentence.
    says: String,
}

impl Finding {
    fn new(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, says: says.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.says),
            line => write!(out, "{}:{line}: {}", self.path, self.says),
        }
    }
}

/// The tracked text files of a tree by their path from its top.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    /// Every tracked path, text or not.
    paths: Vec<String>,
}

impl Tree {
    fn tracked() -> Result<Self, Failure> {
        let listing = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(paths::root())
            .output()
            .map_err(|error| format!("cannot start git: {error}"))?;
        if !listing.status.success() {
            return Err("git ls-files failed: tidy checks tracked files".to_owned());
        }
        let names = String::from_utf8_lossy(&listing.stdout);
        Ok(Self::read(paths::root(), names.split('\0').filter(|name| !name.is_empty())))
    }

    fn read<'a>(root: &Path, names: impl Iterator<Item = &'a str>) -> Self {
        let mut tree = Self { files: BTreeMap::new(), paths: Vec::new() };
        // A file that was deleted but not yet committed is no longer of the tree.
        for name in names.filter(|name| root.join(name).exists()) {
            tree.paths.push(name.to_owned());
            if let Ok(text) = fs::read_to_string(root.join(name)) {
                tree.files.insert(name.to_owned(), text);
            }
        }
        tree
    }

    #[cfg(test)]
    fn planted(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("inside the folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        Self::read(folder.path(), files.iter().map(|(name, _)| *name))
    }

    /// Files whose name ends in one of `endings`.
    fn ending_in<'a>(
        &'a self,
        endings: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.files
            .iter()
            .filter(|(name, _)| endings.iter().any(|ending| name.ends_with(ending)))
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

/// Checks the checkout; each finding is printed on a line of its own.
pub(crate) fn run() -> Result<(), Failure> {
    let tree = Tree::tracked()?;
    let mut findings = Vec::new();
    findings.extend(headers::check(&tree));
    findings.extend(leftovers::check(&tree));
    findings.extend(links::check(&tree));
    findings.extend(claims::check(&tree));
    findings.extend(edges::check(&edges::workspace()?));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files hold to the rules", tree.paths.len());
            Ok(())
        }
        count => Err(format!("tidy: {count} findings")),
    }
}
