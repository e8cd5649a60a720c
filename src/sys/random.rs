//! Random numbers from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// 64 random bits. Waits for a kernel that has no randomness yet, in the first moments of a boot.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    loop {
        // A call for so few bytes is never cut short; it is only interrupted while the kernel has
        // no randomness yet.
        match getrandom(&mut bytes[..], GetRandomFlags::empty()) {
            Ok(count) if count == bytes.len() => return u64::from_ne_bytes(bytes),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel has getrandom, and seccomp lets it be: {error}"),
        }
    }
}
