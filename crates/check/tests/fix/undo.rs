//! Which entries can be taken back, and where.

use crate::{Site, says};
use surus_check::fix::{self, FixError};
use surus_core::{
    plan::{Lock, Step},
    proof::Proof,
};
use surus_pg::Target;
use surus_testkit::Server;

on_one_server! { what_can_be_taken_back:
    a_change_is_taken_back_once,
    an_undo_that_fails_can_be_tried_again,
    a_beginning_without_an_end_can_be_taken_back,
}

fn a_change_is_taken_back_once(site: &Site) {
    let number = site.done([Step::setting("work_mem", "8MB", "")]);
    let back = site.undo(Some(number)).unwrap();
    assert_eq!((back.number, back.by.as_str()), (number, "ALTER SYSTEM RESET work_mem"));
    let error = site.undo(Some(number)).unwrap_err();
    assert!(matches!(error, FixError::NotUndoable { .. }), "{error:?}");
    says(&error, &["ledger entry 2 was taken back already, see entry 3"]);
    says(&site.undo(Some(1)).unwrap_err(), &["ledger entry 1 is the beginning of a change that entry 2 completes"]);
    says(&site.undo(Some(3)).unwrap_err(), &["is no change but of kind undo"]);
    assert!(matches!(site.undo(Some(9)).unwrap_err(), FixError::Store(_)));
    assert!(matches!(site.undo(None).unwrap_err(), FixError::NothingToUndo));
    assert_eq!(site.story(), ["change-begun", "change", "undo"]);
}

fn an_undo_that_fails_can_be_tried_again(site: &Site) {
    site.server.expect_log("does not exist");
    site.server.sql("CREATE TABLE t(a int)");
    let step = Step::sql("ALTER TABLE public.t ADD b int", Lock::AccessExclusive, "");
    let number = site.done([step.undo_sql("ALTER TABLE public.t DROP b")]);
    site.server.sql("ALTER TABLE t RENAME TO other");
    let error = site.undo(Some(number)).unwrap_err();
    assert!(matches!(error, FixError::TakeBack(_)), "{error:?}");
    says(&error, &["it was not taken back: relation \"public.t\" does not exist"]);
    site.server.sql("ALTER TABLE other RENAME TO t");
    site.undo(None).unwrap();
    assert_eq!(site.story(), ["change-begun", "change", "undo failed", "undo"]);
}

fn a_beginning_without_an_end_can_be_taken_back(site: &Site) {
    // As a surus leaves it that was killed: before the act, and after it.
    site.server.sql("ALTER SYSTEM SET work_mem = '5MB'");
    for done in [false, true] {
        let number = site.done([Step::setting("work_mem", "8MB", "")]);
        let begun = site.store.entry(number - 1).unwrap().proof;
        site.undo(Some(number)).unwrap();
        let killed: Proof = begun.clone();
        let left = site.store.append(&killed).unwrap().number;
        if done {
            site.server.sql("ALTER SYSTEM SET work_mem = '8MB'");
        }
        assert_eq!(fix::undoable(&site.store, None).unwrap().entry.number, left);
        site.undo(None).unwrap();
        assert_eq!(site.entry("work_mem").as_deref(), Some("5MB"));
        says(&site.undo(Some(left)).unwrap_err(), &["was taken back already"]);
    }
}

#[test]
fn another_cluster_is_not_changed_in_its_place() {
    // The harness's servers of one major are copies of one cluster.
    let Some(&older) = surus_testkit::majors().iter().rev().nth(1) else { return };
    let (site, other) = (Site::new(), Site::of(Server::builder().major(older)));
    let number = site.done([Step::setting("work_mem", "8MB", "")]);
    let undoable = fix::undoable(&site.store, Some(number)).unwrap();
    let elsewhere = Target::parse(&other.server.dsn("postgres")).unwrap();
    let error = site.runtime.block_on(fix::take_back(&undoable, &elsewhere, &site.store)).unwrap_err();
    assert!(matches!(error, FixError::TakeBackSurprise(_)), "{error:?}");
    says(&error, &["system identifier", &site.cluster(), &other.cluster()]);
    site.undo(Some(number)).unwrap();
}
