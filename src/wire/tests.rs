//! Held against frames that an independent implementation made.
