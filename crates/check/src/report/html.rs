//! The report as one HTML file that needs nothing else. (First cut.)

use super::Report;
use maud::{DOCTYPE, html};

/// The whole page.
pub fn page(report: &Report) -> String {
    html! { (DOCTYPE) html lang="en" { head { meta charset="utf-8"; title { "surus check" } } body { pre { (super::markdown::page(report)) } } } }.into_string()
}
