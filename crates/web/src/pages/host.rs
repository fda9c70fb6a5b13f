//! The machine.

use super::{
    frame::{self, Asked},
    parts, places,
    tables::known,
    words::quantity,
};
use crate::views::{
    Scene,
    host::{Filesystem, Host, look},
    plot::Unit,
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/host`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::HOST, look, body).await
}

fn body(scene: &Scene, host: &Host) -> Markup {
    html! {
        h1 { (headline(host)) }
        @if let Some(why) = &host.absent { (parts::nothing(why)) } @else {
            div.plots { @for plot in &host.plots { (parts::plot(scene, plot)) } }
            section.list.wide {
                h2 { "Filesystems" }
                @if host.filesystems.is_empty() { (parts::nothing("No filesystem was seen.")) } @else {
                    div.scroll { table {
                        thead {
                            tr {
                                th scope="col" { "Mounted on" }
                                th scope="col" { "Holds" }
                                th.number scope="col" { "Size" }
                                th.number scope="col" { "Free" }
                                th scope="col" { "Used" }
                                th.number scope="col" { "Inodes used" }
                            }
                        }
                        tbody { @for one in &host.filesystems { (row(one)) } }
                    } }
                }
            }
        }
    }
}

fn headline(host: &Host) -> String {
    let fullest = host.filesystems.iter().filter(|one| !one.holds.is_empty()).filter_map(|one| Some((one.used?, one)));
    match fullest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((used, one)) => format!(
            "The data's filesystem {} is {} full, {} are left",
            one.mountpoint,
            quantity(used, Unit::Percent),
            quantity(one.free_bytes.unwrap_or_default(), Unit::Bytes)
        ),
        None => "The machine".to_owned(),
    }
}

fn row(one: &Filesystem) -> Markup {
    let full = one.used.is_some_and(|used| used >= 0.85);
    html! {
        tr {
            th.name scope="row" {
                (one.mountpoint)
                " "
                span.faint { (one.kind) }
                @if one.read_only { " " span.state.crit { "read-only" } }
            }
            td { @for path in &one.holds { div { code { (path) } } } }
            td.number { (quantity(one.size_bytes, Unit::Bytes)) }
            td.number { (known(one.free_bytes, Unit::Bytes)) }
            td.warn[full] { @if let Some(used) = one.used { (parts::bar(used)) " " (quantity(used, Unit::Percent)) } }
            td.number { (known(one.inodes_used, Unit::Percent)) }
        }
    }
}
