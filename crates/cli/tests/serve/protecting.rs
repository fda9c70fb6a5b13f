//! The backups of `surus serve`: taken when they are due, seen as series, events, findings and readiness.

use crate::{QUICK, Serve, target};
use surus_testkit::Server;

#[test]
fn a_backup_that_is_due_is_taken_and_everybody_sees_it() {
    let server = Server::builder().checksums(true).start();
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS id");
    let mut serve = Serve::prepared("");
    let (repo, hook) = (serve.path("repo"), serve.path("hook"));
    let configuration = format!(
        "{QUICK}[check]\nevery = '10s'\n{}[[repository]]\nname = 'main'\nplace = '{}'\n\
         [[backup]]\ntarget = 'shop'\nrepository = 'main'\nfull = '0 2 * * *'\nkeep_full = 2\n\
         after = 'echo $SURUS_BACKUP_RESULT > {}'\n",
        target("shop", &server),
        repo.display(),
        hook.display()
    );
    serve.write("surus.toml", &configuration);
    serve.start();
    let of_main = |name: &str, more: &str| format!("{name}{{repository='main'{more}}}");
    serve.until_value(&of_main("surus_backup_count", ",state='restorable'"), 1.0);
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), "complete\n");
    assert_eq!(serve.value(&of_main("surus_backup_repository_up", "")), Some(1.0));
    assert_eq!(serve.value(&of_main("surus_wal_archive_missing_segments", "")), Some(0.0));
    let events = serve.json("/api/surus/v1/events?range=1h");
    assert!(events.to_string().contains("is complete"), "{events}");
    // There is a backup, and nothing that follows it is archived: that is no protection, and nobody may say so.
    serve.until("the checks have seen the backup", |serve| {
        let findings = serve.json("/api/surus/v1/targets/shop/findings");
        let unknown = findings["data"]["unknown"].as_array().cloned().unwrap_or_default();
        !unknown.is_empty() && !unknown.iter().any(|one| one["id"] == "bkp.age")
    });
    let findings = serve.json("/api/surus/v1/targets/shop/findings");
    let item = findings["data"]["items"].as_array().unwrap().iter().find(|item| item["id"] == 4).unwrap().clone();
    assert_eq!(item["state"], "missing", "{item}");
    assert!(findings.to_string().contains("bkp.retention"), "one full backup only: {findings}");
    let taken = || std::fs::read_dir(repo.join(system(&server)).join("manifest")).unwrap().count();
    assert_eq!(taken(), 1, "the next one is due tomorrow");
}

#[test]
fn a_backup_that_fails_is_an_event_and_no_success() {
    let server = Server::start();
    let mut serve = Serve::prepared("");
    let place = serve.write("occupied/holiday.jpg", "...");
    let place = place.trim_end_matches("/holiday.jpg");
    let configuration = format!(
        "{QUICK}{}[[repository]]\nname = 'main'\nplace = '{place}'\n\
         [[backup]]\ntarget = 'shop'\nrepository = 'main'\nincremental = '@hourly'\n",
        target("shop", &server)
    );
    serve.write("surus.toml", &configuration);
    serve.start();
    serve.until_logged("SURUS-B003");
    let events = serve.json("/api/surus/v1/events?range=1h");
    assert!(events.to_string().contains("A backup failed"), "{events}");
}

fn system(server: &Server) -> String {
    server.value("SELECT system_identifier AS v FROM pg_control_system()")
}
