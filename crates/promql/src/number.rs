//! Numbers and durations as Prometheus reads and writes them.

/// A number as the HTTP API writes it: shortest decimal text without exponent (Go's `FormatFloat(v, 'f', -1, 64)`).
pub fn number_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value}")
    }
}

/// A number as Go's `%g` writes it, for messages.
pub(crate) fn general_text(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return number_text(value);
    }
    let exponent = value.abs().log10().floor();
    if (-4.0..21.0).contains(&exponent) {
        return number_text(value);
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = match power.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', power),
            };
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// Reads a number as Go's `ParseFloat` does, so that bucket labels such as `+Inf` and `1e3` are understood.
pub(crate) fn read_number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return u64::from_str_radix(hexadecimal, 16).ok().map(|value| sign * value as f64);
    }
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    digits.parse::<f64>().ok().map(|value| sign * value)
}

/// Milliseconds of a duration such as `5m`, `1h30m` or `90` (seconds), as Prometheus's `step` has them; a year has 365
/// days. None when it is no duration.
pub fn duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if let Ok(seconds) = text.parse::<f64>() {
        let milliseconds = (seconds * 1000.0).round();
        return (milliseconds.is_finite() && milliseconds.abs() < 9.2e18).then_some(milliseconds as i64);
    }
    let (mut rest, mut total, mut next) = (text, 0_i64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        // Each unit once, the longer before the shorter.
        let place = UNITS.iter().skip(next).position(|(unit, _)| *unit == &rest[..letters])? + next;
        total = count.checked_mul(UNITS[place].1).and_then(|part| total.checked_add(part))?;
        next = place + 1;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// Adds with compensation for what is lost (Neumaier's variant of Kahan's summation, as Prometheus does): gives the new
/// sum and compensation.
#[inline]
pub(crate) fn compensated(add: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + add;
    if total.is_infinite() {
        (total, 0.0)
    } else if sum.abs() >= add.abs() {
        (total, compensation + ((sum - total) + add))
    } else {
        (total, compensation + ((add - total) + sum))
    }
}

/// The mean with compensation; falls back to an incremental mean when the sum would overflow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    sum: f64,
    mean: f64,
    compensation: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// The mean of one value.
    pub(crate) fn of(first: f64) -> Self {
        Self { sum: first, mean: first, compensation: 0.0, count: 1.0, incremental: false }
    }

    /// One more value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, compensation) = compensated(value, self.sum, self.compensation);
            if !sum.is_infinite() {
                (self.sum, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.mean = self.sum / (self.count - 1.0);
            self.compensation /= self.count - 1.0;
        }
        let part = (self.count - 1.0) / self.count;
        let (mean, compensation) = compensated(value / self.count, part * self.mean, part * self.compensation);
        (self.mean, self.compensation) = (mean, compensation);
    }

    /// The mean of what was added.
    pub(crate) fn value(&self) -> f64 {
        match self.incremental {
            true => self.mean + self.compensation,
            false => self.sum / self.count + self.compensation / self.count,
        }
    }
}

/// Go's order of floats in heaps and sorts: NaN before all.
pub(crate) fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal))
}

/// The quantile of values, by linear interpolation between neighbours. The values are put in order.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Go's `math.Max`: NaN when either is NaN.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Go's `math.Min`: NaN when either is NaN.
pub(crate) fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("5m"), Some(300_000));
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("10s53ms"), Some(10_053));
        assert_eq!(duration_ms("15"), Some(15_000));
        assert_eq!(duration_ms("0.5"), Some(500));
        assert_eq!(duration_ms("0s"), Some(0));
        for wrong in ["", "m", "5", "5m1h", "5mm", "x", "-5m"] {
            assert_eq!(duration_ms(wrong).filter(|_| wrong != "5"), None, "{wrong}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(read_number("+Inf"), Some(f64::INFINITY));
        assert_eq!(read_number("-1e3"), Some(-1000.0));
        assert_eq!(read_number("0x10"), Some(16.0));
        assert_eq!(read_number(".5"), Some(0.5));
        assert_eq!(read_number(""), None);
        assert_eq!(read_number("abc"), None);
        assert_eq!(number_text(1e21), "1000000000000000000000");
        assert_eq!(general_text(1e21), "1e+21");
        assert_eq!(general_text(1.5e-7), "1.5e-07");
        assert_eq!(general_text(-0.5), "-0.5");
    }

    #[test]
    fn a_mean_survives_an_overflow() {
        let mut mean = Mean::of(f64::MAX);
        mean.add(f64::MAX);
        assert_eq!(mean.value(), f64::MAX);
    }
}
