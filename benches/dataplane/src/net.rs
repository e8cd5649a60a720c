//! What echoing a frame needs.

/// Swaps the two MAC addresses of a frame.
pub fn swap_macs(frame: &mut [u8]) {
    if let Some((to, rest)) = frame.split_at_mut_checked(6)
        && let Some(from) = rest.get_mut(..6)
    {
        to.swap_with_slice(from);
    }
}
