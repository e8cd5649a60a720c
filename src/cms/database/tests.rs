//! The database on a real file.
