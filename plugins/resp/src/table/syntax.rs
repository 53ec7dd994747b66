//! Usage texts as trees: what `COMMAND DOCS` lists as arguments, read from a row's syntax.
//!
//! ```text
//! sequence    = alternative { "|" alternative }
//! alternative = { TOKEN | name | "[" sequence [ "..." ] "]" | "(" sequence ")" }
//! ```
//! What stands in brackets may be left out; parentheses only hold a choice together.
//! A token with names behind it owns them; `key [key ...]` is one argument given many times.

/// What kind of thing an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A leaf, by its type's name.
    Leaf(&'static str),
    /// One of several.
    OneOf(Vec<Arg>),
    /// Several together.
    Block(Vec<Arg>),
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arg {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) token: Option<String>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
}

/// Reads a row's syntax.
pub(super) fn parse(syntax: &str) -> Vec<Arg> {
    let mut spaced = String::with_capacity(2 * syntax.len());
    for c in syntax.chars() {
        match c {
            '[' | ']' | '(' | ')' | '|' => spaced.extend([' ', c, ' ']),
            _ => spaced.push(c),
        }
    }
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    sequence(&words, &mut at).0
}

/// Reads up to a closing bracket; also says whether it ended with dots.
fn sequence(words: &[&str], at: &mut usize) -> (Vec<Arg>, bool) {
    let (mut alternatives, mut dots) = (vec![Vec::new()], false);
    while *at < words.len() && !matches!(words[*at], "]" | ")") {
        let word = words[*at];
        *at += 1;
        let last = alternatives.last_mut().expect("never empty");
        match word {
            "|" => alternatives.push(Vec::new()),
            "..." => dots = true,
            "[" => {
                let (inner, many) = sequence(words, at);
                *at += 1;
                group(last, inner, many);
            }
            "(" => {
                let (mut inner, _) = sequence(words, at);
                *at += 1;
                last.append(&mut inner);
            }
            _ if word.starts_with(|c: char| c.is_ascii_uppercase()) => {
                let arg = token(word, words, at);
                alternatives.last_mut().expect("never empty").push(arg);
            }
            _ => last.push(leaf(word)),
        }
    }
    if alternatives.len() == 1 {
        return (alternatives.remove(0), dots);
    }
    // Names before the first alternative's own do not occur: a choice stands in its brackets, or
    // begins the arguments, or follows whole ones.
    let tail = alternatives.last_mut().map(|a| a.split_off(1.min(a.len()))).unwrap_or_default();
    let before = alternatives[0].len().saturating_sub(1);
    let head = alternatives[0].split_off(before);
    let mut out = std::mem::replace(&mut alternatives[0], head);
    let choices: Vec<Arg> = alternatives.into_iter().map(block).collect();
    let name = choices.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join("-or-");
    out.push(Arg {
        name,
        kind: Kind::OneOf(choices),
        token: None,
        optional: false,
        multiple: false,
    });
    out.extend(tail);
    (out, dots)
}

/// A token, with the names that belong to it: inside a choice, all up to the next bar or bracket.
fn token(word: &str, words: &[&str], at: &mut usize) -> Arg {
    let mut owned = Vec::new();
    while let Some(next) = words.get(*at) {
        if !next.starts_with(|c: char| c.is_ascii_lowercase()) || !takes_names(word) {
            break;
        }
        owned.push(leaf(next));
        *at += 1;
    }
    let mut arg = match owned.len() {
        0 => leaf(word),
        1 => owned.remove(0),
        _ => Arg {
            name: word.to_ascii_lowercase(),
            kind: Kind::Block(owned),
            token: None,
            optional: false,
            multiple: false,
        },
    };
    if matches!(arg.kind, Kind::Leaf("pure-token")) {
        arg.name = word.to_ascii_lowercase();
    }
    arg.token = Some(word.to_owned());
    arg
}

/// Bare words of BITOP stand before arguments of the command itself.
fn takes_names(word: &str) -> bool {
    !matches!(word, "AND" | "OR" | "XOR" | "NOT")
}

/// Adds a bracketed part to what stands before it.
fn group(before: &mut Vec<Arg>, mut inner: Vec<Arg>, many: bool) {
    let same = before.len() >= inner.len()
        && many
        && before[before.len() - inner.len()..].iter().zip(&inner).all(|(a, b)| a.name == b.name);
    if same {
        let mut repeated = block(before.split_off(before.len() - inner.len()));
        repeated.multiple = true;
        before.push(repeated);
        return;
    }
    if !many && inner.iter().all(|a| a.optional) {
        before.append(&mut inner);
        return;
    }
    let mut arg = block(inner);
    (arg.optional, arg.multiple) = (true, arg.multiple || many);
    before.push(arg);
}

/// Several arguments as one.
fn block(mut args: Vec<Arg>) -> Arg {
    if args.len() == 1 {
        return args.remove(0);
    }
    let name = args.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join("-");
    Arg { name, kind: Kind::Block(args), token: None, optional: false, multiple: false }
}

fn leaf(word: &str) -> Arg {
    let kind = match word {
        "key" | "key1" | "key2" | "destkey" | "newkey" | "source" | "destination" => "key",
        "seconds" | "milliseconds" | "start" | "end" | "offset" | "increment" | "decrement"
        | "count" | "len" | "bit" | "ttl" | "frequency" | "numkeys" | "numreplicas" | "timeout"
        | "index" | "protover" | "cursor" | "client-id" | "slot" | "destination-db" => "integer",
        "longitude" | "latitude" | "radius" | "width" | "height" => "double",
        "pattern" => "pattern",
        _ if word.starts_with("unix-time") => "unix-time",
        _ if word.starts_with(|c: char| c.is_ascii_uppercase()) => "pure-token",
        _ => "string",
    };
    Arg {
        name: word.to_ascii_lowercase(),
        kind: Kind::Leaf(kind),
        token: None,
        optional: false,
        multiple: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(args: &[Arg]) -> String {
        let one = |a: &Arg| {
            let inner = match &a.kind {
                Kind::Leaf(kind) => (*kind).to_owned(),
                Kind::OneOf(args) => format!("one({})", show(args)),
                Kind::Block(args) => format!("all({})", show(args)),
            };
            let token = a.token.as_deref().unwrap_or("");
            let marks = [(a.optional, "?"), (a.multiple, "*")];
            let marks: String = marks.iter().filter(|m| m.0).map(|m| m.1).collect();
            format!("{token}:{inner}{marks}")
        };
        args.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn usage_texts_become_argument_trees() {
        for (syntax, tree) in [
            ("", ""),
            ("key", ":key"),
            ("key [key ...]", ":key*"),
            ("key value [key value ...]", ":all(:key :string)*"),
            ("key seconds [NX|XX]", ":key :integer :one(NX:pure-token XX:pure-token)?"),
            ("cursor [MATCH pattern] [COUNT count]", ":integer MATCH:pattern? COUNT:integer?"),
            ("[message]", ":string?"),
            ("key [EX seconds|PERSIST]", ":key :one(EX:integer PERSIST:pure-token)?"),
            ("AND|OR destkey key [key ...]", ":one(AND:pure-token OR:pure-token) :key :key*"),
            (
                "key (A a|B b c) X x (M|KM) [Y]",
                ":key :one(A:string B:all(:string :string)) X:string \
                 :one(M:pure-token KM:pure-token) Y:pure-token?",
            ),
            (
                "key [start end [BYTE|BIT]]",
                ":key :all(:integer :integer :one(BYTE:pure-token BIT:pure-token)?)?",
            ),
        ] {
            assert_eq!(show(&parse(syntax)), tree, "{syntax}");
        }
    }

    #[test]
    fn every_row_has_a_syntax_that_reads() {
        for spec in &super::super::TABLE {
            let args = parse(spec.syntax);
            assert!(args.iter().all(|a| !a.name.is_empty()), "{}", spec.name);
        }
    }
}
