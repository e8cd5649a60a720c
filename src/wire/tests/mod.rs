//! The format against frames from an independent implementation, and against itself with arbitrary
//! values.

mod properties;
mod vectors;
