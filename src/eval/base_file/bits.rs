//! Rice codes: a magnitude is written as its upper part in unary and its lower `k` bits, then the sign. Short for numbers
//! around zero.

/// Longest unary part; larger magnitudes follow in 32 bits.
const UNARY_MAX: u32 = 24;

/// Writes bits, the first one in the lowest bit of a byte.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    pending: u64,
    n_pending: u32,
}

impl Writer {
    /// Writes the lowest `n` bits, at most 32.
    fn put(&mut self, bits: u32, n: u32) {
        self.pending |= u64::from(bits) << self.n_pending;
        self.n_pending += n;
        while self.n_pending >= 8 {
            self.bytes.push((self.pending & 0xff) as u8);
            self.pending >>= 8;
            self.n_pending -= 8;
        }
    }

    /// Writes a number.
    pub(super) fn put_rice(&mut self, value: i32, k: u32) {
        let magnitude = value.unsigned_abs();
        let upper = magnitude >> k;
        if upper >= UNARY_MAX {
            self.put((1 << UNARY_MAX) - 1, UNARY_MAX);
            self.put(magnitude, 32);
        } else {
            // `upper` ones and a zero.
            self.put((1 << upper) - 1, upper + 1);
            self.put(magnitude & ((1 << k) - 1), k);
        }
        if magnitude > 0 {
            self.put(u32::from(value < 0), 1);
        }
    }

    /// Returns the bytes; the last one is padded with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.n_pending > 0 {
            self.put(0, 8 - self.n_pending);
        }
        self.bytes
    }
}

/// Returns the bits that [`Writer::put_rice`] writes.
pub(super) fn rice_bits(value: i32, k: u32) -> u64 {
    let magnitude = value.unsigned_abs();
    let upper = magnitude >> k;
    let code = if upper >= UNARY_MAX { UNARY_MAX + 32 } else { upper + 1 + k };
    u64::from(code + u32::from(magnitude > 0))
}

/// Reads bits.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pending: u64,
    n_pending: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pending: 0, n_pending: 0 }
    }

    /// Reads `n` bits, at most 32.
    fn take(&mut self, n: u32) -> Option<u32> {
        while self.n_pending < n {
            let (first, rest) = self.bytes.split_first()?;
            self.pending |= u64::from(*first) << self.n_pending;
            self.n_pending += 8;
            self.bytes = rest;
        }
        let bits = self.pending & ((1_u64 << n) - 1);
        self.pending >>= n;
        self.n_pending -= n;
        u32::try_from(bits).ok()
    }

    /// Reads a number that was written with the same `k`; `None` at the end of the bits.
    pub(super) fn take_rice(&mut self, k: u32) -> Option<i32> {
        let mut upper = 0;
        while upper < UNARY_MAX && self.take(1)? == 1 {
            upper += 1;
        }
        let magnitude = if upper == UNARY_MAX { self.take(32)? } else { upper << k | self.take(k)? };
        let negative = magnitude > 0 && self.take(1)? == 1;
        let value = i32::try_from(magnitude).ok()?;
        Some(if negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer, rice_bits};

    #[test]
    fn numbers_come_back_and_their_length_is_known() {
        let numbers: Vec<i32> = (-300..300).chain([0, 1, -1, 1 << 20, -(1 << 30), i32::MAX, -i32::MAX]).collect();
        for k in [0, 1, 5, 12] {
            let mut writer = Writer::default();
            numbers.iter().for_each(|n| writer.put_rice(*n, k));
            let bits: u64 = numbers.iter().map(|n| rice_bits(*n, k)).sum();
            let bytes = writer.finish();
            assert_eq!(bytes.len() as u64, bits.div_ceil(8), "{k}");
            let mut reader = Reader::new(&bytes);
            let read: Vec<i32> = numbers.iter().map_while(|_| reader.take_rice(k)).collect();
            assert_eq!(read, numbers, "{k}");
            assert!((0..200).map_while(|_| reader.take_rice(k)).count() < 9);
        }
    }
}
