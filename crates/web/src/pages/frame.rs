//! What stands around every page.

use crate::assets;
use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

/// A page.
pub fn frame(title: &str, logged_in: bool, body: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href=(assets::style_path());
                script src=(assets::theme_path()) {}
                script defer src=(assets::script_path()) {}
            }
            body {
                header {
                    nav {
                        a.name href="/" { "surus" }
                        a href="/collectors" { "Collectors" }
                        a href="/metrics" { "Metrics" }
                        @if logged_in {
                            form method="post" action="/logout" { button { "Log out" } }
                        }
                    }
                }
                main { (body) }
                footer { "surus " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    Html(page.into_string())
}
