//! The cause of an error: another error, which stays its source, or text.

use std::error::Error;
use std::sync::Arc;

/// The source of an error that can be cloned.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// An error or a text as a cause.
pub fn cause(of: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
    Arc::from(of.into())
}
