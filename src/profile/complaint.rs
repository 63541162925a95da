//! What is wrong with a profile, and how that is shown to a person.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The profile cannot be used.
    Error,
    /// The profile can be used, and its author should know this.
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

/// One thing that is wrong with a profile, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: a lower-case fragment with values in backticks.
    pub message: String,
    /// Byte ranges of the profile's text with a label each (which may be empty); the first one is
    /// where the fault is, the others are what it clashes with.
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
        let message = masked(&message).into_owned();
        Self { severity, message, spans: Vec::new(), hint: None }
    }

    /// Adds a place, with a label that may be empty.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.spans.push((span, label.into()));
        self
    }

    /// Says what to try next.
    #[must_use]
    pub fn help(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is in the text; a complaint about what is absent sorts last.
    pub(super) fn place(&self) -> usize {
        self.spans.first().map_or(usize::MAX, |(span, _)| span.start)
    }
}

/// Shows complaints the way that rustc shows its own: message, file, line, column, the line with
/// carets and labels, and the hint.
pub fn render(complaints: &[Complaint], name: &str, text: &str, colour: Colour) -> String {
    let renderer = match colour {
        Colour::Off => Renderer::plain(),
        Colour::On => Renderer::styled(),
    };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let text = &masked(text);
    complaints
        .iter()
        .map(|complaint| renderer.render(&[report(complaint, name, text)]))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The text with every private key (RFC 7468) starred out, at the same length in bytes, so that a
/// key that was pasted into a profile by mistake is not also printed into a log.
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

fn report<'a>(complaint: &'a Complaint, name: &'a str, text: &'a str) -> Group<'a> {
    let level = match complaint.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(complaint.message.as_str()));
    if complaint.spans.is_empty() {
        group = group.element(Origin::path(name));
    } else {
        let marks = complaint.spans.iter().enumerate().map(|(nth, (span, label))| {
            let kind = if nth == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let label = (!label.is_empty()).then_some(label.as_str());
            kind.span(whole_characters(span, text)).label(label)
        });
        group = group.element(Snippet::source(text).path(name).annotations(marks));
    }
    if let Some(hint) = &complaint.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    group
}

/// The range, cut to the text and widened to whole characters: a renderer slices by it.
fn whole_characters(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    start..end
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
