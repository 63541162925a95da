//! Errors of the templates and the seed.

use std::path::PathBuf;

/// Why there is no seed. No variant contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The user's template folder cannot be read.
    #[error("cannot read the cloud-init template `{}`: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::sync::Arc<std::io::Error>,
    },
    /// A file of the user's folder overrides nothing.
    #[error("`{}` overrides no built-in template, and no other file in the folder includes it", path.display())]
    Unused {
        /// The file.
        path: PathBuf,
        /// The names of the built-in templates.
        known: Vec<&'static str>,
    },
    /// A template does not compile: a wrong tag, an unknown filter, a missing include.
    #[error("a cloud-init template does not compile\n{report}")]
    Template {
        /// The template engine's report with file, line and caret.
        report: String,
    },
    /// A template uses something undefined.
    #[error("cannot render `{document}` for node `{node}`\n{report}")]
    Render {
        /// The document.
        document: &'static str,
        /// The node's short name.
        node: String,
        /// The template engine's report with file, line and caret.
        report: String,
    },
    /// cloud-init would not accept a rendered document.
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
