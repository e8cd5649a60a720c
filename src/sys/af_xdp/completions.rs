//! Completions: chunks that the kernel has sent.

use super::ring::Consumer;
use super::umem::{Area, Chunk, Owner};

/// Completions that are taken at a time.
const BATCH: usize = 64;

/// Gives each chunk that was sent to `keep`, once the kernel's entry is released: until then a
/// successor would get it again.
///
/// A successor takes back its process's chunks after it was given the remaining completions; a
/// spare chunk it takes before. So a spare chunk belongs to the process only when its entry is
/// gone: if it were sent before that, the old entry would later be taken for its completion. In
/// between its word says `Sent`, and a successor that finds that checks whether the entry is still
/// there.
///
/// False: some entries contained addresses of no chunk, which are skipped.
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
