//! The format held against frames that an independent implementation made, and against itself over
//! arbitrary values.

mod properties;
mod vectors;
