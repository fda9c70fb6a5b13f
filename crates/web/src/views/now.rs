//! The newest answers of a target, looked up by the names of their families.

use surus_core::series::Point;
use surus_observe::TargetNow;

/// The points of a family, over all databases that were asked.
pub fn points<'a>(target: &'a TargetNow, family: &'a str) -> impl Iterator<Item = &'a Point> {
    let told = target.answers.iter().flat_map(|answer| &answer.told);
    told.filter(move |told| told.family.name == family).flat_map(|told| &told.points)
}

/// The only value of a family, or the first one.
pub fn value(target: &TargetNow, family: &str) -> Option<f64> {
    points(target, family).next().map(|point| point.value)
}

/// The sum over a family's points with these labels; none when there are none.
pub fn sum(target: &TargetNow, family: &str, with: &[(&str, &str)]) -> Option<f64> {
    let fits = |point: &&Point| with.iter().all(|(name, value)| point.labels.get(name) == Some(value));
    points(target, family).filter(fits).map(|point| point.value).reduce(|a, b| a + b)
}

/// When the target answered last, in milliseconds since 1970. What surus itself says of it does not count.
pub fn newest_ms(target: &TargetNow) -> Option<i64> {
    let own = surus_observe::own::UP.name;
    let heard = target.answers.iter().filter(|answer| answer.told.iter().all(|told| told.family.name != own));
    heard.map(|answer| answer.at_ms).max()
}

/// The processors of the machine that the target runs on, when surus runs there too.
pub fn cores(snapshot: &surus_observe::Snapshot, target: &TargetNow) -> Option<usize> {
    target.places.as_ref()?;
    let host = snapshot.host.as_ref()?;
    let cpu = host.told.iter().find(|told| told.family.name == "node_cpu_seconds_total")?;
    let idle = cpu.points.iter().filter(|point| point.labels.get("mode") == Some("idle")).count();
    (idle > 0).then_some(idle)
}
