//! Values of one series over many cycles, as bytes. Every bit of every value comes back, of every NaN too.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};

use super::Damage;
use super::bytes::{Cursor, put, put_signed};

/// What a series has in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Absent = 0,
    Value = 1,
    /// It ends: a stale marker.
    Ended = 2,
    /// Only in aggregates: it has values, and then ends.
    ValueThenEnded = 3,
}

impl State {
    fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Absent,
            1 => Self::Value,
            2 => Self::Ended,
            _ => Self::ValueThenEnded,
        }
    }

    /// Does a value stand for it?
    pub(super) fn has_value(self) -> bool {
        matches!(self, Self::Value | Self::ValueThenEnded)
    }
}

/// Which cycles a series has, as stretches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Presence(pub Vec<(State, u32)>);

impl Presence {
    /// One more cycle.
    pub(super) fn push(&mut self, state: State) {
        self.extend(state, 1);
    }

    /// More cycles.
    pub(super) fn extend(&mut self, state: State, cycles: u32) {
        match self.0.last_mut() {
            Some((last, length)) if *last == state => *length += cycles,
            _ if cycles > 0 => self.0.push((state, cycles)),
            _ => {}
        }
    }

    /// Appends it. That there is a value in every cycle, as is usual, takes one byte.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let stretches = match self.0.as_slice() {
            [(State::Value, _)] => &[],
            other => other,
        };
        put(out, stretches.len() as u64);
        for (state, length) in stretches {
            put(out, (u64::from(*length) << 2) | *state as u64);
        }
    }

    /// Reads what [`Presence::put`] wrote about so many cycles.
    pub(super) fn take(cursor: &mut Cursor<'_>, cycles: u32) -> Result<Self, Damage> {
        let count = cursor.take_count(cycles as usize)?;
        if count == 0 {
            return Ok(Self(vec![(State::Value, cycles)]));
        }
        let mut presence = Self::default();
        for _ in 0..count {
            let number = cursor.take()?;
            let length = u32::try_from(number >> 2).ok().filter(|length| (1..=cycles).contains(length));
            presence.0.push((State::from_bits(number), length.ok_or(Damage("a stretch has a wrong length"))?));
        }
        let sum: u64 = presence.0.iter().map(|(_, length)| u64::from(*length)).sum();
        if sum == u64::from(cycles) { Ok(presence) } else { Err(Damage("the stretches are too short or too long")) }
    }

    /// How many of the cycles have a value.
    pub(super) fn values(&self) -> usize {
        self.0.iter().filter(|(state, _)| state.has_value()).map(|(_, length)| *length as usize).sum()
    }
}

/// How values are written; the numbers are in the file.
mod code {
    /// Whole numbers: stretches of the same step from value to value.
    pub const STEPS: u8 = 1;
    /// Any numbers: stretches of the same bits.
    pub const RUNS: u8 = 2;
    /// Whole numbers, by pco.
    pub const WHOLE: u8 = 3;
    /// Any numbers, by pco.
    pub const FLOAT: u8 = 4;
    /// The bits.
    pub const BITS: u8 = 5;
}

/// Fewer values are not worth what pco needs to say how it wrote them.
const FEW: usize = 16;

/// Appends values, in the shortest of the ways that fit. How many they are is for the reader to know.
pub(super) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let whole = whole(values);
    let mut best = match &whole {
        Some(numbers) => steps(numbers),
        None => runs(values),
    };
    // A quarter of a byte per value is less than pco would need.
    if best.len() > 12 + values.len() / 4 && values.len() >= FEW {
        let packed = match &whole {
            Some(numbers) => pack(code::WHOLE, numbers),
            None => pack(code::FLOAT, values),
        };
        if packed.as_ref().is_some_and(|packed| packed.len() < best.len()) {
            best = packed.unwrap_or(best);
        }
    }
    if best.len() > values.len() * 8 + 1 {
        best = vec![code::BITS];
        best.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
    }
    put(out, best.len() as u64);
    out.extend_from_slice(&best);
}

/// Reads so many values to the end of a list.
pub(super) fn take_values(cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), Damage> {
    let length = cursor.take_count(cursor.0.len())?;
    let bytes = cursor.take_bytes(length)?;
    let (code, body) = bytes.split_first().ok_or(Damage("it is empty"))?;
    match *code {
        code::STEPS => read_steps(Cursor(body), count, out),
        code::RUNS => read_runs(Cursor(body), count, out),
        code::WHOLE => {
            let mut numbers = Vec::new();
            unpack::<i64>(body, count, &mut numbers)?;
            out.extend(numbers.into_iter().map(|number| number as f64));
            Ok(())
        }
        code::FLOAT => unpack(body, count, out),
        code::BITS if body.len() == count * 8 => {
            out.extend(body.as_chunks::<8>().0.iter().map(|bits| f64::from_bits(u64::from_le_bytes(*bits))));
            Ok(())
        }
        _ => Err(Damage("its values are written in no way that is known")),
    }
}

/// The values as whole numbers, if they are, each with the same bits. Minus zero is none.
fn whole(values: &[f64]) -> Option<Vec<i64>> {
    let whole = |value: &f64| {
        let number = *value as i64;
        // Up to 2^53 every whole number is a float.
        (number.unsigned_abs() <= 1 << 53 && (number as f64).to_bits() == value.to_bits()).then_some(number)
    };
    values.iter().map(whole).collect()
}

fn steps(numbers: &[i64]) -> Vec<u8> {
    let mut out = vec![code::STEPS];
    let mut before = 0;
    let mut stretch: Option<(i64, u64)> = None;
    for number in numbers {
        let step = number - before;
        before = *number;
        match &mut stretch {
            Some((same, length)) if *same == step => *length += 1,
            _ => {
                put_stretch(&mut out, stretch);
                stretch = Some((step, 1));
            }
        }
    }
    put_stretch(&mut out, stretch);
    out
}

fn put_stretch(out: &mut Vec<u8>, stretch: Option<(i64, u64)>) {
    if let Some((step, length)) = stretch {
        put_signed(out, step);
        put(out, length);
    }
}

fn read_steps(mut cursor: Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), Damage> {
    let mut number = 0i64;
    let mut left = count;
    while left > 0 {
        let step = cursor.take_signed()?;
        let length = cursor.take_count(left)?;
        if length == 0 {
            return Err(Damage("a stretch is empty"));
        }
        out.extend((0..length).map(|_| {
            number = number.wrapping_add(step);
            number as f64
        }));
        left -= length;
    }
    Ok(())
}

fn runs(values: &[f64]) -> Vec<u8> {
    let mut out = vec![code::RUNS];
    for same in values.chunk_by(|a, b| a.to_bits() == b.to_bits()) {
        if let Some(value) = same.first() {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
            put(&mut out, same.len() as u64);
        }
    }
    out
}

fn read_runs(mut cursor: Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), Damage> {
    let mut left = count;
    while left > 0 {
        let (bits, _) = cursor.take_bytes(8)?.as_chunks::<8>();
        let bits = bits.first().ok_or(Damage("it ends too early"))?;
        let length = cursor.take_count(left)?;
        if length == 0 {
            return Err(Damage("a stretch is empty"));
        }
        out.resize(out.len() + length, f64::from_bits(u64::from_le_bytes(*bits)));
        left -= length;
    }
    Ok(())
}

/// pco's wrapped format (<https://github.com/pcodec/pcodec/blob/main/docs/format.md>): header, meta data, one page.
/// None where pco refuses, which it does for no numbers that are few enough.
fn pack<T: Number>(code: u8, numbers: &[T]) -> Option<Vec<u8>> {
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &ChunkConfig::default()).ok()?;
    let mut out = vec![code];
    out = file.write_header(out).ok()?;
    out = chunk.write_meta(out).ok()?;
    chunk.write_page(0, out).ok()
}

fn unpack<T: Number + Default>(bytes: &[u8], count: usize, out: &mut Vec<T>) -> Result<(), Damage> {
    let damage = |_| Damage("its values do not unpack");
    let (file, bytes) = FileDecompressor::new(bytes).map_err(damage)?;
    let (mut chunk, bytes) = file.chunk_decompressor::<T, _>(bytes).map_err(damage)?;
    let mut page = chunk.page_decompressor(bytes, count).map_err(damage)?;
    let before = out.len();
    out.resize(before + count, T::default());
    let progress = page.read(&mut out[before..]).map_err(damage)?;
    if progress.n_processed == count { Ok(()) } else { Err(Damage("it has fewer values")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[f64]) -> (Vec<u64>, usize) {
        let mut out = Vec::new();
        put_values(&mut out, values);
        let mut cursor = Cursor(&out);
        let mut back = Vec::new();
        take_values(&mut cursor, values.len(), &mut back).unwrap();
        assert!(cursor.0.is_empty());
        (back.iter().map(|value| value.to_bits()).collect(), out.len())
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let odd = [
            f64::NAN,
            -0.0,
            0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            f64::MAX,
            9_007_199_254_740_993.0,
        ];
        let any_bits = any::<u64>().prop_map(f64::from_bits);
        let some_odd = proptest::sample::select(odd.to_vec());
        let small = (-5i64..5).prop_map(|number| number as f64);
        let decimal = (0i64..100_000).prop_map(|number| number as f64 / 100.0);
        let whole = any::<i64>().prop_map(|number| number as f64);
        prop_oneof![
            prop::collection::vec(any_bits.clone(), 0..300),
            prop::collection::vec(small, 0..300),
            prop::collection::vec(decimal.clone(), 0..300),
            prop::collection::vec(whole, 0..300),
            prop::collection::vec(prop_oneof![any_bits, some_odd, decimal], 0..300),
        ]
    }

    proptest! {
        #[test]
        fn any_values_come_back_bit_by_bit(values in values()) {
            let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(round_trip(&values).0, bits);
        }

        #[test]
        fn any_presence_comes_back(stretches in prop::collection::vec((0u64..4, 1u32..100), 1..20)) {
            let mut presence = Presence::default();
            let cycles = stretches.iter().map(|(_, length)| *length).sum();
            for (state, length) in stretches {
                presence.extend(State::from_bits(state), length);
            }
            let mut out = Vec::new();
            presence.put(&mut out);
            prop_assert_eq!(Presence::take(&mut Cursor(&out), cycles).unwrap(), presence);
        }

        #[test]
        fn odd_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>, count in 0usize..1000) {
            let _any = take_values(&mut Cursor(&bytes), count, &mut Vec::new());
            let _any = Presence::take(&mut Cursor(&bytes), 720);
        }
    }

    #[test]
    fn what_hardly_changes_takes_hardly_anything() {
        assert!(round_trip(&[5.0; 720]).1 <= 8);
        assert!(round_trip(&[0.1; 720]).1 <= 13);
        let steady: Vec<f64> = (0..720).map(|number| f64::from(number) * 8192.0).collect();
        assert!(round_trip(&steady).1 <= 12);
        let noisy: Vec<f64> = (0..720u32).map(|number| f64::from(number * 100 + number * 7919 % 13)).collect();
        assert!(round_trip(&noisy).1 < 720);
    }
}
