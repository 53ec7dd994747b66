//! Words that mean "not finished": they may stand in a working copy, never in a commit.

use super::rust_source::{code_only, lines_with};
use super::{Finding, Tree};

/// Macros that stand for code to come or for a look inside.
const MACROS: [&str; 3] = ["dbg", "todo", "unimplemented"];
/// The mark of a known fault, split so that this file does not find itself.
const MARK: &str = concat!("FIX", "ME");
/// What counts as code besides Rust.
const CODE: [&str; 6] = [".rs", ".py", ".sh", ".toml", ".yml", ".js"];

/// Findings over all tracked code.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(&[".rs"]) {
        let code = code_only(text);
        for name in MACROS {
            for line in lines_with(&code, name, "!") {
                findings.push(Finding::new(path, line, format!("leftover `{name}!`")));
            }
        }
    }
    for (path, text) in tree.ending_in(&CODE) {
        for (index, line) in text.lines().enumerate() {
            if line.contains(MARK) {
                findings.push(Finding::new(path, index + 1, format!("leftover {MARK}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftover_macros_are_found_where_they_stand() {
        let tree = Tree::planted(&[
            ("a.rs", "//! A.\nfn f() {\n    todo!()\n}\nfn g() { dbg!(1); }\n"),
            ("b.rs", "//! B: about todo!() and dbg!().\nconst S: &str = \"unimplemented!()\";\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|f| (f.path, f.line)).collect();
        assert_eq!(found, [("a.rs".to_owned(), 5), ("a.rs".to_owned(), 3)]);
    }

    #[test]
    fn the_mark_is_found_in_comments_of_every_language() {
        let text = format!("# {MARK}: later\n");
        let tree = Tree::planted(&[("a.py", &text), ("b.toml", &text), ("c.md", &text)]);
        let found: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["a.py", "b.toml"]);
    }
}
