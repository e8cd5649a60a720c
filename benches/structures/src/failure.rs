//! The one kind of error here.

/// A failure of any part.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
