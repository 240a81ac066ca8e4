//! Rust sources as text: how long their functions are, with comments and literals out of the way.

/// The part of a file before its unit tests.
pub(crate) fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Name and length in lines of each function that has a body.
pub(crate) fn functions(text: &str) -> Vec<(String, usize)> {
    let blank = blank(text);
    let mut found = Vec::new();
    for (at, _) in blank.match_indices("fn ") {
        let name: String = blank[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let starts_word = !blank[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !name.is_empty()
            && starts_word
            && let Some(length) = body(&blank[at..])
        {
            found.push((name, length));
        }
    }
    found
}

/// Lines from here to the brace that closes the first body; `None` for a function without one.
fn body(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut brackets = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(text[..at].matches('\n').count() + 1),
            '}' => depth -= 1,
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The same text, line for line, with comments and literals as blanks.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, out.chars().next_back());
        match length {
            Some(length) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// The length in bytes of the comment or literal that begins here.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |at| at + 2));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && !(in_word && before != Some('b')) {
        let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            return Some(rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len()));
        }
    }
    match rest.as_bytes()[0] {
        b'"' => Some(closing(rest, '"')),
        b'\'' if rest[1..].starts_with('\\') => Some(closing(rest, '\'')),
        // A lifetime has no second quote right after its first letter.
        b'\'' => {
            let letter = rest[1..].chars().next()?.len_utf8();
            rest[1 + letter..].starts_with('\'').then_some(letter + 2)
        }
        _ => None,
    }
}

/// Where a quoted literal ends, escapes heeded.
fn closing(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn functions_are_measured_around_comments_and_literals() {
    let text = "fn a() {\n  let s = \"}\"; // }\n  let c = '}';\n}\nfn b<'a>(x: [u8; 3]);\nfn c() -> &'static str { r#\"{\"# }\n";
    let found = functions(text);
    assert_eq!(found, [("a".to_owned(), 4), ("c".to_owned(), 1)]);
}
