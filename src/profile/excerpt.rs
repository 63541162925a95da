//! The lines of a profile that a complaint is about.
//!
//! A renderer scans all lines that it receives, once per complaint. It receives only the lines
//! around the places, so that the cost depends only on what is displayed.

use std::borrow::Cow;
use std::ops::Range;

use crate::text::printable;

/// The number of lines before and after a place that the renderer may display.
const AROUND: usize = 2;
/// If a place has more lines than this, only its first line is displayed.
const TALL: usize = 20;

/// The text with unprintable characters replaced by asterisks at the same length in bytes, because
/// places count bytes. The message of the complaint has the escaped value.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let is_shown = |c: char| {
        matches!(c, '\n' | '\t' | ' '..='~')
            || (!c.is_ascii() && matches!(printable(c.encode_utf8(&mut [0; 4])), Cow::Borrowed(_)))
    };
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if is_shown(c) || (c == '\r' && rest.peek() == Some(&'\n')) {
            out.push(c);
        } else {
            out.extend(std::iter::repeat_n('?', c.len_utf8()));
        }
    }
    Cow::Owned(out)
}

/// A text and the offsets of its lines.
pub(super) struct Lines<'t> {
    text: Cow<'t, str>,
    starts: Vec<usize>,
}

/// Some lines of a text, with places in them.
#[derive(Debug, Default)]
pub(super) struct Excerpt {
    /// The lines; those that are not displayed in between are empty.
    pub text: String,
    /// The number of the first one.
    pub line: usize,
    /// The places, in bytes of the excerpt, with their labels.
    pub marks: Vec<(Range<usize>, String)>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: Cow<'t, str>) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(breaks).collect();
        Self { text, starts }
    }

    fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }

    fn line(&self, line: usize) -> Range<usize> {
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        self.starts[line]..end
    }

    /// The lines around the places.
    pub(super) fn excerpt(&self, spans: &[(Range<usize>, String)]) -> Excerpt {
        let labels = spans.iter().map(|(_, label)| label.clone());
        let spans: Vec<Range<usize>> = spans.iter().map(|(span, _)| self.shown(span)).collect();
        let touched: Vec<Range<usize>> =
            spans.iter().map(|span| self.line_of(span.start)..self.line_of(span.end) + 1).collect();
        let Some(first) = touched.iter().map(|lines| lines.start).min() else {
            return Excerpt::default();
        };
        let last = touched.iter().map(|lines| lines.end).max().unwrap_or(first);
        let (first, last) = (first.saturating_sub(AROUND), (last + AROUND).min(self.starts.len()));
        let mut excerpt = Excerpt { line: first + 1, ..Excerpt::default() };
        let mut places = Vec::with_capacity(last - first);
        for line in first..last {
            places.push(excerpt.text.len());
            let near =
                |lines: &Range<usize>| lines.start <= line + AROUND && line < lines.end + AROUND;
            if touched.iter().any(near) {
                excerpt.text.push_str(&self.text[self.line(line)]);
            } else {
                excerpt.text.push('\n');
            }
        }
        let moved = |at: usize| {
            let line = self.line_of(at);
            places[line - first] + (at - self.starts[line])
        };
        excerpt.marks =
            spans.iter().map(|span| moved(span.start)..moved(span.end)).zip(labels).collect();
        excerpt
    }

    /// A place, cut to the text, to a few lines, and widened to whole characters: a renderer slices
    /// by it.
    fn shown(&self, span: &Range<usize>) -> Range<usize> {
        let text = &self.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let mut end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        let line = self.line_of(start);
        if self.line_of(end) - line > TALL {
            end = self.line(line).end.saturating_sub(1).max(start);
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_far_apart_cost_their_own_lines_only() {
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        let lines = Lines::new(Cow::Borrowed(&text));
        let at = |word: &str| {
            let start = text.find(word).unwrap();
            (start..start + word.len(), word.to_owned())
        };
        let excerpt = lines.excerpt(&[at("line 4000"), at("line 17\n")]);
        assert_eq!(excerpt.line, 16);
        assert!(excerpt.text.len() < 4_100 && excerpt.text.starts_with("line 15\n"));
        let words: Vec<&str> =
            excerpt.marks.iter().map(|(span, _)| &excerpt.text[span.clone()]).collect();
        assert_eq!(words, ["line 4000", "line 17\n"]);
        let (before, _) = excerpt.text.split_at(excerpt.text.find("line 4000").unwrap());
        assert_eq!(before.lines().count() + excerpt.line, 4_001);
    }

    #[test]
    fn a_tall_place_is_its_first_line() {
        let text = "a: 1\n".repeat(100);
        let lines = Lines::new(Cow::Borrowed(&text));
        let excerpt = lines.excerpt(&[(5..400, String::new())]);
        assert_eq!(&excerpt.text[excerpt.marks[0].0.clone()], "a: 1");
    }

    #[test]
    fn what_is_starred_out_keeps_its_length() {
        let text = "\x1b\u{9b}\u{202e}\u{e0041}é\t\r\n\r";
        let shown = visible(text);
        assert_eq!(shown, "??????????é\t\r\n?");
        assert_eq!(shown.len(), text.len());
    }
}
