//! The only way to the terminal: everything printed is masked and escaped here.
//!
//! Data goes to stdout, everything else to stderr. Only [`Styled`] text, which contains k8sha's own
//! colours, and the rows of [`super::term`] reach a terminal otherwise. `tests/house.rs` finds code
//! that prints in any other way.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::text::{self, Styled};
use crate::{secrets, table};

/// The name of the running binary, if it is not `k8sha`.
static NAME: OnceLock<&str> = OnceLock::new();

/// From now on, commands that a text names as `` `k8sha … ` `` are another binary's.
#[cfg(feature = "simulate")]
pub fn call_us(name: &'static str) {
    let _ = NAME.set(name);
}

/// The text with its commands under the name of the running binary.
fn renamed(text: &str) -> Cow<'_, str> {
    match NAME.get() {
        Some(name) => under(name, text).into(),
        None => text.into(),
    }
}

fn under(name: &str, text: &str) -> String {
    text.replace("`k8sha ", &format!("`{name} "))
}

/// Text for the user: without secrets or terminal control characters, with long lines cut.
fn harmless(text: &str) -> String {
    text::cut_lines(&text::printable(&secrets::mask(&renamed(text)))).into_owned()
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// One of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Prints to stderr. A closed pipe is not an error.
pub fn say(text: &str) {
    let _ = io::stderr().lock().write_all(ended(harmless(text)).as_bytes());
}

/// Asks on stderr: the cursor stays after the question.
pub fn ask(text: &str) {
    let mut screen = io::stderr().lock();
    let _ = screen.write_all(harmless(text).as_bytes()).and_then(|()| screen.flush());
}

/// Shows text with k8sha's own styling on stderr.
pub fn show(text: &Styled) {
    let _ = io::stderr().lock().write_all(ended(secrets::mask(text)).as_bytes());
}

/// Prints something as one line of JSON on stderr.
pub fn say_json(data: &impl Serialize) {
    if let Ok(line) = json(data) {
        let _ = io::stderr().lock().write_all(ended(line).as_bytes());
    }
}

/// Fits tables to the terminal that stdout is, if it is one.
pub fn fit() {
    if io::stdout().is_terminal()
        && let Some((terminal_size::Width(columns), _)) = terminal_size::terminal_size()
    {
        table::fit(columns);
    }
}

/// Whether stderr is a terminal.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Prints text for the user on stdout.
///
/// # Errors
/// If it cannot be written; a closed pipe is not an error (`k8sha plan | head`).
pub fn print(text: &str) -> io::Result<()> {
    put(&ended(harmless(text)))
}

/// Prints data as one line of JSON on stdout.
///
/// # Errors
/// As [`print()`].
pub fn print_json(data: &impl Serialize) -> io::Result<()> {
    put(&ended(json(data)?))
}

/// Prints a document unchanged, including its secrets, on stdout; terminal control characters are
/// still escaped.
///
/// # Errors
/// As [`print()`].
pub fn print_document(text: &str) -> io::Result<()> {
    let shown = if io::stdout().is_terminal() { text::printable(text) } else { text.into() };
    put(&ended(shown.into_owned()))
}

/// Prints text for the user on stdout; returns whether the pipe is still open.
///
/// # Errors
/// If it cannot be written.
pub fn print_on(text: &str) -> io::Result<bool> {
    put_on(&ended(harmless(text)))
}

/// Forwards the output of the user's own remote command, byte for byte.
///
/// # Errors
/// If it cannot be written; a closed pipe is an error here.
pub fn pass(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
        to.write_all(bytes).and_then(|()| to.flush())
    }
    match stream {
        Stream::Out => write(io::stdout().lock(), bytes),
        Stream::Err => write(io::stderr().lock(), bytes),
    }
}

fn put(text: &str) -> io::Result<()> {
    put_on(text).map(drop)
}

fn put_on(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

fn json(data: &impl Serialize) -> io::Result<String> {
    Ok(harmless_json(&serde_json::to_string(data)?))
}

/// JSON without secrets: its text is unchanged for a program and harmless for a terminal.
pub(super) fn harmless_json(text: &str) -> String {
    text::json(&secrets::mask_json(&renamed(text))).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_a_person_is_masked_before_it_is_escaped_and_cut() {
        secrets::learn("screen\u{1b}secret");
        let text = format!("said screen\u{1b}secret \u{1b}[2J {}", "x".repeat(5_000));
        let shown = harmless(&text);
        assert!(shown.starts_with("said [masked] \\u{1b}[2J xxx"), "{shown}");
        assert!(shown.contains("more characters)") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn another_binarys_commands_go_by_its_name_and_the_product_keeps_its_own() {
        let text = "run `k8sha up` again, or `k8sha`; k8sha is no command here";
        let wanted = "run `k8sha-lab up` again, or `k8sha`; k8sha is no command here";
        assert_eq!(under("k8sha-lab", text), wanted);
    }

    #[test]
    fn json_keeps_its_text_but_for_secrets() {
        secrets::learn("screen-json-secret");
        let data = serde_json::json!({ "a": "\u{9b}31m \u{202e} screen-json-secret é" });
        let text = json(&data).unwrap();
        assert_eq!(text, r#"{"a":"\u009b31m \u202e [masked] é"}"#);
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["a"], "\u{9b}31m \u{202e} [masked] é");
    }
}
