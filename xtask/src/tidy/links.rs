//! Relative links in Markdown lead to something that is tracked, anchors to a heading of it.

use super::{Finding, Tree};
use std::collections::BTreeMap;

/// Findings over all tracked Markdown files.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(&[".md"]) {
        for (line, target) in targets(text) {
            let (file, anchor) = match target.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor)),
                None => (target.as_str(), None),
            };
            let file = if file.is_empty() { path.to_owned() } else { resolve(path, file) };
            if !exists(tree, &file) {
                findings.push(Finding::new(path, line, format!("link to {target}: no such file")));
            } else if let (Some(anchor), Some(text)) = (anchor, tree.files.get(&file))
                && file.ends_with(".md")
                && !anchors(text).contains_key(anchor)
            {
                let says = format!("link to {target}: no such heading");
                findings.push(Finding::new(path, line, says));
            }
        }
    }
    findings
}

fn exists(tree: &Tree, file: &str) -> bool {
    let folder = format!("{}/", file.trim_end_matches('/'));
    file.is_empty() || tree.paths.iter().any(|path| path == file || path.starts_with(&folder))
}

/// The path from the top that `link` means in the file `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                if parts.pop().is_none() {
                    return link.to_owned();
                }
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Relative link and image targets with their line, outside of code blocks and code spans.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, prose) in prose_lines(text) {
        let prose = without_code_spans(prose);
        let mut rest = prose.as_str();
        while let Some(open) = rest.find("](") {
            rest = &rest[open + 2..];
            let Some(close) = rest.find(')') else { break };
            let target = rest[..close].split_whitespace().next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push((line, target.to_owned()));
            }
            rest = &rest[close..];
        }
    }
    found
}

fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

fn without_code_spans(line: &str) -> String {
    // An odd number of ticks means that the last one opens nothing.
    let parts: Vec<&str> = line.split('`').collect();
    parts.iter().step_by(2).copied().collect::<Vec<_>>().join(" ")
}

/// The anchors that headings get: lower case, blanks as hyphens, punctuation gone, repeats numbered.
fn anchors(text: &str) -> BTreeMap<String, usize> {
    let mut anchors = BTreeMap::new();
    for (line, prose) in prose_lines(text) {
        let title = prose.trim_start_matches('#');
        if title.len() == prose.len() || !title.starts_with(' ') {
            continue;
        }
        let slug: String = title
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
            .collect();
        let mut name = slug.clone();
        let mut repeat = 0;
        while anchors.contains_key(&name) {
            repeat += 1;
            name = format!("{slug}-{repeat}");
        }
        anchors.insert(name, line);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(readme: &str) -> Vec<usize> {
        let tree = Tree::planted(&[
            ("README.md", readme),
            ("docs/a.md", "# The First `Page`\n## Twice\n## Twice\n[up](../README.md)\n"),
            ("docs/picture.svg", "<svg/>"),
        ]);
        check(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_files_folders_and_headings_are_followed() {
        assert!(
            findings("[a](docs/a.md) ![p](docs/picture.svg)\n[d](docs/) [e](./docs)\n").is_empty()
        );
        assert!(findings("[a](docs/a.md#the-first-page) [b](docs/a.md#twice-1)\n").is_empty());
        assert!(findings("# Here\n[a](#here) [w](https://example.org/x.md)\n").is_empty());
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        assert_eq!(findings("fine\n[a](docs/b.md)\n"), [2]);
        assert_eq!(findings("![p](picture.svg)\n"), [1]);
        assert_eq!(findings("[a](docs/a.md#no-such)\n"), [1]);
        assert_eq!(findings("[a](../../a.md)\n"), [1]);
    }

    #[test]
    fn what_stands_in_code_is_no_link() {
        assert!(findings("`[a](b.md)`\n```\n[a](c.md)\n```\n").is_empty());
    }
}
