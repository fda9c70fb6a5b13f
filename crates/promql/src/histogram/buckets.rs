//! The buckets of one classic histogram at one moment, with cumulative counts.

/// How many observations were at most this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub bound: f64,
    pub count: f64,
}

/// Differences relative to the counts that are only rounding.
const TOLERANCE: f64 = 1e-12;

/// Puts buckets with the same bound (`1` and `1.0`) together; they are in order.
pub(super) fn coalesced(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, first| {
        let same = later.bound == first.bound;
        if same {
            first.count += later.count;
        }
        same
    });
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Makes counts never fall. Gives the lowest and highest bound at which one fell by more than rounding, and the largest
/// fall.
pub(super) fn mend(buckets: &mut [Bucket]) -> Option<((f64, f64), f64)> {
    let mut before = buckets.first()?.count;
    let mut mended: Option<((f64, f64), f64)> = None;
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count == before {
        } else if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let ((lowest, highest), fall) = mended.unwrap_or(((f64::INFINITY, f64::NEG_INFINITY), 0.0));
            let bounds = (lowest.min(bucket.bound), highest.max(bucket.bound));
            mended = Some((bounds, fall.max(before - bucket.count)));
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    mended
}

/// The quantile, by linear interpolation inside the bucket that holds it. NaN when the buckets do not end at infinity,
/// or hold nothing.
pub(super) fn quantile(q: f64, buckets: &[Bucket]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let [.., before_last, last] = buckets else { return f64::NAN };
    if last.bound != f64::INFINITY || last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    let finite = &buckets[..buckets.len() - 1];
    let place = first_reaching(finite, rank);
    if place == finite.len() {
        return before_last.bound;
    }
    let bucket = buckets[place];
    if place == 0 && bucket.bound <= 0.0 {
        return bucket.bound;
    }
    let (start, below) = if place > 0 { (buckets[place - 1].bound, buckets[place - 1].count) } else { (0.0, 0.0) };
    start + (bucket.bound - start) * ((rank - below) / (bucket.count - below))
}

/// The first bucket whose count reaches the rank, by bisection as Prometheus does (NaN counts reach nothing).
fn first_reaching(buckets: &[Bucket], rank: f64) -> usize {
    let (mut low, mut high) = (0, buckets.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if buckets[middle].count >= rank { high = middle } else { low = middle + 1 }
    }
    low
}

/// The fraction of observations between two values.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets.last().filter(|last| last.bound == f64::INFINITY) else { return f64::NAN };
    let count = last.count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets).min(count) - rank(lower, buckets).min(count)) / count
}

/// How many observations are below a value; all, when no bucket ends above it.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let mut start = if buckets[0].bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below = 0.0;
    for bucket in buckets {
        if start >= value {
            return below;
        }
        if start < value && bucket.bound > value {
            return match start {
                // A bucket without a lower end counts as a whole.
                f64::NEG_INFINITY => bucket.count,
                start => below + (bucket.count - below) * (value - start) / (bucket.bound - start),
            };
        }
        (start, below) = (bucket.bound, bucket.count);
    }
    f64::INFINITY
}
