//! Converts libbpf's errors, and redirects its messages into the log.

use std::io;

/// libbpf-rs hides the errno, but gives the message, and whether it was a matter of privilege.
pub(crate) fn os_error(error: &libbpf_rs::Error) -> io::Error {
    let kind = match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        libbpf_rs::ErrorKind::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{error:#}"))
}

/// libbpf prints to stderr by itself; its messages belong in the log with the others.
pub(crate) fn talk_through_tracing() {
    fn say(level: libbpf_rs::PrintLevel, text: String) {
        match level {
            libbpf_rs::PrintLevel::Warn => tracing::warn!(target: "libbpf", "{}", text.trim_end()),
            _ => tracing::trace!(target: "libbpf", "{}", text.trim_end()),
        }
    }
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, say)));
}
