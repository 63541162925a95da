//! Profiles that use every field, and hostile values for them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use k8sha::profile::{self, Loaded, Rejected, Source};
use serde_json::Value;

/// Together they use every field.
pub const INPUTS: [&str; 2] = ["full-external", "full-machines"];

/// A place in a profile: keys and indices from the root; `key` if it is the key itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub path: Vec<String>,
    pub key: bool,
}

/// One of [`INPUTS`].
pub fn tree(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/input/{name}.yaml"));
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// All its places with their contents.
pub fn places(tree: &Value) -> Vec<(Place, String)> {
    let mut places = Vec::new();
    collect(tree, &mut Vec::new(), &mut places);
    places
}

fn collect(value: &Value, path: &mut Vec<String>, places: &mut Vec<(Place, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                places.push((Place { path: path.clone(), key: true }, key.clone()));
                collect(value, path, places);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                path.push(nth.to_string());
                collect(item, path, places);
                path.pop();
            }
        }
        Value::String(text) => {
            places.push((Place { path: path.clone(), key: false }, text.clone()))
        }
        scalar => places.push((Place { path: path.clone(), key: false }, scalar.to_string())),
    }
}

/// The profile as text, with each value quoted on its own line and another text at one place; and the
/// line of that place.
pub fn written(tree: &Value, change: Option<(&Place, &str)>) -> (String, usize) {
    let mut writer = Writer { change, ..Writer::default() };
    writer.write(tree, &mut Vec::new());
    (writer.text, writer.line)
}

#[derive(Default)]
struct Writer<'a> {
    change: Option<(&'a Place, &'a str)>,
    text: String,
    line: usize,
}

impl Writer<'_> {
    fn write(&mut self, value: &Value, path: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                self.text.push_str("{\n");
                for (key, value) in map {
                    path.push(key.clone());
                    self.word(key, path, true);
                    self.text.push_str(": ");
                    self.write(value, path);
                    self.text.push_str(",\n");
                    path.pop();
                }
                self.text.push('}');
            }
            Value::Array(items) => {
                self.text.push_str("[\n");
                for (nth, item) in items.iter().enumerate() {
                    path.push(nth.to_string());
                    self.write(item, path);
                    self.text.push_str(",\n");
                    path.pop();
                }
                self.text.push(']');
            }
            Value::String(text) => self.word(text, path, false),
            scalar => self.word(&scalar.to_string(), path, false),
        }
    }

    /// A word in double quotes, with YAML escapes for all special characters.
    fn word(&mut self, word: &str, path: &[String], key: bool) {
        let mut word = word;
        if let Some((place, text)) = self.change
            && place.key == key
            && place.path == path
        {
            word = text;
            self.line = self.text.matches('\n').count() + 1;
        }
        self.text.push('"');
        for c in word.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                ' '..='~' => self.text.push(c),
                c => write!(self.text, "\\U{:08X}", u32::from(c)).unwrap(),
            }
        }
        self.text.push('"');
    }
}

/// Reads a profile.
pub fn read(text: &str) -> Result<Loaded, Rejected> {
    profile::read(Source { name: "t.yaml".into(), text: text.into(), base: PathBuf::new() })
}

/// Hostile values: they end lines, open and close the syntax of YAML, shells, templates and the
/// configurations of HAProxy and keepalived, or are invalid text for them.
pub const PIECES: &[&str] = &[
    "\n",
    "\r\n",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{200b}",
    "\t",
    " ",
    "  ",
    " #",
    "#",
    ": ",
    ":",
    "\"",
    "'",
    "\\",
    "\\n",
    "`id`",
    "$(id)",
    "${K8SHA_POD_CIDR}",
    "$INTERFACE",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# x",
    "%s",
    "&a ",
    "*a",
    "!!str ",
    "|",
    ">",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";reboot",
    "&&reboot",
    "../../etc",
    "/",
    "//",
    "~",
    "null",
    "0x10",
    "1e3",
    "<<",
    "=",
    "@",
    "%",
    "-",
    ".",
    "_",
    "é",
    "名",
    "🙂",
    "}\n",
    "EOF",
    "]]>",
    "\u{feff}",
    "\u{7f}",
];
