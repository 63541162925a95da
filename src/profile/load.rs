//! Loads a profile by name or path and turns it into a [`Cluster`].

use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};

use super::at::{Section, listed};
use super::check::{Notes, settle};
use super::complaint::{Colour, Complaint, Severity, render};
use super::decode::decode;
use super::raw::Profile;
use super::tree;
use crate::cluster::Cluster;
use crate::files::{Kind, read_text};
use crate::text::{Styled, one_line};

/// The embedded profiles: name and text.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("homelab", include_str!("../../profiles/homelab.yaml")),
    ("k8s1", include_str!("../../profiles/k8s1.yaml")),
    ("k8s1-etcd", include_str!("../../profiles/k8s1-etcd.yaml")),
];

/// The names of the embedded profiles.
pub fn embedded_names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// The text of an embedded profile.
pub fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The description of an embedded profile: the first sentence of its comment, without its name.
pub fn about(name: &str, text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let begun = comment.skip_while(|line| !line.starts_with(&format!("{name}:")));
    let words: Vec<&str> = begun.take_while(|line| !line.is_empty()).collect();
    let words = words.join(" ");
    let sentence = words.split_once(". ").map_or(words.trim_end_matches('.'), |(first, _)| first);
    sentence.split_once(": ").map_or(sentence, |(_, about)| about).to_owned()
}

/// A profile's text and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its display name: the path, or `k8s1 (embedded)`.
    pub name: String,
    /// The text.
    pub text: String,
    /// The folder that paths in the profile are relative to. For an embedded profile it is empty:
    /// the working folder of k8sha.
    pub base: PathBuf,
}

/// A profile that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The cluster that it describes.
    pub cluster: Cluster,
    /// What its author should know, in the order of the text.
    pub warnings: Vec<Complaint>,
    /// Its text and its origin.
    pub source: Source,
}

impl Loaded {
    /// The warnings as text; empty if there are none.
    pub fn render_warnings(&self, colour: Colour) -> Styled {
        render(&self.warnings, &self.source.name, &self.source.text, colour)
    }
}

/// A profile that cannot be used, with all the reasons.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The warnings in the order of the text, then the errors, of which there is at least one.
    pub complaints: Vec<Complaint>,
    /// Its text and its origin.
    pub source: Source,
}

impl Rejected {
    /// The complaints as text, and their number.
    pub fn render(&self, colour: Colour) -> Styled {
        let complaints = render(&self.complaints, &self.source.name, &self.source.text, colour);
        Styled::ours(format!("{complaints}\n\nerror: {}", one_line(&self.to_string())))
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |severity, noun: &str| {
            let count = self.complaints.iter().filter(|c| c.severity == severity).count();
            format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
        };
        let errors = count(Severity::Error, "error");
        let warnings = count(Severity::Warning, "warning");
        write!(f, "the profile `{}` cannot be used: {errors}, {warnings}", self.source.name)
    }
}

impl std::error::Error for Rejected {}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No embedded profile has that name.
    #[error(
        "no profile is named `{name}`; the embedded ones are {known}, and a file is named by its \
         path, such as `./{name}.yaml`"
    )]
    Unknown {
        /// The requested name.
        name: String,
        /// The available names.
        known: String,
    },
    /// The file could not be read.
    #[error("the profile `{}` could not be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The profile cannot be used; see [`Rejected::render`].
    #[error(transparent)]
    Rejected(#[from] Box<Rejected>),
}

/// Finds a profile. A name that contains a `/` or ends in `.yaml` or `.yml` is a file; any other
/// name is that of an embedded profile.
///
/// # Errors
/// [`LoadError::Unknown`] or [`LoadError::Unreadable`].
pub fn find(which: &str) -> Result<Source, LoadError> {
    let is_file =
        which.contains(['/', '\\']) || which.ends_with(".yaml") || which.ends_with(".yml");
    if is_file {
        let path = Path::new(which);
        let text = read_text(path, Kind::Profile)
            .map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        return Ok(Source { name: which.to_owned(), text, base });
    }
    let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == which).ok_or_else(|| {
        LoadError::Unknown { name: which.to_owned(), known: listed(embedded_names()) }
    })?;
    let (name, text) = (format!("{name} (embedded)"), (*text).to_owned());
    Ok(Source { name, text, base: PathBuf::new() })
}

/// Finds a profile and reads it.
///
/// # Errors
/// Any [`LoadError`].
pub fn load(which: &str) -> Result<Loaded, LoadError> {
    let source = find(which)?;
    Ok(read(source).map_err(Box::new)?)
}

/// Reads a profile: text to tree, tree to typed values, typed values to a cluster.
///
/// # Errors
/// All complaints about it, at once.
pub fn read(source: Source) -> Result<Loaded, Rejected> {
    let (cluster, mut complaints) = understand(&source);
    // Errors come last, next to the prompt, because they must be fixed.
    complaints.sort_by_key(|complaint| (Reverse(complaint.severity), complaint.place()));
    let fine = complaints.iter().all(|complaint| complaint.severity == Severity::Warning);
    match cluster {
        Some(cluster) if fine => Ok(Loaded { cluster, warnings: complaints, source }),
        _ => {
            if fine {
                unreachable!("a profile without errors makes a cluster");
            }
            Err(Rejected { complaints, source })
        }
    }
}

fn understand(source: &Source) -> (Option<Cluster>, Vec<Complaint>) {
    let (tree, mut complaints) = tree::parse(&source.text);
    let Some(tree) = tree else { return (None, complaints) };
    let decoded = decode::<Section<Profile>>(tree);
    complaints.extend(decoded.complaints);
    let mut notes = Notes::new(complaints, decoded.cut);
    let cluster = decoded.value.and_then(|profile| settle(&profile, &source.base, &mut notes));
    (cluster, notes.complaints)
}
