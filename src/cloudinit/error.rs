//! Errors of the templates and the seed.

use std::path::PathBuf;

/// Why there is no seed. No variant quotes a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The person's own template folder cannot be read.
    #[error("cannot read the cloud-init template `{}`: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::sync::Arc<std::io::Error>,
    },
    /// A file of the person's folder takes the place of none.
    #[error("`{}` overrides no built-in template, and no other file in the folder includes it", path.display())]
    Unused {
        /// The file.
        path: PathBuf,
        /// The names that ours have.
        known: Vec<&'static str>,
    },
    /// A template does not compile: a wrong tag, an unknown filter, a missing include.
    #[error("a cloud-init template does not compile\n{report}")]
    Template {
        /// The template engine's report with file, line and caret.
        report: String,
    },
    /// A template uses something that is not there.
    #[error("cannot render `{document}` for node `{node}`\n{report}")]
    Render {
        /// The document.
        document: &'static str,
        /// The node's short name.
        node: String,
        /// The template engine's report with file, line and caret.
        report: String,
    },
    /// A rendered document would not mean anything to cloud-init.
    #[error("`{document}`, as rendered for node `{node}`, is not valid for cloud-init: {reason}")]
    Document {
        /// The document.
        document: &'static str,
        /// The node's short name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unused { known, .. } => {
                Some(format!("the templates that can be overridden are {}", known.join(", ")))
            }
            _ => None,
        }
    }
}
