//! Additional information: what a terminal adds to its state, which Baton carries and does not
//! read.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::INFO_BYTES_MAX;

/// Up to 64 bytes, read and changed as a slice of those that count. The bytes behind them are 0.
///
/// In JSON it is a string of hexadecimal digits without the zeros at its end: a REPORT's field is
/// filled up with them, so that the same information has one text, whichever opcode brought it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Info {
    len: u8,
    bytes: [u8; INFO_BYTES_MAX],
}

impl Info {
    /// No information.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; INFO_BYTES_MAX] };

    /// These bytes; what is beyond 64 of them is cut.
    pub fn new(bytes: &[u8]) -> Self {
        let mut info = Self::zeros(bytes.len());
        info.bytes[..usize::from(info.len)].copy_from_slice(&bytes[..usize::from(info.len)]);
        info
    }

    /// So many zeros, at most 64.
    pub const fn zeros(len: usize) -> Self {
        let len = if len < INFO_BYTES_MAX { len } else { INFO_BYTES_MAX };
        Self { len: len as u8, bytes: [0; INFO_BYTES_MAX] }
    }

    /// The first `len` of bytes that are 0 behind those.
    #[inline(always)]
    pub(crate) const fn of_padded(bytes: [u8; INFO_BYTES_MAX], len: u8) -> Self {
        Self { len, bytes }
    }
}

impl Deref for Info {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(INFO_BYTES_MAX)]
    }
}

impl DerefMut for Info {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len).min(INFO_BYTES_MAX)]
    }
}

/// In hexadecimal digits, as in JSON.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        self[..end].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {self}", self.len)
    }
}

impl Serialize for Info {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Info {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format_args!("`{digits}` is not up to {INFO_BYTES_MAX} bytes in hexadecimal"));
        let len = digits.len() / 2;
        if !digits.len().is_multiple_of(2) || len > INFO_BYTES_MAX || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut info = Self::zeros(len);
        for (at, byte) in info.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..][..2], 16).map_err(|_| wrong())?;
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_bytes_without_their_padding() {
        let text = |bytes: &[u8]| serde_json::to_string(&Info::new(bytes)).unwrap();
        assert_eq!(text(&[0, 0xa, 0xff, 0, 0]), r#""000aff""#);
        assert_eq!(text(&[0; 6]), r#""""#);
        assert_eq!(text(&[0xab; 70]), format!("{:?}", "ab".repeat(64)));
        let read = |text: &str| serde_json::from_str::<Info>(text);
        assert_eq!(read(r#""000aff""#).unwrap(), Info::new(&[0, 0xa, 0xff]));
        for wrong in ["\"0\"".to_owned(), "\"0g\"".to_owned(), "\"é0\"".to_owned(), format!("{:?}", "00".repeat(65))] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
