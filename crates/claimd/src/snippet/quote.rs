//! Texts as literals of a language. They are device names: no control characters, no line breaks of any alphabet, no
//! direction marks; everything else may be in them.

use crate::cli::snippet::Lang;

/// The text as an expression.
pub(super) fn literal(lang: Lang, text: &str) -> String {
    match lang {
        Lang::Shell => shell(text),
        // A question mark could begin a trigraph.
        Lang::C => quoted(text, &['"', '\\', '?']),
        Lang::Python | Lang::Node | Lang::Rust => quoted(text, &['"', '\\']),
    }
}

/// The text as one word of a POSIX shell: between single quotes only a single quote means anything.
pub(super) fn shell(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quoted(text: &str, escaped: &[char]) -> String {
    let mut whole = String::with_capacity(text.len() + 2);
    whole.push('"');
    for c in text.chars() {
        if escaped.contains(&c) {
            whole.push('\\');
        }
        whole.push(c);
    }
    whole.push('"');
    whole
}
