//! A flame graph as one SVG: stacks that share their beginnings share a box.
//!
//! What must always be true: text of the program is escaped; boxes narrower than a pixel are left
//! out, so that the picture stays small. Called by `/profile`.
//!
//! Source of the form: Brendan Gregg, "The Flame Graph", CACM 59(6), 2016; drawn from the top down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 42.0;
/// Width of a letter of the font, about.
const LETTER: f64 = 6.6;

/// Stacks by function, outermost first.
#[derive(Debug, Default)]
pub struct Flame {
    count: u64,
    inner: BTreeMap<String, Flame>,
}

impl Flame {
    /// Adds a stack, innermost first, that was seen so many times.
    pub fn add(&mut self, names: &[String], times: u64) {
        self.count += times;
        if let Some((outermost, rest)) = names.split_last() {
            self.inner.entry(outermost.clone()).or_default().add(rest, times);
        }
    }

    /// How many stacks were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn depth(&self) -> usize {
        self.inner.values().map(|f| 1 + f.depth()).max().unwrap_or(0)
    }

    /// One line a stack: functions with `;` between, outermost first, and a number.
    #[must_use]
    pub fn folded(&self) -> String {
        let mut text = String::new();
        self.fold("", &mut text);
        text
    }

    fn fold(&self, path: &str, text: &mut String) {
        let own = self.count - self.inner.values().map(|f| f.count).sum::<u64>();
        if own > 0 && !path.is_empty() {
            let _ = writeln!(text, "{path} {own}");
        }
        for (name, inner) in &self.inner {
            let name = name.replace([';', '\n'], ":");
            let path = if path.is_empty() { name } else { format!("{path};{name}") };
            inner.fold(&path, text);
        }
    }

    /// The picture.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        let height = TOP + ROW * (self.depth() as f64 + 1.0);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"ui-monospace,monospace\" font-size=\"11\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>\
             <text x=\"8\" y=\"26\" font-size=\"15\">{}</text>\n",
            escaped(title)
        );
        if self.count == 0 {
            text.push_str("<text x=\"8\" y=\"44\">every worker slept all the time</text>\n");
        }
        self.boxes(0.0, 0, self.count.max(1), &mut text);
        text.push_str("</svg>\n");
        text
    }

    fn boxes(&self, from: f64, depth: usize, all: u64, text: &mut String) {
        let mut x = from;
        for (name, inner) in &self.inner {
            let width = inner.count as f64 / all as f64 * WIDTH;
            if width >= 1.0 {
                let y = TOP + ROW * depth as f64;
                let share = inner.count as f64 / all as f64 * 100.0;
                let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
                let label: String = if letters < 3 {
                    String::new()
                } else if name.chars().count() <= letters {
                    name.clone()
                } else {
                    name.chars().take(letters - 1).chain(['…']).collect()
                };
                let _ = writeln!(
                    text,
                    "<g><title>{} ({} samples, {share:.1} %)</title>\
                     <rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>\
                     <text x=\"{:.1}\" y=\"{}\">{}</text></g>",
                    escaped(name),
                    inner.count,
                    (width - 0.6).max(0.4),
                    ROW - 1.0,
                    colour(name),
                    x + 3.0,
                    y + 12.0,
                    escaped(&label)
                );
                inner.boxes(x, depth + 1, all, text);
            }
            x += width;
        }
    }
}

/// A warm colour that belongs to the name; cold for the system's libraries.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
    let hue = if name.contains("::") { hash % 45 + 8 } else { hash % 40 + 190 };
    format!("hsl({hue},78%,{}%)", 66 + hash / 64 % 14)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_that_begin_alike_share_a_box_and_names_are_escaped() {
        let stack = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut flame = Flame::default();
        flame.add(&stack(&["a::leaf<T>", "main"]), 3);
        flame.add(&stack(&["b::leaf", "main"]), 1);
        flame.add(&stack(&["main"]), 1);
        assert_eq!(flame.folded(), "main 1\nmain;a::leaf<T> 3\nmain;b::leaf 1\n");
        let svg = flame.svg("5 <samples>");
        assert!(svg.contains("a::leaf&lt;T&gt; (3 samples, 60.0 %)") && !svg.contains("<T>"));
        assert_eq!(svg.matches("<title>main (5 samples").count(), 1);
        assert!(Flame::default().svg("x").contains("slept"));
    }
}
