//! What the kernel says that it has sent.

use super::ring::Consumer;
use super::umem::{Area, Chunk, Owner};

/// Completions that are taken at a time.
const BATCH: usize = 64;

/// Gives each chunk that was sent to `keep`, once the kernel's entry is released: until then a
/// successor would be given it again.
///
/// A successor takes back what is its process's after it has been given what is left here; a spare
/// one before. So a spare one is the process's only when its entry is gone: sent with before, it
/// would be taken for sent by the entry of the last time. In between its word says that it was
/// sent, and whoever finds that looks whether the entry is still there.
///
/// False: there were addresses among them of no chunk at all, which are passed over.
pub(super) fn complete(
    completion: &mut Consumer<u64>,
    area: &Area,
    is_spare: impl Fn(&Chunk) -> bool,
    mut keep: impl FnMut(Chunk),
) -> bool {
    let mut all_known = true;
    let mut left = completion.available();
    while left > 0 {
        let batch = left.min(BATCH as u32);
        let mut chunks: [Option<Chunk>; BATCH] = [const { None }; BATCH];
        for chunk in &mut chunks[..batch as usize] {
            let address = completion.take().expect("as many as were available");
            if !area.holds(address) {
                all_known = false;
                continue;
            }
            let (taken, _) = area.take(address);
            area.set_owner(&taken, if is_spare(&taken) { Owner::Sent } else { Owner::Process });
            *chunk = Some(taken);
        }
        completion.release(batch);
        for chunk in chunks.into_iter().flatten() {
            if is_spare(&chunk) {
                area.set_owner(&chunk, Owner::Process);
            }
            keep(chunk);
        }
        left -= batch;
    }
    all_known
}
