//! Reads items out of a source file, as far as a listing of the public ones needs it: no macro is expanded
//! and no type is resolved.

/// An item: what is written before its body, in one line and without attributes; its attributes; its body.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) attributes: String,
    pub(crate) header: String,
    pub(crate) body: Option<String>,
}

impl Item {
    fn new(text: &str, body: Option<String>) -> Item {
        let (attributes, header) = split_attributes(text);
        Item {
            attributes: one_line(attributes),
            header: one_line(header),
            body,
        }
    }
}

/// The items of a file or of a body, in order. `text` is [`plain`].
pub(crate) fn items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text;
    while let Some(end) = end_of_header(rest) {
        let header = &rest[..end];
        rest = &rest[end..];
        let mut body = None;
        if rest.starts_with('{') {
            let length = length_of_group(rest);
            body = Some(rest[1..length - 1].to_owned());
            rest = &rest[length..];
        } else {
            rest = &rest[1..];
        }
        items.push(Item::new(header, body));
    }
    items
}

/// The parts of a body between its commas: fields, variants.
pub(crate) fn parts(body: &str) -> Vec<Item> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, c) in body.char_indices() {
        depth += i32::from("([{<".contains(c)) - i32::from(")]}>".contains(c));
        if c == ',' && depth == 0 {
            parts.push(Item::new(&body[start..at], None));
            start = at + 1;
        }
    }
    parts.push(Item::new(&body[start..], None));
    parts.retain(|part| !part.header.is_empty());
    parts
}

/// Where the body begins, or the semicolon is, outside of parentheses and brackets. An import has braces in
/// its header.
fn end_of_header(text: &str) -> Option<usize> {
    let is_import = {
        let (_, header) = split_attributes(text);
        let words: Vec<_> = header.split_whitespace().take(2).collect();
        matches!(
            words[..],
            ["use", ..] | ["pub" | "pub(crate)" | "pub(super)", "use"]
        )
    };
    let mut depth = 0_i32;
    for (at, c) in text.char_indices() {
        depth += i32::from("([".contains(c)) - i32::from(")]".contains(c));
        match c {
            ';' if depth == 0 => return Some(at),
            '{' if depth == 0 && !is_import => return Some(at),
            _ => {}
        }
    }
    None
}

/// The length of what begins with a brace, up to the one that closes it.
fn length_of_group(text: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn split_attributes(text: &str) -> (&str, &str) {
    let mut header = text.trim_start();
    while header.starts_with("#[") || header.starts_with("#![") {
        let mut depth = 0_i32;
        let end = header.char_indices().find(|&(_, c)| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            c == ']' && depth == 0
        });
        header = header[end.map_or(header.len(), |(at, _)| at + 1)..].trim_start();
    }
    (&text[..text.len() - header.len()], header)
}

/// Without line breaks, and without what rustfmt adds where it breaks a line.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line
        .replace("( ", "(")
        .replace(", )", ")")
        .replace(" )", ")");
    let line = line
        .replace("< ", "<")
        .replace(", >", ">")
        .replace(" ::", "::");
    line.trim_end_matches(',').to_owned()
}

/// A source without comments, the insides of literals, and tests.
pub(crate) fn plain(source: &str) -> String {
    let source = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(source);
    let code = source.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("//") => "",
        _ => line.split(" // ").next().unwrap_or(line),
    });
    without_literals(&code.collect::<Vec<_>>().join("\n"))
}

fn without_literals(code: &str) -> String {
    let mut out = String::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '"' {
            while let Some(inside) = chars.next() {
                match inside {
                    '\\' => drop(chars.next()),
                    '"' => break,
                    _ => {}
                }
            }
            out.push('"');
        }
    }
    // Those of the characters that are counted above.
    ["'{'", "'}'", "'['", "']'", "'('", "')'", "';'"]
        .iter()
        .fold(out, |out, literal| out.replace(literal, "' '"))
}
