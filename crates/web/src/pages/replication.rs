//! Replication, slots, WAL and its archive.

use super::{
    frame::{self, Asked},
    parts, places,
    tables::{known, missing, when},
    words::{counted, quantity},
};
use crate::views::{
    Scene,
    plot::Unit,
    replication::{Archive, Receiver, Replication, Slot, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/replication`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::REPLICATION, look, body).await
}

fn body(scene: &Scene, view: &Replication) -> Markup {
    html! {
        h1 { (headline(view)) }
        (missing(&view.missing))
        @if let Some(upstream) = &view.upstream {
            p {
                "Receives WAL from " b { (upstream.host) } " (" (upstream.status) ")"
                @if let Some(slot) = &upstream.slot { " through the slot " b { (slot) } }
                ", last message " (when(scene, upstream.heard_ms)) "."
            }
        } @else if view.role == Some("standby") {
            p.warn { "No WAL receiver runs: it is fed from an archive, or the link to its primary is dead." }
        }
        section.list.wide {
            h2 { "Who receives WAL from here" }
            @if view.receivers.is_empty() { (parts::nothing(nobody(view))) } @else {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "Receiver" }
                        th scope="col" { "State" }
                        th scope="col" { "Slot" }
                        th.number scope="col" { "Not sent" }
                        th.number scope="col" { "Not written" }
                        th.number scope="col" { "Not durable" }
                        th.number scope="col" { "Not replayed" }
                        th.number scope="col" { "Behind" }
                    } }
                    tbody { @for one in &view.receivers { (receiver(one)) } }
                } }
            }
        }
        section.list.wide {
            h2 { "Slots" }
            @if view.slots.is_empty() { (parts::nothing("There is no replication slot.")) } @else {
                div.scroll { table {
                    thead {
                        tr {
                            th scope="col" { "Slot" }
                            th scope="col" { "Used" }
                            th.number scope="col" { "Keeps" }
                            th.number scope="col" { "Until lost" }
                            th scope="col" { "WAL" }
                        }
                    }
                    tbody { @for one in &view.slots { (slot(one)) } }
                } }
            }
        }
        section.list.wide {
            h2 { "Archive" }
            (archive(scene, &view.archive))
        }
        div.plots { @for plot in &view.plots { (parts::plot(scene, plot)) } }
    }
}

fn nobody(view: &Replication) -> &'static str {
    match view.role {
        Some("standby") => "Nobody: no other standby is fed by this one.",
        _ => "Nobody. A server without a standby loses what was written since the last backup when its disk dies.",
    }
}

fn headline(view: &Replication) -> String {
    if let Some(lag) = view.lag_seconds {
        return format!("This standby is {} behind its primary", quantity(lag, Unit::Seconds));
    }
    let behind =
        view.receivers.iter().filter_map(|one| Some((one.replay_lag_bytes?, one))).max_by(|a, b| a.0.total_cmp(&b.0));
    match behind {
        None => "Nobody receives WAL from this server".to_owned(),
        Some((bytes, one)) if bytes > 16e6 || is_late(one) => {
            format!("{} is {} behind", one.application, quantity(bytes, Unit::Bytes))
        }
        Some(_) => format!("{} up to date", counted(view.receivers.len(), "receiver")),
    }
}

/// It shows what was true half a minute ago, or longer.
fn is_late(one: &Receiver) -> bool {
    one.replay_lag_seconds.is_some_and(|seconds| seconds > 30.0)
}

fn receiver(one: &Receiver) -> Markup {
    let bytes = |value: Option<f64>| known(value, Unit::Bytes);
    html! {
        tr {
            th.name scope="row" { (one.application) div.faint { (one.client.as_deref().unwrap_or("local socket")) } }
            td { (one.state) @if one.synchronous == Some(true) { " " span.state.ok { "synchronous" } } }
            td { (one.slot.as_deref().unwrap_or("–")) }
            td.number { (bytes(one.sent_lag_bytes)) }
            td.number { (bytes(one.write_lag_bytes)) }
            td.number { (bytes(one.flush_lag_bytes)) }
            td.number { (bytes(one.replay_lag_bytes)) }
            td.number.warn[is_late(one)] {
                (known(one.replay_lag_seconds, Unit::Seconds))
            }
        }
    }
}

fn slot(one: &Slot) -> Markup {
    let lost = one.wal_status.as_deref() == Some("lost");
    html! {
        tr {
            th.name scope="row" { (one.name) @if let Some(kind) = &one.kind { div.faint { (kind) } } }
            td { @if one.active { span.state.ok { "active" } } @else { span.state.warn { "unused" } } }
            td.number { (known(one.retained_bytes, Unit::Bytes)) }
            td.number {
                @if let Some(bytes) = one.safe_bytes { (quantity(bytes, Unit::Bytes)) } @else {
                    span.faint title="max_slot_wal_keep_size is not set" { "no limit" }
                }
            }
            td.crit[lost] { (one.wal_status.as_deref().unwrap_or("–")) }
        }
    }
}

fn archive(scene: &Scene, archive: &Archive) -> Markup {
    let failing = match (archive.last_failed_ms, archive.last_archived_ms) {
        (Some(failed), Some(archived)) => failed > archived,
        (Some(_), None) => true,
        _ => false,
    };
    html! {
        @if archive.archived.unwrap_or_default() == 0.0 && archive.failed.unwrap_or_default() == 0.0 {
            (parts::nothing("Nothing was archived: archive_mode is off, or no segment has been full yet."))
        } @else {
            dl.facts {
                div {
                    dt { "archived" }
                    dd {
                        (known(archive.archived, Unit::Count))
                        " segments, the last "
                        (when(scene, archive.last_archived_ms))
                    }
                }
                div {
                    dt { "failed" }
                    dd.crit[failing] {
                        (known(archive.failed, Unit::Count))
                        " attempts"
                        @if archive.last_failed_ms.is_some() { ", the last " (when(scene, archive.last_failed_ms)) }
                    }
                }
                div { dt { "waiting" } dd { (known(archive.waiting, Unit::Count)) " segments" } }
                div { dt { "pg_wal" } dd { (known(archive.wal_bytes, Unit::Bytes)) } }
            }
        }
    }
}
