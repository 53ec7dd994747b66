//! What the head of each Rust file must say: a `//!` in the first line, and a `# Safety`
//! paragraph in that header when the file holds unsafe code.

use super::rust_source::{code_only, lines_with};
use super::{Finding, Tree};

/// Findings over all tracked Rust files.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(&[".rs"]) {
        if !text.starts_with("//!") {
            findings.push(Finding::new(path, 1, "opens without a `//!` that says what it is"));
        }
        let code = code_only(text);
        if let Some(line) = lines_with(&code, "unsafe", "").first()
            && !header_lines(text).any(|line| line.trim_start_matches("//!").trim() == "# Safety")
        {
            let says = "unsafe code in a file whose header has no `# Safety` paragraph";
            findings.push(Finding::new(path, *line, says));
        }
    }
    findings
}

fn header_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.starts_with("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Tree::planted(&[("a.rs", text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(lines("use std::fs;\n"), [1]);
        assert_eq!(lines("\n//! Late.\n"), [1]);
        assert_eq!(lines("// A plain comment.\n"), [1]);
        assert!(lines("//! What it is.\n").is_empty());
    }

    #[test]
    fn unsafe_code_asks_for_a_safety_paragraph_in_the_header() {
        let body = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(lines(&format!("//! What.\n{body}")), [3]);
        assert_eq!(lines(&format!("//! What.\n\n/// # Safety\n{body}")), [5]);
        assert!(lines(&format!("//! What.\n//!\n//! # Safety\n//! Why.\n{body}")).is_empty());
    }

    #[test]
    fn the_word_unsafe_in_text_or_in_a_lint_name_asks_for_nothing() {
        assert!(lines("//! What.\n#![deny(unsafe_code)]\n// unsafe\n").is_empty());
    }
}
