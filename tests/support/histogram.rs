//! A histogram out of a line of a histogram log.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// How many values it has.
pub fn count(encoded: &str) -> u64 {
    let bytes = decode(encoded);
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
    histogram.len()
}

/// Base 64 (RFC 4648).
fn decode(text: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.bytes().filter(|&digit| digit != b'=').map(value).collect();
    let bits = |run: &[u8]| run.iter().fold(0_u32, |all, &six| all << 6 | u32::from(six)) << (6 * (4 - run.len()));
    digits.chunks(4).flat_map(|run| bits(run).to_be_bytes()[1..run.len()].to_vec()).collect()
}
