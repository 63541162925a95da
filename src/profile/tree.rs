//! Parses YAML into a tree of nodes that remember their position in the file.
//!
//! Scalars stay text: the column determines what `1.30` or `no` means, so no version becomes a
//! float and no name a boolean. Anchors and aliases are rejected (shared columns belong under
//! `defaults`), so a small file cannot expand to a huge one.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::complaint::Complaint;
use super::hidden;

/// More values than any profile has: a table of 800 rows with every column written out.
const NODES_MAX: usize = 20_000;

/// More lines than any profile has: the same table with each column on a line of its own.
const LINES_MAX: usize = 10_000;

/// A longer line than any profile has, in bytes.
const LINE_MAX: usize = 16 * 1024;

/// A longer list than any profile has: VMIDs, addresses and hosts run out before that.
const LIST_MAX: usize = 1_000;

/// Deeper nesting than any profile has.
const DEPTH_MAX: usize = 16;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Identifies this node within its tree.
    pub id: usize,
    /// The range of its text, in bytes.
    pub span: Range<usize>,
    /// The part of it, or of its key, that a complaint about the whole node points at.
    pub head: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Text; `plain` if it was written without quotes.
    Scalar {
        /// The text after escapes.
        text: String,
        /// Whether it was written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Something that a profile may not contain and that has already been reported.
    Refused,
    /// Keys and values in the order of the file.
    Map {
        /// The entries.
        entries: Vec<(Node, Node)>,
        /// Whether an entry was cut out after a complaint.
        cut: bool,
    },
}

impl Node {
    /// What it is, as a noun.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map { .. } => "keys with values",
            Kind::Refused => "a refused value",
        }
    }

    /// Whether the value is empty or YAML's null.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// Removes the node with this id, together with its key or value. Returns its former place: the
    /// id of the map and the key.
    pub fn cut(&mut self, id: usize) -> Option<Option<(usize, String)>> {
        match &mut self.kind {
            Kind::Scalar { .. } | Kind::Refused => None,
            Kind::List(items) => match items.iter().position(|item| item.id == id) {
                Some(at) => {
                    items.remove(at);
                    Some(None)
                }
                None => items.iter_mut().find_map(|item| item.cut(id)),
            },
            Kind::Map { entries, cut } => {
                match entries.iter().position(|(key, value)| key.id == id || value.id == id) {
                    Some(at) => {
                        *cut = true;
                        let (key, _) = entries.remove(at);
                        let Kind::Scalar { text, .. } = key.kind else { return Some(None) };
                        Some(Some((self.id, text)))
                    }
                    None => entries.iter_mut().find_map(|(_, value)| value.cut(id)),
                }
            }
        }
    }
}

impl Node {
    /// Removes all entries with unknown keys from the map that has this key. Returns the id of the
    /// map, and the keys with their texts.
    pub fn cut_unknown(
        &mut self,
        key: usize,
        known: &[&str],
    ) -> Option<(usize, Vec<(Node, String)>)> {
        match &mut self.kind {
            Kind::Scalar { .. } | Kind::Refused => None,
            Kind::List(items) => items.iter_mut().find_map(|item| item.cut_unknown(key, known)),
            Kind::Map { entries, cut } => {
                if !entries.iter().any(|(other, _)| other.id == key) {
                    return entries.iter_mut().find_map(|(_, value)| value.cut_unknown(key, known));
                }
                *cut = true;
                let mut unknown = Vec::new();
                for (key, value) in std::mem::take(entries) {
                    match &key.kind {
                        Kind::Scalar { text, .. } if !known.contains(&text.as_str()) => {
                            let text = text.clone();
                            unknown.push((key, text));
                        }
                        _ => entries.push((key, value)),
                    }
                }
                (!unknown.is_empty()).then_some((self.id, unknown))
            }
        }
    }
}

/// Parses the text. If it returns no tree, there is at least one complaint.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Complaint>) {
    if let Some(complaint) = oversized(text) {
        return (None, vec![complaint]);
    }
    let mut builder = Builder { text, ..Builder::default() };
    let options = granit_parser::options! { emit_comments: false, emit_anchor_events: true };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                builder.complaints.push(syntax(text, &error));
                return (None, builder.complaints);
            }
        };
        let span = span.byte_range().unwrap_or_default();
        if let Err(complaint) = builder.take(event, span) {
            builder.complaints.push(*complaint);
            return (None, builder.complaints);
        }
    }
    if builder.root.is_none() && builder.complaints.is_empty() {
        let hint = "start from an example: `profiles/k8s1.yaml`";
        let complaint = Complaint::error("the profile is empty").at(0..0, "");
        builder.complaints.push(complaint.help(hint));
    }
    (builder.root, builder.complaints)
}

/// Complaints about the size of the text. Its lines are displayed with complaints, so their length
/// is limited.
fn oversized(text: &str) -> Option<Complaint> {
    let long = text.lines().position(|line| line.len() > LINE_MAX);
    if let Some(long) = long {
        let text = format!("line {} is longer than {LINE_MAX} bytes", long + 1);
        return Some(Complaint::error(text));
    }
    let count = text.lines().count();
    (count > LINES_MAX).then(|| {
        Complaint::error(format!(
            "the profile is too large: {count} lines, the most is {LINES_MAX}"
        ))
    })
}

fn syntax(text: &str, error: &granit_parser::ScanError) -> Complaint {
    let start = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let rest = text.get(start..).unwrap_or_default();
    let complaint = Complaint::error(format!("this is not YAML: {}", error.info()))
        .at(start..start + usize::from(!rest.is_empty()), "");
    let line = text[..text.floor_char_boundary(start)].rfind('\n').map_or(0, |at| at + 1);
    let tab = text.get(line..).is_some_and(|rest| rest.trim_start_matches(' ').starts_with('\t'));
    if tab { complaint.help("indent with spaces: YAML allows no tabs there") } else { complaint }
}

/// An unfinished list or map.
struct Open {
    node: Node,
    /// The key that still lacks its value.
    key: Option<Node>,
    /// The keys so far and their places.
    seen: HashMap<String, Range<usize>>,
}

#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    root: Option<Node>,
    open: Vec<Open>,
    count: usize,
    complaints: Vec<Complaint>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Box<Complaint>> {
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let kind = match hidden::first(&text) {
                    None => Kind::Scalar { text: text.into_owned(), plain },
                    Some(found) => {
                        self.complaints.push(hidden::complaint(&text, found, span.clone()));
                        Kind::Refused
                    }
                };
                let node = self.node(span, kind)?;
                self.close(node)?;
            }
            Event::SequenceStart(..) => self.start(span, Kind::List(Vec::new()))?,
            Event::MappingStart(..) => {
                self.start(span, Kind::Map { entries: Vec::new(), cut: false })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.open.pop() {
                    open.node.span.end = span.end.max(open.node.span.start);
                    open.node.head = head(&open.node, self.text);
                    self.close(open.node)?;
                }
            }
            Event::Alias(_) => {
                self.complaints.push(no_aliases(&span));
                let node = self.node(span, Kind::Refused)?;
                self.close(node)?;
            }
            Event::Anchor(..) => self.complaints.push(no_aliases(&span)),
            Event::DocumentStart(..) if self.root.is_some() => {
                let complaint = Complaint::error("the file contains more than one YAML document")
                    .at(span, "a second one starts here")
                    .help("keep one cluster per file");
                return Err(Box::new(complaint));
            }
            _ => {}
        }
        Ok(())
    }

    fn node(&mut self, span: Range<usize>, kind: Kind) -> Result<Node, Box<Complaint>> {
        self.count += 1;
        if self.count > NODES_MAX {
            let text = format!("the profile is too large: more than {NODES_MAX} values");
            return Err(Box::new(Complaint::error(text).at(span, "reading stopped here")));
        }
        Ok(Node { id: self.count, head: span.clone(), span, kind })
    }

    fn start(&mut self, span: Range<usize>, kind: Kind) -> Result<(), Box<Complaint>> {
        if self.open.len() >= DEPTH_MAX {
            let text = format!("nested too deeply: a profile may have at most {DEPTH_MAX} levels");
            return Err(Box::new(Complaint::error(text).at(span, "")));
        }
        let node = self.node(span, kind)?;
        self.open.push(Open { node, key: None, seen: HashMap::new() });
        Ok(())
    }

    /// Adds a finished node to its parent.
    fn close(&mut self, node: Node) -> Result<(), Box<Complaint>> {
        let Some(Open { node: parent, key, seen }) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match &mut parent.kind {
            Kind::Scalar { .. } | Kind::Refused => {}
            Kind::List(items) if items.len() >= LIST_MAX => {
                let text =
                    format!("the list is too long: a list may have at most {LIST_MAX} entries");
                return Err(Box::new(Complaint::error(text).at(node.head, "")));
            }
            Kind::List(items) => items.push(node),
            Kind::Map { entries, .. } => match key.take() {
                None => *key = Some(node),
                Some(key) => {
                    let word = match &key.kind {
                        Kind::Scalar { text, .. } => Some(text.clone()),
                        _ => None,
                    };
                    if let Some(twin) = word.as_ref().and_then(|word| seen.get(word)) {
                        let name = self.text.get(key.span.clone()).unwrap_or_default();
                        self.complaints.push(
                            Complaint::error(format!("the key `{name}` appears twice"))
                                .at(key.span.clone(), "again here")
                                .at(twin.clone(), "first here"),
                        );
                        return Ok(());
                    }
                    if let Some(word) = word {
                        seen.insert(word, key.span.clone());
                    }
                    let mut value = node;
                    if !matches!(value.kind, Kind::Scalar { .. }) && !is_flow(&value, self.text) {
                        value.head = key.span.clone();
                    }
                    entries.push((key, value));
                }
            },
        }
        Ok(())
    }
}

fn no_aliases(span: &Range<usize>) -> Complaint {
    Complaint::error("profiles do not support anchors (`&`) and aliases (`*`)")
        .at(span.clone(), "")
        .help("put values that rows share under `defaults`")
}

fn is_flow(node: &Node, text: &str) -> bool {
    text.get(node.span.clone()).is_some_and(|text| text.starts_with(['{', '[']))
}

/// A map or list in flow style points at its bracket, one in block style at its first entry.
fn head(node: &Node, text: &str) -> Range<usize> {
    if is_flow(node, text) {
        return node.span.start..node.span.start + 1;
    }
    match &node.kind {
        Kind::Map { entries, .. } => entries.first().map(|(key, _)| key.span.clone()),
        Kind::List(items) => items.first().map(|item| item.head.clone()),
        Kind::Scalar { .. } | Kind::Refused => None,
    }
    .unwrap_or_else(|| node.span.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        parse(text).1.into_iter().map(|complaint| complaint.message).collect()
    }

    #[test]
    fn scalars_keep_their_text_and_their_place() {
        let text = "version: 1.30\nnames: [no, \"4\"]\n";
        let (root, complaints) = parse(text);
        assert_eq!(complaints, []);
        let Kind::Map { entries, .. } = root.unwrap().kind else { panic!("not a map") };
        let (_, version) = &entries[0];
        assert!(matches!(&version.kind, Kind::Scalar { text, plain: true } if text == "1.30"));
        assert_eq!(&text[version.span.clone()], "1.30");
        let (_, names) = &entries[1];
        assert_eq!(&text[names.span.clone()], "[no, \"4\"]");
        assert_eq!(&text[names.head.clone()], "[");
    }

    #[test]
    fn a_block_points_at_its_key() {
        let text = "network:\n  gateway: 10.0.0.1\n";
        let Kind::Map { entries, .. } = parse(text).0.unwrap().kind else { panic!("not a map") };
        assert_eq!(&text[entries[0].1.head.clone()], "network");
    }

    #[test]
    fn what_a_profile_must_not_hold_is_refused_by_name() {
        for (text, part) in [
            ("a: 1\na: 2\n", "the key `a` appears twice"),
            ("a: &x 1\nb: *x\n", "anchors"),
            ("a: 1\n---\nb: 2\n", "more than one YAML document"),
            ("", "the profile is empty"),
            ("# nothing\n", "the profile is empty"),
            ("a: [1, 2\nb: 3\n", "this is not YAML"),
            ("a:\n\tb: 3\n", "this is not YAML"),
        ] {
            let messages = messages(text);
            assert!(
                messages.iter().any(|message| message.contains(part)),
                "{text:?}: {messages:?}"
            );
        }
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert!(messages(&deep)[0].contains("nested too deeply"));
        let large = "a:\n- 1\n- 2\n- 3\n- 4\n".repeat(2);
        assert_eq!(messages(&large).len(), 1, "small enough but for the repeated key");
        let row = format!("[{}],\n", "1,".repeat(LIST_MAX));
        let large = format!("[{}]", row.repeat(NODES_MAX / LIST_MAX + 1));
        assert!(messages(&large)[0].contains("too large"));
        let long = format!("[{}]", "1,\n".repeat(LIST_MAX + 1));
        assert!(messages(&long)[0].contains("the list is too long"));
        assert!(messages(&"\n".repeat(LINES_MAX + 1))[0].contains("too large: 10001 lines"));
        let wide = format!("a: 1\nb: {}\n", "x".repeat(LINE_MAX));
        assert_eq!(messages(&wide), ["line 2 is longer than 16384 bytes"]);
    }
}
