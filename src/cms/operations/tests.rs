//! Operations against autonomous servers.
