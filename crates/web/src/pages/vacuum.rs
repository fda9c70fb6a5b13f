//! Vacuum.

use super::{
    frame::{self, Asked},
    parts, places,
    tables::{is_dead, known, missing, when},
    words::{counted, quantity},
};
use crate::views::{
    Scene,
    plot::Unit,
    tables::Table,
    vacuum::{Age, Running, Vacuum, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/vacuum`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::VACUUM, look, body).await
}

fn body(scene: &Scene, vacuum: &Vacuum) -> Markup {
    let head = |key: &str, name: &str| parts::sort_head(scene, key, name, &vacuum.sorted_by, key != "name");
    html! {
        h1 { (headline(vacuum)) }
        (missing(&vacuum.missing))
        (held_back(scene, vacuum))
        section.list.wide {
            h2 { "Under way" }
            @if vacuum.running.is_empty() { (parts::nothing("No vacuum runs now.")) } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Table" }
                            th scope="col" { "Phase" }
                            th scope="col" { "Scanned" }
                            th.number scope="col" { "Index rounds" }
                        }
                    }
                    tbody { @for one in &vacuum.running { (running(one)) } }
                }
            }
        }
        section.list.wide {
            h2 { "Tables with dead rows" }
            @if vacuum.tables.is_empty() { (parts::nothing("No table has dead rows that the statistics know of.")) } @else {
                div.scroll { table.dense {
                    thead { tr {
                        (head("name", "Table"))
                        (head("dead", "Dead rows"))
                        (head("share", "Dead share"))
                        (head("live", "Rows"))
                        (head("size", "Size"))
                        (head("vacuumed", "Vacuumed"))
                    } }
                    tbody { @for table in &vacuum.tables { (row(scene, table)) } }
                } }
            }
        }
        section.list {
            h2 { "Freeze horizon" }
            @if vacuum.databases.is_empty() { (parts::nothing("It is not known yet.")) } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "Database" }
                            th.number scope="col" { "Oldest transaction" }
                            th scope="col" { "Of what stops PostgreSQL" }
                            th.number scope="col" { "Oldest multixact" }
                        }
                    }
                    tbody { @for age in &vacuum.databases { (horizon(age)) } }
                }
            }
        }
        div.plots { @for plot in &vacuum.plots { (parts::plot(scene, plot)) } }
    }
}

/// What keeps vacuum from removing dead rows.
fn held_back(scene: &Scene, vacuum: &Vacuum) -> Markup {
    html! {
        @if !vacuum.held_back.is_empty() {
            section.wrong {
                h2 { "What holds vacuum back" }
                ul.worries { @for holder in &vacuum.held_back {
                    li.warn {
                        span.mark { "warn" }
                        " "
                        a href=(to(scene, holder.page)) { (holder.what) }
                        ", "
                        (quantity(holder.age, holder.unit))
                        @if holder.unit == Unit::Count { " transactions" }
                    }
                } }
            }
        }
    }
}

fn to(scene: &Scene, page: &str) -> String {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    parts::link(scene, &parts::target_path(target, &format!("/{page}")), &[])
}

fn headline(vacuum: &Vacuum) -> String {
    let dead: Vec<&Table> = vacuum.tables.iter().filter(|table| is_dead(table)).collect();
    match dead.as_slice() {
        [] => "No table needs vacuum badly".to_owned(),
        [one] => format!("{}.{} needs vacuum", one.schema, one.name),
        several => {
            let worst = several
                .iter()
                .max_by(|a, b| a.dead_rows.unwrap_or_default().total_cmp(&b.dead_rows.unwrap_or_default()));
            let name = worst.map(|table| format!("{}.{}", table.schema, table.name)).unwrap_or_default();
            format!("{} need vacuum, {name} most", counted(several.len(), "table"))
        }
    }
}

fn running(one: &Running) -> Markup {
    html! {
        tr {
            th.name scope="row" { (one.table) div.faint { (one.database) } }
            td { (one.phase.as_deref().unwrap_or("–")) }
            td { @if let Some(share) = one.scanned { (parts::bar(share)) " " (format!("{:.0} %", share * 100.0)) } }
            td.number.warn[one.index_rounds.is_some_and(|rounds| rounds > 1.0)] {
                (known(one.index_rounds, Unit::Count))
            }
        }
    }
}

fn row(scene: &Scene, table: &Table) -> Markup {
    html! {
        tr {
            th.name scope="row" { (table.name) div.faint { (table.database) "." (table.schema) } }
            td.number { (known(table.dead_rows, Unit::Count)) }
            td.number.warn[is_dead(table)] { (known(table.dead_share, Unit::Percent)) }
            td.number { (known(table.live_rows, Unit::Count)) }
            td.number { (known(table.bytes, Unit::Bytes)) }
            td.number { (when(scene, table.vacuumed_ms)) }
        }
    }
}

fn horizon(age: &Age) -> Markup {
    html! {
        tr {
            th.name scope="row" { (age.database) }
            td.number { (quantity(age.xid_age, Unit::Count)) }
            td { (parts::bar(age.share)) " " (format!("{:.1} %", age.share * 100.0)) }
            td.number { (known(age.mxid_age, Unit::Count)) }
        }
    }
}
