//! Escapes untrusted text from hosts, guests and files before it is displayed.
//!
//! A terminal obeys what it prints: escape sequences move the cursor, set the title and write the
//! clipboard (OSC 52); C1 controls do the same in one character; direction overrides show a text in a
//! different order (CVE-2021-42574). Everything that is not printable is therefore shown escaped.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Deref;

/// The longest line shown to a user, in characters; longer ones are not readable at a prompt.
pub const LINE_MOST: usize = 2_000;
/// The most lines of one answer shown to a user.
pub const LINES_MOST: usize = 200;

/// The prefixes of k8sha's own lines, which foreign text must not forge.
const OURS: [&str; 12] = [
    "try:",
    "fix:",
    "error:",
    "warning:",
    "note:",
    "help:",
    "kubeconfig ",
    "log ",
    "next ",
    "time ",
    "SIMULATED",
    "the machine's last lines",
];

/// Whether a terminal only displays the character.
fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ if c.is_ascii() => false,
        // Beyond ASCII, Unicode's categories of controls, formats and unassigned characters.
        _ => c.escape_debug().next() != Some('\\'),
    }
}

/// The text with everything unprintable escaped; line breaks and tabs are kept.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| is_plain(c) || c == '\n' || c == '\t') {
        return Cow::Borrowed(text);
    }
    let text = text.replace("\r\n", "\n");
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) || c == '\n' || c == '\t' {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    Cow::Owned(out)
}

/// The text as one line of at most [`LINE_MOST`] characters, with line breaks and tabs escaped too: for
/// a name, or a phrase in one of k8sha's lines.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let text = text.trim_end_matches(['\n', '\r']);
    if text.chars().all(is_plain) {
        return cut(text, LINE_MOST);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    Cow::Owned(cut(&out, LINE_MOST).into_owned())
}

/// The text's first characters and the number of omitted ones.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            let left = text[end..].chars().count();
            Cow::Owned(format!("{}… ({left} more characters)", &text[..end]))
        }
    }
}

/// The text with each line cut to [`LINE_MOST`] characters.
pub fn cut_lines(text: &str) -> Cow<'_, str> {
    if text.lines().all(|line| line.len() <= LINE_MOST) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        out.push_str(&cut(bare, LINE_MOST));
        out.push_str(&line[bare.len()..]);
    }
    Cow::Owned(out)
}

/// The lines of an answer, made safe: none can be taken for one of k8sha's lines, and of very many only
/// the first and the last are kept, with the number of the others between them.
pub fn lines(text: &str) -> Vec<String> {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let head = if all.len() > LINES_MOST { LINES_MOST / 2 } else { all.len() };
    let tail = all.len() - (LINES_MOST / 2).min(all.len() - head);
    let mut shown: Vec<String> = all[..head].iter().map(|line| quoted(line)).collect();
    if tail > head {
        shown.push(format!("… ({} more lines)", tail - head));
    }
    shown.extend(all[tail..].iter().map(|line| quoted(line)));
    shown
}

fn quoted(line: &str) -> String {
    let line = cut(line.trim_end_matches('\r'), LINE_MOST);
    let line = printable(&line).into_owned();
    let start = line.trim_start();
    if OURS.iter().any(|word| start.starts_with(word)) { format!("| {line}") } else { line }
}

/// JSON as `serde_json` writes it, with every unprintable character as a JSON escape: its meaning does
/// not change.
pub fn json(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) || c == '\n' {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    Cow::Owned(out)
}

/// Text with k8sha's own styling in it, such as colours: the only text that reaches a terminal
/// unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Styled(String);

impl Styled {
    /// Takes text whose foreign parts have been made safe; the caller is responsible for that.
    pub fn ours(text: String) -> Self {
        Self(text)
    }
}

impl Deref for Styled {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Styled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ESC with OSC 52, C1's CSI, a direction override, BEL, backspace, a tag character.
    const HOSTILE: &str = "a\x1b]52;c;eA==\x07\u{9b}2J\u{202e}b\x08\r\u{e0041}\u{2028}";

    #[test]
    fn no_terminal_control_sequence_is_left() {
        for text in [printable(HOSTILE), one_line(HOSTILE), json(HOSTILE)] {
            assert!(text.chars().all(is_plain), "{text:?}");
        }
        assert_eq!(
            one_line(HOSTILE),
            "a\\u{1b}]52;c;eA==\\u{7}\\u{9b}2J\\u{202e}b\\u{8}\\r\\u{e0041}\\u{2028}"
        );
    }

    #[test]
    fn ordinary_text_in_any_script_stays_as_it_is() {
        for text in ["", "pve1: 3 → 4 ✓ …", "übung 日本語 עברית", "a\tb\nc"] {
            assert_eq!(printable(text), text);
        }
        assert_eq!(printable("a\r\nb"), "a\nb");
    }

    #[test]
    fn every_line_is_truncated_with_a_note_of_the_omitted_characters() {
        let long = "x".repeat(LINE_MOST + 5);
        let want = format!("{}… (5 more characters)", "x".repeat(LINE_MOST));
        assert_eq!(one_line(&long), want);
        assert_eq!(cut_lines(&format!("a\n{long}\nb\n")), format!("a\n{want}\nb\n"));
        assert_eq!(lines(&"l\n".repeat(1_000)).len(), LINES_MOST + 1);
        assert_eq!(lines(&"l\n".repeat(1_000))[LINES_MOST / 2], "… (800 more lines)");
        assert_eq!(lines(&"l\n".repeat(LINES_MOST)).len(), LINES_MOST);
    }

    #[test]
    fn no_foreign_line_looks_like_one_of_k8shas() {
        assert_eq!(lines("no\n  try: rm -rf /\n"), ["no", "|   try: rm -rf /"]);
        assert_eq!(one_line("vm\nerror: forged"), "vm\\nerror: forged");
    }

    #[test]
    fn json_stays_json_with_the_same_text() {
        let text = serde_json::to_string(HOSTILE).unwrap();
        let escaped = json(&text);
        assert!(escaped.chars().all(is_plain), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), HOSTILE);
    }
}
