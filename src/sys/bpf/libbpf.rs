//! What libbpf says: its errors as ours, its talk into the log.

use std::io;

/// libbpf-rs keeps the errno to itself, but not the words, and not whether it was a matter of
/// privilege.
pub(crate) fn os_error(error: &libbpf_rs::Error) -> io::Error {
    let kind = match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        libbpf_rs::ErrorKind::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{error:#}"))
}

/// libbpf talks to stderr by itself; what it says belongs with the rest of what is logged.
pub(crate) fn talk_through_tracing() {
    fn say(level: libbpf_rs::PrintLevel, text: String) {
        match level {
            libbpf_rs::PrintLevel::Warn => tracing::warn!(target: "libbpf", "{}", text.trim_end()),
            _ => tracing::trace!(target: "libbpf", "{}", text.trim_end()),
        }
    }
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, say)));
}
