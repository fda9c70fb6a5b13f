use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use jiff::civil::Date;
use surus_core::{
    clock,
    finding::{Finding, Reason},
    plan::Plan,
    release::{self, KNOWN_ON, Release},
    version::Version,
};
use surus_pg::facts::Managed;

pub static CHECK: Check = Check {
    id: "srv.minor_version",
    title: "the server lacks fixes, or soon gets none",
    inspects: "the server's version against the newest minor release and the end of life of its major that surus knows",
    why: "Minor releases only hold fixes: for crashes, for lost or damaged data and for security holes that everybody can \
          read about. After its end of life a major gets none at all.",
    remedy: "Install the newest minor release and restart; the data directory stays as it is. Plan the upgrade to a newer \
             major at least half a year before the end of life.",
    source: "PostgreSQL's versioning policy; check_pgactivity minor_version; check_postgres new_version_pg; CIS benchmark 1.x",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::below("support", "days", 180.0, 0.0)],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let version = scene.facts.version;
    let Some(known) = release::of(version) else {
        let text = format!("surus knows no releases of PostgreSQL {}; it was built on {KNOWN_ON}", version.major());
        return Ok(Verdict::unknown(Reason::Version(text)));
    };
    let today = clock::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let behind = behind(scene.facts.managed, version, known);
    let ending = ending(&scene.threshold("support"), version, known, today);
    Ok(Verdict::of(behind.into_iter().chain(ending).collect()))
}

fn behind(managed: Option<Managed>, version: Version, known: &Release) -> Option<Finding> {
    // Aurora counts patches in a way of its own.
    if version.minor() >= known.newest_minor || managed == Some(Managed::Aurora) {
        return None;
    }
    let newest = format!("{}.{}", known.major, known.newest_minor);
    Some(
        Finding::warn("minor", format!("PostgreSQL {version} is {} behind {newest}", releases(known.newest_minor - version.minor())))
            .detail("The fixes in between are public, and so are the faults that they repair.")
            .saw("running", version.to_string())
            .saw("newest minor known", newest.as_str())
            .saw("known on", KNOWN_ON.to_string())
            .fix(Plan::advice(match managed {
                Some(service) => format!("let {} install {newest} in the next maintenance window", service.name()),
                None => format!(
                    "read the release notes up to {newest}, install it with the system's package manager and restart the server; \
                     standbys first"
                ),
            })),
    )
}

fn releases(count: u16) -> String {
    if count == 1 { "one minor release".into() } else { format!("{count} minor releases") }
}

fn ending(support: &Threshold, version: Version, known: &Release, today: Date) -> Option<Finding> {
    let days = (known.end_of_life - today).get_days();
    let severity = support.grade(f64::from(days))?;
    let title = match days {
        ..0 => format!("PostgreSQL {} has had no fixes since {}", version.major(), known.end_of_life),
        _ => format!(
            "PostgreSQL {} gets its last fixes on {} ({days} days from now)",
            version.major(),
            known.end_of_life
        ),
    };
    Some(
        Finding::new(severity, "major", title)
            .detail("Security holes that are found after that day stay open.")
            .saw("running", version.to_string())
            .measured("days of support left", days, "days")
            .fix(Plan::advice(
                "rehearse the upgrade to a newer major on a copy (pg_upgrade --check, then --link or --clone), then set a date",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHECK, behind, ending};
    use crate::testing::*;
    use jiff::civil::date;
    use surus_core::{release, version::Version};

    /// The packages of the machine that runs the tests may lack a minor release; nothing else is found.
    #[test]
    fn a_well_kept_cluster_lacks_at_most_what_its_packages_lack() {
        for (version, found) in on_well_kept(&CHECK) {
            let missing = behind(None, version, release::of(version).unwrap()).map(|finding| finding.title);
            let titles: Vec<_> = found.iter().map(|finding| &finding.title).collect();
            assert_eq!(titles, Vec::from_iter(&missing), "on PostgreSQL {version}");
        }
    }

    #[test]
    fn without_privilege_it_is_unknown() {
        unprivileged(&CHECK);
    }

    /// A server's version cannot be seeded, so the two judgements are asked with versions and days of our choice.
    #[test]
    fn judges_minors_and_ends_of_life() {
        let old = Version::from_num(150_002);
        let known = release::of(old).unwrap();
        let found = behind(None, old, known).unwrap();
        assert!(found.title.starts_with("PostgreSQL 15.2 is") && found.severity.word() == "warn", "{}", found.title);
        assert_eq!(behind(None, Version::from_num(150_000 + u32::from(known.newest_minor)), known), None);

        assert_eq!(known.end_of_life, date(2027, 11, 11));
        let on = |year, month, day| {
            ending(&CHECK.thresholds[0], old, known, date(year, month, day)).map(|found| found.severity.word())
        };
        assert_eq!([on(2027, 5, 14), on(2027, 5, 16), on(2027, 11, 12)], [None, Some("warn"), Some("crit")]);
    }
}
