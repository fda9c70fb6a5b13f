//! Series that are random and yet the same for the same seed.

use surus_core::series::Labels;
use surus_promql::script::Memory;

/// A small generator of numbers (SplitMix64, by Sebastiano Vigna; public domain).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn chance(&mut self, of: f64) -> bool {
        self.fraction() < of
    }
}

pub type Samples = Vec<(Labels, Vec<(i64, f64)>)>;

/// The first moment that has samples, in milliseconds. Not at a full second, so that no step of a query meets a sample.
pub const START_MS: i64 = 1_700_000_007_123;
/// How many cycles there are, 15 s apart.
pub const CYCLES: i64 = 160;

/// Counters, gauges and a classic histogram with gaps. Values are much more than they change by, so that
/// extrapolation never meets their zero (in which versions of Prometheus differ).
pub fn samples(seed: u64) -> Samples {
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    for a in ["x", "y", "z"] {
        for b in ["1", "2"] {
            let labels = |name: &str| Labels::new([("__name__", name), ("a", a), ("b", b)]).unwrap();
            all.push((labels("requests_total"), counter(&mut dice, 50.0, 0.0)));
            all.push((labels("errors_total"), counter(&mut dice, 1.5, 0.03)));
            all.push((labels("load"), gauge(&mut dice)));
        }
        let mut below = vec![0.0; usize::try_from(CYCLES).unwrap()];
        for le in ["0.1", "0.5", "1", "+Inf"] {
            let labels = Labels::new([("__name__", "took_bucket"), ("a", a), ("le", le)]).unwrap();
            let mut sum = 1000.0;
            let points = (0..CYCLES).map(|cycle| {
                sum += (dice.fraction() * 10.0).floor();
                let below = &mut below[usize::try_from(cycle).unwrap()];
                *below += sum;
                (at(cycle), *below)
            });
            all.push((labels, points.collect()));
        }
    }
    all
}

fn at(cycle: i64) -> i64 {
    START_MS + cycle * 15_000
}

fn counter(dice: &mut Dice, growth: f64, resets: f64) -> Vec<(i64, f64)> {
    let mut value = 1e6 + (dice.fraction() * 1e6).floor();
    let mut points = Vec::new();
    for cycle in 0..CYCLES {
        value += (dice.fraction() * growth).floor();
        if dice.chance(resets) {
            value = (value / 2.0).floor();
        }
        if !dice.chance(0.05) {
            points.push((at(cycle), value));
        }
    }
    points
}

fn gauge(dice: &mut Dice) -> Vec<(i64, f64)> {
    let mut value = 1000.0 + dice.fraction() * 10.0;
    let mut points = Vec::new();
    let silent = dice.roll() % 160;
    for cycle in 0..CYCLES {
        value += dice.fraction() * 10.0 - 5.0;
        // A gap that is longer than the look-back.
        let quiet = (silent..silent + 30).contains(&cycle.unsigned_abs());
        if !quiet && !dice.chance(0.1) {
            points.push((at(cycle), value));
        }
    }
    points
}

/// The samples in memory.
pub fn memory(samples: &Samples) -> Memory {
    let mut memory = Memory::new();
    for (labels, points) in samples {
        points.iter().for_each(|(at, value)| memory.add(labels, *at, *value));
    }
    memory
}
