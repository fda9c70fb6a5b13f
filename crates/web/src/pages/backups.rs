//! Backups: the window that can be restored, drawn, with what stands behind it.

use super::{
    frame::{self, Asked},
    parts::{self, target_path},
    places,
    words::{ago, bytes, counted, moment, quantity, span},
};
use crate::{
    Site,
    access::{Login, Who},
    drills::{self, Drilling},
    views::{
        Scene,
        backups::{Backup, Backups, Holds, Part, Repository, look},
        plot::Unit,
    },
};
use axum::{
    extract::{ConnectInfo, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use std::{net::SocketAddr, sync::Arc};

/// The width of a band before it is stretched.
const WIDTH: f64 = 1000.0;

/// `/t/{target}/backups`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::BACKUPS, look, body).await
}

/// `POST /t/{target}/drill`: from the form below.
pub async fn drill(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(target): Path<String>,
) -> Response {
    let back = target_path(&target, "/backups");
    match drills::start(&site, &Who { address: Some(peer.ip()) }, &target) {
        Ok(_) => Redirect::to(&format!("{back}#drill")).into_response(),
        Err(error) => {
            let body = html! {
                h1 { "Nothing was done" }
                p.crit { (error.message) }
                p { a href=(back) { "‹ Backups" } }
            };
            (error.kind.status(), frame::plain("A restore drill", Login::In, body)).into_response()
        }
    }
}

fn body(scene: &Scene, view: &Backups) -> Markup {
    html! {
        h1 { (headline(scene, view)) }
        @if let Some(why) = &view.empty { (parts::nothing(why)) }
        @for one in &view.repositories { (repository(scene, one)) }
        @if !view.repositories.is_empty() { (question(scene, view)) }
        (drill_part(scene, view))
        div.plots { @for plot in &view.plots { (parts::plot(scene, plot)) } }
    }
}

fn headline(scene: &Scene, view: &Backups) -> String {
    let holding: Vec<&Holds> = view.repositories.iter().filter_map(|one| one.holds.as_ref()).collect();
    if let Some(unread) = view.repositories.iter().find(|one| one.holds.is_none()) {
        return match holding.len() {
            0 => format!("No backup is known: {} says nothing", unread.name),
            _ => format!("{} cannot be read", unread.name),
        };
    }
    let holes: usize = holding.iter().map(|holds| holds.gaps.len()).sum();
    let unreadable: usize = holding.iter().map(|holds| holds.unreadable.len()).sum();
    let sound = |backup: &&Backup| backup.trouble.is_none();
    let newest = holding.iter().flat_map(|holds| &holds.backups).filter(sound).map(|backup| backup.stopped_ms).max();
    match (newest, holes) {
        (None, _) if holding.is_empty() => "No backup is known".to_owned(),
        (None, _) => "There is no backup that can be restored".to_owned(),
        (Some(_), 0) if unreadable > 0 => format!("{} cannot be read", counted(unreadable, "backup")),
        (Some(at), 0) => {
            format!("The newest backup is {} old, and no WAL is missing", span((scene.now_ms - at).max(0)))
        }
        (Some(_), 1) => "WAL is missing: some moments cannot be restored".to_owned(),
        (Some(_), holes) => format!("WAL is missing in {holes} places: some moments cannot be restored"),
    }
}

fn repository(scene: &Scene, one: &Repository) -> Markup {
    html! {
        section.list.wide.repository {
            h2 { "Repository " (one.name) }
            @match &one.holds {
                None => {
                    p.nothing {
                        (one.why.as_deref().unwrap_or("It was not looked at yet."))
                        " Look for yourself: "
                        code { "surus backup list --repo " (one.name) }
                    }
                }
                Some(holds) => (held(scene, one, holds)),
            }
        }
    }
}

fn held(scene: &Scene, one: &Repository, holds: &Holds) -> Markup {
    html! {
        p.faint {
            (holds.address)
            " · " (if holds.off_site { "off-site" } else { "a folder of this machine" })
            " · " (if holds.encrypted { "encrypted" } else { "not encrypted" })
            @if let Some(free) = holds.free_bytes { " · " (bytes(free)) " free" }
            " · looked at " (ago(scene.now_ms, holds.looked_ms))
        }
        dl.facts {
            (fact("backups", &html! { (holds.backups.len()) ", " (bytes(holds.stored_bytes)) }))
            (fact("archived WAL", &html! { (bytes(holds.wal_bytes)) }))
            (fact("newest segment", &newest(scene, holds)))
            @if let Some(label) = &holds.in_progress { (fact("being taken", &html! { (label) })) }
        }
        @if !holds.unreadable.is_empty() {
            ul.worries {
                @for (label, why) in &holds.unreadable {
                    li.crit { span.mark { "crit" } " Backup " (label) ": " (why) }
                }
            }
        }
        @if holds.backups.is_empty() && holds.unreadable.is_empty() {
            p.nothing {
                "There is no backup of this cluster yet. Take one: "
                code { "surus backup run --repo " (one.name) " " (target_of(scene)) }
                ", and let surus take more: a [[backup]] in surus.toml."
            }
        } @else {
            (bands(scene, one, holds))
            (table(scene, holds))
        }
        @if !holds.gaps.is_empty() {
            p.crit {
                "Missing WAL: "
                @for (at, gap) in holds.gaps.iter().enumerate() {
                    @if at > 0 { ", " }
                    (gap.first)
                    @if gap.segments > 1 { " to " (gap.last) " (" (gap.segments) " segments)" }
                }
                ". Moments behind a gap can be restored only from a backup that ended after it: "
                code { "surus backup run --full --repo " (one.name) }
            }
        }
    }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn newest(scene: &Scene, holds: &Holds) -> Markup {
    html! {
        @match &holds.newest_segment {
            None => span.crit { "none: nothing is archived" },
            Some(name) => {
                code { (name) }
                @if let Some(at) = holds.newest_segment_ms { ", " (ago(scene.now_ms, at)) }
            }
        }
    }
}

/// What is drawn: from the first backup's begin until now.
struct Scale {
    from_ms: i64,
    to_ms: i64,
}

impl Scale {
    fn of(scene: &Scene, holds: &Holds) -> Self {
        let parts = holds.timelines.iter().flat_map(|line| &line.stretches).map(|part| part.from_ms);
        let from = holds.backups.iter().map(|backup| backup.started_ms).chain(parts).min();
        let from_ms = from.unwrap_or(scene.now_ms);
        Self { from_ms, to_ms: scene.now_ms.max(from_ms + 1000) }
    }

    /// From 0 to [`WIDTH`].
    fn x(&self, at_ms: i64) -> f64 {
        let share = (at_ms - self.from_ms) as f64 / (self.to_ms - self.from_ms) as f64;
        share.clamp(0.0, 1.0) * WIDTH
    }

    fn at(&self, share: f64) -> i64 {
        self.from_ms + ((self.to_ms - self.from_ms) as f64 * share) as i64
    }
}

/// A band for each timeline, with the backups on it.
fn bands(scene: &Scene, one: &Repository, holds: &Holds) -> Markup {
    let scale = Scale::of(scene, holds);
    let many = holds.timelines.len() > 1;
    html! {
        figure.window {
            figcaption {
                h3 { "What can be restored" }
                p.faint { "Each mark is a backup: tall ones are full, short ones hold what changed since the one before." }
            }
            @for line in &holds.timelines {
                @if many {
                    p.faint {
                        "timeline " (line.timeline)
                        @if let Some(parent) = line.parent { ", which began from " (parent) }
                    }
                }
                (band(scene, one, holds, line.timeline, &line.stretches, &scale))
            }
            div.axis aria-hidden="true" {
                @for share in [0.0, 0.5, 1.0] { span { (axis(&scale, scale.at(share))) } }
            }
            ul.key {
                li { span.swatch.reached {} "can be restored" }
                @if holds.timelines.iter().any(|line| line.stretches.iter().any(|part| part.why.is_some())) {
                    li { span.swatch.hole {} "cannot: see why below" }
                }
                li { span.swatch.open {} "not archived yet" }
            }
            (holes(holds))
        }
    }
}

/// Days, unless all of it is one.
fn axis(scale: &Scale, at_ms: i64) -> String {
    let text = moment(at_ms);
    let one_day = scale.to_ms - scale.from_ms < 20 * 3_600_000;
    if one_day { text.split_once(' ').map_or(text.clone(), |(_, time)| time.to_owned()) } else { text }
}

fn band(scene: &Scene, one: &Repository, holds: &Holds, timeline: u32, stretches: &[Part], scale: &Scale) -> Markup {
    let end = stretches.last().map_or(scale.from_ms, |part| part.to_ms);
    let newest = holds.timelines.iter().map(|line| line.timeline).max() == Some(timeline);
    let backups = holds.backups.iter().filter(|backup| backup.timeline == timeline);
    let label = format!("{} on timeline {timeline}: {}", one.name, said(stretches));
    html! {
        svg.band viewBox=(format!("0 0 {WIDTH} 40")) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for part in stretches {
                @let (from, to) = (scale.x(part.from_ms), scale.x(part.to_ms));
                rect class=(if part.why.is_some() { "hole" } else { "reached" }) x=(format!("{from:.1}")) y="14"
                    width=(format!("{:.1}", (to - from).max(2.0))) height="20" {
                    title {
                        (moment(part.from_ms)) " to " (moment(part.to_ms)) ": "
                        (part.why.as_deref().unwrap_or("can be restored"))
                    }
                }
            }
            @if newest && scene.now_ms > end {
                rect.open x=(format!("{:.1}", scale.x(end))) y="14" width=(format!("{:.1}", WIDTH - scale.x(end))) height="20" {
                    title { "since " (moment(end)) ": not in the archive yet" }
                }
            }
            @for backup in backups {
                @let begin = scale.x(backup.started_ms);
                @let width = (scale.x(backup.stopped_ms) - begin).max(4.0);
                rect.backup.broken[backup.trouble.is_some()] x=(format!("{:.1}", begin.min(WIDTH - width)))
                    y=(if backup.full { "4" } else { "12" }) width=(format!("{width:.1}"))
                    height=(if backup.full { "36" } else { "24" }) {
                    title { (backup.label) ", ended " (moment(backup.stopped_ms)) }
                }
            }
        }
    }
}

/// The band in words, for who does not see it.
fn said(stretches: &[Part]) -> String {
    let part = |part: &Part| {
        let what = part.why.as_ref().map_or_else(|| "can be restored".to_owned(), |why| format!("cannot be: {why}"));
        format!("{} to {} {what}", moment(part.from_ms), moment(part.to_ms))
    };
    stretches.iter().map(part).collect::<Vec<_>>().join("; ")
}

fn holes(holds: &Holds) -> Markup {
    let parts = holds.timelines.iter().flat_map(|line| line.stretches.iter().map(move |part| (line.timeline, part)));
    let holes: Vec<_> = parts.filter(|(_, part)| part.why.is_some()).collect();
    html! {
        @if !holes.is_empty() {
            ul.worries {
                @for (timeline, part) in holes {
                    li.crit {
                        span.mark { "hole" }
                        " "
                        (moment(part.from_ms)) " to " (moment(part.to_ms))
                        @if holds.timelines.len() > 1 { " on timeline " (timeline) }
                        ": "
                        (part.why.as_deref().unwrap_or_default())
                    }
                }
            }
        }
    }
}

fn table(scene: &Scene, holds: &Holds) -> Markup {
    html! {
        div.scroll { table.dense {
            thead { tr {
                th scope="col" { "Backup" }
                th scope="col" { "Ended" }
                th.number scope="col" { "Took" }
                th.number scope="col" { "Size" }
                th.number scope="col" { "Stored" }
                th.number scope="col" { "Rate" }
                th scope="col" { "Verified" }
                th scope="col" { "State" }
            } }
            tbody { @for backup in holds.backups.iter().rev() { (row(scene, backup)) } }
        } }
    }
}

fn row(scene: &Scene, backup: &Backup) -> Markup {
    html! {
        tr #{ "backup-" (backup.label) } {
            th.name scope="row" {
                (backup.label)
                div.faint {
                    @match &backup.parent {
                        None => "full",
                        Some(parent) => { "builds on " a href=(format!("#backup-{parent}")) { (parent) } }
                    }
                    " · " (backup.start_lsn) " to " (backup.stop_lsn)
                }
            }
            td.time { (parts::time(backup.stopped_ms)) div.faint { (ago(scene.now_ms, backup.stopped_ms)) } }
            td.number { (span((backup.stopped_ms - backup.started_ms).max(0))) }
            td.number { (bytes(backup.size_bytes)) }
            td.number { (bytes(backup.stored_bytes)) }
            td.number {
                @match backup.bytes_per_second { Some(rate) => (quantity(rate, Unit::BytesPerSecond)), None => "–" }
            }
            td {
                @match backup.verified_ms {
                    Some(at) => (ago(scene.now_ms, at)),
                    None => span.faint { "never: " code { "surus backup verify" } },
                }
            }
            td {
                @match &backup.trouble {
                    Some(why) => span.crit { (why) },
                    None if backup.damaged_pages > 0 => {
                        span.warn { (counted(usize::try_from(backup.damaged_pages).unwrap_or(usize::MAX), "damaged page")) }
                    }
                    None => span.ok { "whole" },
                }
            }
        }
    }
}

/// A form that needs no script: can this moment be restored?
fn question(scene: &Scene, view: &Backups) -> Markup {
    let asked = scene.form.get("at").unwrap_or_default();
    html! {
        section.list.wide #moment {
            h2 { "Can a moment be restored?" }
            form.filter method="get" action={ (scene.path) "#moment" } {
                @for (name, value) in scene.form.pairs().filter(|(name, _)| ["from", "to", "live"].contains(name)) {
                    input type="hidden" name=(name) value=(value);
                }
                label for="at" { "The moment, UTC " }
                input #at name="at" value=(asked) placeholder="2026-09-21 14:13:20 or now-10m" autocomplete="off";
                " "
                button { "Ask" }
            }
            @if let Some(moment_asked) = &view.asked {
                p {
                    (moment(moment_asked.at_ms))
                    " "
                    @if moment_asked.can { span.state.ok { "can be restored" } } @else { span.state.crit { "cannot be restored" } }
                }
                @if moment_asked.can { pre { (moment_asked.said) } } @else { p { (moment_asked.said) } }
            }
        }
    }
}

/// The button, the question behind it, and what a drill says.
fn drill_part(scene: &Scene, view: &Backups) -> Markup {
    let running = view.drill.as_ref().is_some_and(|drill| drill.finished_ms.is_none());
    html! {
        section.list.wide #drill {
            h2 { "Prove it: a restore drill" }
            p {
                "A backup that nobody has restored is a hope. A drill restores it into a scratch place, lets it recover, "
                "looks at every table, index and page, measures RTO and RPO, and writes what it found into "
                a href="/proofs?kind=restore" { "the ledger" } "."
            }
            @if let Some(drill) = &view.drill { (told(scene, drill)) }
            @if !running { (button(scene, view)) }
            @if let Some(target) = &scene.target {
                p {
                    "When it is needed: "
                    a href=(parts::link(scene, &target_path(&target.name, "/runbook"), &[])) { "restore after data loss" }
                    ", step by step, with what the last drill ran."
                }
            }
        }
    }
}

fn button(scene: &Scene, view: &Backups) -> Markup {
    let (Some(command), Some(target)) = (&view.command, &scene.target) else {
        return html! { p.faint { "No drill can be started from here: " (view.no_drill.as_deref().unwrap_or_default()) "." } };
    };
    let typed = html! { div.text { pre { code { (command) } } surus-copy {} } };
    match scene.login {
        Login::Absent => html! {
            p.faint {
                "It is started from here only by somebody who is logged in, and no login is configured ([serve] password "
                "in surus.toml). In a terminal:"
            }
            (typed)
        },
        Login::Out => html! {
            p { a.chip href=(frame::login_path(Some(scene))) hx-boost="false" { "Log in to start a drill" } }
        },
        Login::In if scene.form.get("do") == Some("drill") => html! {
            section.confirm role="alertdialog" aria-label="Start a restore drill?" {
                h3 { "Start a restore drill?" }
                p {
                    "The repository is only read, the watched server is not touched. It takes room for a copy of the "
                    "cluster until it is over, and runs with low priority. What will be run:"
                }
                (typed)
                form method="post" action=(target_path(&target.name, "/drill")) { button.danger { "Start the drill" } }
                a href=(parts::here(scene, &[("do", None)])) { "No" }
            }
        },
        Login::In => html! {
            p { a.chip href={ (parts::here(scene, &[("do", Some("drill"))])) "#drill" } { "Prove a restore …" } }
        },
    }
}

fn told(scene: &Scene, drill: &Drilling) -> Markup {
    let took = span((drill.finished_ms.unwrap_or(scene.now_ms) - drill.started_ms).max(0));
    html! {
        article.finding.crit[drill.exit_status.is_some_and(|status| status != 0)] {
            h3 {
                @match drill.exit_status {
                    None => { "A drill runs, for " (took) " now" },
                    Some(0) => { span.ok { "Proven" } " in " (took) ", " (ago(scene.now_ms, drill.started_ms)) },
                    Some(1) => { span.crit { "The drill failed" } " after " (took) },
                    Some(status) => { span.crit { "The drill could not be run" } " (exit status " (status) ")" },
                }
            }
            p.faint { code { (drill.command) } }
            @if !drill.said.is_empty() { pre { (drill.said) } }
        }
    }
}

fn target_of(scene: &Scene) -> &str {
    scene.target.as_ref().map_or("", |target| target.name.as_str())
}
