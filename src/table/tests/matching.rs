//! Which of eight words have an upper half: the wide loads say what each word alone does.

use std::sync::atomic::Ordering;

use crate::sys::mapping::SharedWord;
use crate::table::slot::Word;

#[test]
fn each_word_with_the_upper_half_is_named_and_no_other() {
    const UPPER: u32 = 0x8000_1234;
    let words: [SharedWord; 8] = Default::default();
    for named in 0..1 << 8 {
        for (at, word) in words.iter().enumerate() {
            // Those that do not have it differ in one bit, or have it as their lower half.
            let (upper, lower) = match (named >> at & 1, at % 2) {
                (1, _) => (UPPER, !UPPER),
                (_, 0) => (UPPER ^ 1 << (4 * at), UPPER),
                _ => (0, UPPER),
            };
            word.store(u64::from(upper) << 32 | u64::from(lower), Ordering::Relaxed);
        }
        assert_eq!(<SharedWord as Word>::matching(&words, UPPER), named);
    }
    words.iter().for_each(|word| word.store(7, Ordering::Relaxed));
    assert_eq!(<SharedWord as Word>::matching(&words, 0), 0xff, "also where that is zero");
}
