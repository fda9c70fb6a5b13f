//! The pages in a real Chromium, over the real `surus demo` and over a server with 1,000 tables.
//!
//! Each test runs one script of this directory with node; they share one demo, which ends with the test's process.
//! Screenshots are in `target/tmp/browser`. Without chromium, node or npm each test says so and is skipped;
//! `SURUS_BROWSER_REQUIRE=1` or `CI` makes that a failure.

mod demo;
mod kept;
mod many;
mod tools;

use demo::Demo;
use tools::Tools;

/// Runs a script over the demo.
fn over_demo(story: &str, arguments: &[&str]) {
    let Some(tools) = Tools::get() else { return };
    let demo = Demo::get();
    tools.run(story, arguments, &[("SURUS_URL", &demo.url), ("SURUS_PASSWORD", &demo.password)]);
}

#[test]
fn every_page_in_the_light() {
    over_demo("pages.mjs", &["light"]);
}

#[test]
fn every_page_in_the_dark() {
    over_demo("pages.mjs", &["dark"]);
}

#[test]
fn every_page_on_a_phone() {
    over_demo("pages.mjs", &["phone"]);
}

#[test]
fn every_page_without_script() {
    over_demo("without_script.mjs", &[]);
}

#[test]
fn pages_show_what_the_api_says() {
    over_demo("values.mjs", &[]);
}

#[test]
fn a_brush_moves_the_range_and_the_way_back_leads_back() {
    over_demo("brush.mjs", &[]);
}

#[test]
fn live_pages_refresh_without_losing_the_place() {
    over_demo("live.mjs", &[]);
}

#[test]
fn keys_go_to_pages_filter_and_range() {
    over_demo("keys.mjs", &[]);
}

#[test]
fn three_clicks_to_the_blocker() {
    over_demo("finding.mjs", &["blocker"]);
}

#[test]
fn three_clicks_to_the_query_without_an_index() {
    over_demo("finding.mjs", &["query"]);
}

#[test]
fn three_clicks_to_the_table_that_needs_vacuum() {
    over_demo("finding.mjs", &["vacuum"]);
}

#[test]
fn three_clicks_to_the_replica_that_lags() {
    over_demo("finding.mjs", &["replica"]);
}

#[test]
fn three_clicks_to_the_setting_that_changed() {
    over_demo("finding.mjs", &["setting"]);
}

#[test]
fn a_session_is_ended_after_login_and_a_look() {
    over_demo("ending.mjs", &[]);
}

#[test]
fn a_drill_from_the_page_proves_a_restore_and_a_hole_in_the_wal_is_drawn_and_fails_one() {
    let Some(tools) = Tools::get() else { return };
    let mut kept = kept::Kept::start();
    tools.run("drill.mjs", &["sound"], &[("SURUS_URL", &kept.url()), ("SURUS_PASSWORD", kept::PASSWORD)]);
    let gone = kept.lose_a_segment();
    let environment = [("SURUS_URL", kept.url()), ("SURUS_PASSWORD", kept::PASSWORD.to_owned()), ("SURUS_GONE", gone)];
    tools.run("drill.mjs", &["holed"], &environment.each_ref().map(|(name, value)| (*name, value.as_str())));
}

#[test]
fn a_thousand_tables() {
    let Some(tools) = Tools::get() else { return };
    let many = many::Many::start();
    tools.run("many_tables.mjs", &[], &[("SURUS_URL", &many.url())]);
}
