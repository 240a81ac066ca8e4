//! What Laravel makes of an application's name: `Illuminate\Support\Str::slug`.
//!
//! Letters of Latin alphabets become ASCII as `voku/portable-ascii` does it; all others are left out there or spelled by
//! tables that are not here. Compared with the real class in `tests/env_file.rs`.

/// A name as the beginning of a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slug {
    pub(crate) text: String,
    /// There are letters in the name of which Laravel may make something else.
    pub(crate) is_doubtful: bool,
}

/// `My Café` becomes `my_cafe` with the separator `_`.
pub(crate) fn slug(name: &str, separator: char) -> Slug {
    let flipped = if separator == '-' { '_' } else { '-' };
    let mut spelled = String::new();
    let mut is_doubtful = false;
    for c in name.chars() {
        match in_ascii(c) {
            Some(text) => spelled.push_str(text),
            None if c.is_ascii() && (!c.is_control() || matches!(c, '\t' | '\n' | '\r')) => spelled.push(c),
            None => is_doubtful |= c.is_alphabetic() && c > '\u{24f}',
        }
    }
    let spelled = spelled.replace(flipped, &separator.to_string()).replace('@', &format!("{separator}at{separator}"));
    let mut text = String::new();
    for c in spelled.to_lowercase().chars() {
        if c == separator || c.is_whitespace() {
            if !text.ends_with(separator) {
                text.push(separator);
            }
        } else if c.is_ascii_alphanumeric() {
            text.push(c);
        }
    }
    Slug { text: text.trim_matches(separator).to_owned(), is_doubtful }
}

fn in_ascii(c: char) -> Option<&'static str> {
    if c.is_ascii() {
        return None;
    }
    SPELLINGS.iter().find(|(_, letters)| letters.contains(c)).map(|(text, _)| *text)
}

/// What is not here, of U+0080 to U+024F, is left out.
#[rustfmt::skip]
const SPELLINGS: [(&str, &str); 41] = [
    (" ", "\u{a0}\u{2002}\u{2003}\u{2009}\u{202f}"),
    ("-", "\u{2013}\u{2014}"),
    ("1", "¹"),
    ("2", "²"),
    ("3", "³"),
    ("a", "ªÀÁÂÃÄÅàáâãäåĀāĂăĄąǍǎǺǻȦȧȺ"),
    ("ae", "ÆæǼǽ"),
    ("b", "Ɓ"),
    ("c", "¢ÇçĆćĈĉĊċČčȻȼ"),
    ("d", "ÐðĎďĐđ"),
    ("db", "ȸ"),
    ("dz", "Ǳǲǳ"),
    ("e", "ÈÉÊËèéêëĒēĔĕĖėĘęĚěƏȨȩɆɇ"),
    ("eur", "€"),
    ("f", "ƒ"),
    ("g", "ĜĝĞğĠġĢģ"),
    ("h", "ĤĥĦħ"),
    ("i", "ÌÍÎÏìíîïĨĩĪīĬĭĮįİıƗǏǐ"),
    ("ij", "Ĳĳ"),
    ("j", "ĴĵǰɈɉ"),
    ("k", "Ķķĸ"),
    ("l", "ĹĺĻļĽľĿŀŁłƚȽ"),
    ("lj", "Ǉǈǉ"),
    ("n", "ÑñŃńŅņŇňŉŊŋǸǹ"),
    ("nj", "Ǌǋǌ"),
    ("o", "ºÒÓÔÕÖØòóôõöøŌōŎŏŐőƟƠơǑǒǪǫǾǿȮȯ"),
    ("oe", "Œœ"),
    ("ps", "£"),
    ("qp", "ȹ"),
    ("r", "ŔŕŖŗŘř"),
    ("s", "ŚśŜŝŞşŠšſȘș"),
    ("ss", "ß"),
    ("t", "ŢţŤťŦŧȚțȾ"),
    ("th", "Þþ"),
    ("u", "ÙÚÛÜùúûüŨũŪūŬŭŮůŰűŲųƯưƱǓǔǕǖǗǘǙǚǛǜɄ"),
    ("uah", "₴"),
    ("w", "Ŵŵ"),
    ("y", "ÝýÿŶŷŸȲȳɎɏ"),
    ("yen", "¥"),
    ("z", "ŹźŻżŽžƵƶ"),
    // The sign of a currency that is not named becomes a dollar and a question mark, both of which are dropped.
    ("", "¤"),
];
