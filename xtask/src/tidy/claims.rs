//! Tests that a document names are there: `docs/RELIABILITY.md` shows each promise by tests, and a test
//! that was renamed or removed would leave a promise that nothing shows.

use super::{Finding, Tree};
use std::collections::BTreeSet;

const DOCUMENTS: [&str; 2] = ["docs/RELIABILITY.md", "SECURITY.md"];
/// A name this long with underscores is that of a test, not of a setting.
const NAME_LEN_MIN: usize = 20;

/// Findings over the documents.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let defined: BTreeSet<&str> = tree
        .ending_in(&[".rs", ".py"])
        .flat_map(|(_, text)| text.lines().flat_map(|line| defined(line)))
        .collect();
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(&DOCUMENTS) {
        for (number, line) in text.lines().enumerate() {
            for name in named(line).filter(|name| !defined.contains(name)) {
                findings.push(Finding::new(path, number + 1, format!("no test is named {name}")));
            }
        }
    }
    findings
}

/// Functions that a line defines; the claims of a table of tests are names before a colon.
fn defined(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let function = ["fn ", "pub fn ", "def ", "async fn "].iter().find_map(|word| {
        let name = line.strip_prefix(word)?;
        name.split(['(', '<']).next()
    });
    function.or_else(|| line.split_once(": ").map(|(name, _)| name).filter(|name| is_name(name)))
}

fn is_name(text: &str) -> bool {
    text.len() >= NAME_LEN_MIN
        && text.contains('_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Names of tests in the code spans of a line.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|span| is_name(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(document: &str) -> Vec<usize> {
        let tree = Tree::planted(&[
            ("docs/RELIABILITY.md", document),
            (
                "a.rs",
                "#[test]\nfn nothing_is_lost_over_a_restart() {}\n    a_claim_of_a_table: \"x\";\n",
            ),
            ("b.py", "def test_a_killed_server_comes_back(server):\n    pass\n"),
        ]);
        check(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn named_tests_are_looked_for_in_every_language() {
        assert!(lines("`nothing_is_lost_over_a_restart`\n").is_empty());
        assert!(lines("| x | `test_a_killed_server_comes_back` |\n").is_empty());
        assert!(lines("`cargo xtask faults`, `limits.max_connections_per_address`\n").is_empty());
        assert_eq!(lines("fine\n`nothing_is_lost_over_a_crash`\n"), [2]);
    }

    #[test]
    fn a_claim_in_a_table_of_tests_counts() {
        assert_eq!(
            defined("    a_claim_of_a_whole_table: \"x\";"),
            Some("a_claim_of_a_whole_table")
        );
        assert_eq!(defined("    let x: u8 = 1;"), None);
    }
}
