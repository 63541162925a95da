//! Complaints: what is wrong with a profile, and how it is displayed.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::excerpt::{Excerpt, Lines, visible};
use crate::text::{Styled, cut, lines, one_line};

/// The maximum number of displayed complaints.
const SHOWN: usize = 50;
/// The maximum length of a message, in characters: a quoted value may have any length.
const MESSAGE_MOST: usize = 400;

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The profile cannot be used.
    Error,
    /// The profile can be used, but its author should know this.
    Warning,
}

/// Whether rendered text carries ANSI colours. Everything is understandable without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Off,
    /// ANSI escape sequences.
    On,
}

/// One error in a profile, or something that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// The severity.
    pub severity: Severity,
    /// What is wrong: a lower-case fragment with values in backticks.
    pub message: String,
    /// Byte ranges of the profile's text with a label each (which may be empty); the first one is
    /// the place of the error, the others are what it conflicts with.
    pub spans: Vec<(Range<usize>, String)>,
    /// The next thing to try.
    pub hint: Option<String>,
}

impl Complaint {
    /// A complaint that makes the profile unusable.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// A complaint that leaves the profile usable.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        let message = cut(&masked(&message), MESSAGE_MOST).into_owned();
        Self { severity, message, spans: Vec::new(), hint: None }
    }

    /// Adds a place, with a label that may be empty.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.spans.push((span, one_line(&cut(&label.into(), MESSAGE_MOST)).into_owned()));
        self
    }

    /// Sets what to try next.
    #[must_use]
    pub fn help(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(cut(&hint.into(), MESSAGE_MOST).into_owned());
        self
    }

    /// Its place in the text; a complaint about something missing sorts last.
    pub(super) fn place(&self) -> usize {
        self.spans.first().map_or(usize::MAX, |(span, _)| span.start)
    }
}

/// Displays complaints as rustc does: message, file, line, column, the line with carets and labels,
/// and the hint. If there are very many, it displays the first errors and the number of the others.
pub fn render(complaints: &[Complaint], name: &str, text: &str, colour: Colour) -> Styled {
    let renderer = match colour {
        Colour::Off => Renderer::plain(),
        Colour::On => Renderer::styled(),
    };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let (name, text) = (one_line(name), masked(text));
    let text = Lines::new(visible(&text));
    let all = complaints.len() <= SHOWN;
    let shown = complaints.iter().filter(|one| all || one.severity == Severity::Error);
    let mut parts: Vec<String> = shown
        .take(SHOWN)
        .map(|complaint| {
            let (message, hint) = (one_line(&complaint.message), complaint.hint.as_deref());
            let hint = hint.map(|hint| lines(hint).join("\n"));
            let excerpt = text.excerpt(&complaint.spans);
            let report = report(complaint, &message, &name, &excerpt, hint.as_deref());
            renderer.render(&[report])
        })
        .collect();
    if !all {
        let shown = parts.len();
        let errors = complaints.iter().filter(|one| one.severity == Severity::Error).count();
        let (errors_left, warnings) = (errors - shown, complaints.len() - errors);
        parts.push(format!("… and {errors_left} more errors and {warnings} warnings"));
    }
    Styled::ours(parts.join("\n\n"))
}

/// The text with every private key (RFC 7468) replaced by asterisks, at the same length in bytes,
/// so that a key that was pasted into a profile by mistake does not also end up in a log.
fn masked(text: &str) -> Cow<'_, str> {
    const MARK: &str = "PRIVATE KEY-----";
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(mark) = rest.find(MARK) {
        let (open, body) = rest.split_at(mark + MARK.len());
        masked.push_str(open);
        let end = body.find("-----END").unwrap_or(body.len());
        for character in body[..end].chars() {
            match character {
                '\n' => masked.push('\n'),
                _ => masked.extend(std::iter::repeat_n('*', character.len_utf8())),
            }
        }
        // The closing line has the same mark.
        let close = body[end..].find(MARK).map_or(end, |mark| end + mark + MARK.len());
        masked.push_str(&body[end..close]);
        rest = &body[close..];
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

fn report<'a>(
    complaint: &'a Complaint,
    message: &'a str,
    name: &'a str,
    excerpt: &'a Excerpt,
    hint: Option<&'a str>,
) -> Group<'a> {
    let level = match complaint.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(message));
    if complaint.spans.is_empty() {
        group = group.element(Origin::path(name));
    } else {
        let marks = excerpt.marks.iter().enumerate().map(|(nth, (span, label))| {
            let kind = if nth == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let label = (!label.is_empty()).then_some(label.as_str());
            kind.span(span.clone()).label(label)
        });
        let snippet = Snippet::source(excerpt.text.as_str()).line_start(excerpt.line).path(name);
        group = group.element(snippet.annotations(marks));
    }
    if let Some(hint) = hint {
        group = group.element(Level::HELP.message(hint));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_are_labelled_and_the_hint_follows() {
        let text = "a: 1\nb: 1\n";
        let complaint = Complaint::error("`1` is used twice")
            .at(8..9, "again here")
            .at(3..4, "first used here")
            .help("choose another one");
        let shown = render(&[complaint], "x.yaml", text, Colour::Off);
        for part in ["error: `1` is used twice", "x.yaml:2:4", "again here", "first used here"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        assert!(shown.contains("help: choose another one"), "{shown}");
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let complaints = [Complaint::warning("mind the gap").at(0..1, "")];
        assert!(!render(&complaints, "x", "a", Colour::Off).contains('\x1b'));
        assert!(render(&complaints, "x", "a", Colour::On).contains('\x1b'));
    }

    #[test]
    fn nothing_in_a_profile_styles_or_moves_what_is_shown_of_it() {
        let text = "a\u{9b}31m: \x1b]52;c;eA==\x07 \u{202e}b\r\n";
        let complaint = Complaint::error(format!("`{text}` is wrong"))
            .at(3..9, format!("as {text}"))
            .help(format!("not\nerror: {text}"));
        for (colour, name) in [(Colour::Off, text), (Colour::On, text)] {
            let shown = render(std::slice::from_ref(&complaint), name, text, colour);
            let bare: String = shown
                .split('\x1b')
                .map(|part| {
                    // The remains of k8sha's own colours: `[31m` and the like.
                    part.strip_prefix('[')
                        .and_then(|part| part.split_once('m'))
                        .map_or(part, |(_, rest)| rest)
                })
                .collect();
            assert!(bare.chars().all(|c| c == '\n' || !c.is_control()), "{bare:?}");
            assert!(!bare.contains('\u{202e}') && !shown.contains("\x1b]"), "{bare:?}");
        }
    }

    #[test]
    fn of_very_many_complaints_some_are_shown_and_the_others_counted() {
        let text = "x: 1\n".repeat(300);
        let mut complaints = vec![Complaint::warning("mind"); 3];
        complaints.extend((0..200).map(|nth| Complaint::error("no").at(nth * 5..nth * 5 + 1, "")));
        let shown = render(&complaints, "x", &text, Colour::Off);
        assert_eq!(shown.matches("error: no").count(), SHOWN);
        assert!(shown.ends_with("… and 150 more errors and 3 warnings"), "{shown}");
    }

    #[test]
    fn a_value_without_end_is_not_quoted_whole() {
        let complaint = Complaint::error(format!("`{}` is no name", "x".repeat(1 << 20)));
        assert!(complaint.message.len() < 500 && complaint.message.contains("more characters"));
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let text = "keys: [\"-----BEGIN X PRIVATE KEY-----\\nc2VjcmV0\\n-----END X PRIVATE KEY-----\"]\n\
                    more: [-----BEGIN Y PRIVATE KEY-----é3VjcmV0";
        let complaint =
            Complaint::error(format!("`{text}` is no key")).at(8..60, "").at(90..95, "");
        let shown = render(&[complaint], "x", text, Colour::Off);
        assert!(!shown.contains("VjcmV0"), "{shown}");
        assert!(shown.contains("-----END X PRIVATE KEY-----"), "{shown}");
        assert_eq!(masked(text).len(), text.len());
    }

    #[test]
    fn places_inside_a_character_or_past_the_end_do_no_harm() {
        let complaints = [Complaint::error("x").at(1..2, "here").at(90..99, "there")];
        assert!(render(&complaints, "x", "é: é", Colour::Off).contains("here"));
    }
}
