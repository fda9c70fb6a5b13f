//! A line of pg_hba.conf: changed on this host, judged by the server, and proven not to lock surus out.

use super::{
    act::{self, Place, Previous},
    error::Stop,
    setting,
};
use surus_pg::{Session, Target, hba_file::Edit};

/// Works out the change of a line that holds the rule `old`, and makes sure that the file here is the server's.
pub(super) async fn prepare(session: &Session, line: u32, old: &str, new: Option<&str>) -> Result<Edit, Stop> {
    let rows = session.ask("SELECT pg_catalog.current_setting('hba_file') AS file").await?;
    let file = rows.first()?.text("file")?;
    if let Some(why) = judged(session).await? {
        return Err(Stop::Surprise(format!(
            "{file} has a mistake already, so that the server would not read it: {why}"
        )));
    }
    let edit = Edit::of_rule(&file, line, old, new)?;
    is_the_servers(session, &edit).await?;
    Ok(edit)
}

/// What takes the edit back.
pub(super) fn way_back(edit: &Edit) -> Previous {
    let Edit { file, line, before, after, .. } = edit.clone();
    Previous::Hba { file, line, previous: before, written: after }
}

/// Puts a line back that surus wrote, whatever happened to the other lines.
pub(super) async fn put_back(
    place: Place<'_>,
    file: &str,
    line: u32,
    written: &str,
    previous: &str,
) -> Result<(), Stop> {
    let edit = Edit::of_line(file, line, written, previous)?;
    is_the_servers(place.session, &edit).await?;
    write(place.session, place.target, &edit).await
}

/// Writes the file, lets the server judge and read it, and connects anew. If any of that fails the earlier text is put
/// back.
pub(super) async fn write(session: &Session, target: &Target, edit: &Edit) -> Result<(), Stop> {
    edit.write()?;
    let refused = match judged(session).await {
        Ok(None) => match let_in_again(session, target).await {
            Ok(()) => return Ok(()),
            Err(stop) => stop,
        },
        Ok(Some(why)) => Stop::Surprise(format!("the server would not accept the new {}: {why}", edit.file)),
        Err(stop) => stop,
    };
    edit.revert().map_err(|error| {
        Stop::Unsure(format!("{}; and the earlier {} could not be put back: {error}", refused.text(), edit.file))
    })?;
    // A server that cannot be told has gone; it reads the file when it starts.
    let _ = setting::reload(session).await;
    Err(refused.before_acting().and(&format!("the earlier {} is back", edit.file)))
}

/// The new rules must not shut surus out: nobody could take them back then.
async fn let_in_again(session: &Session, target: &Target) -> Result<(), Stop> {
    setting::reload(session).await?;
    match act::session(target, None).await {
        Ok(session) => {
            session.close().await;
            Ok(())
        }
        Err(error) => Err(Stop::Surprise(format!("surus could not connect again with the new rules: {error}"))),
    }
}

/// The first line that the server does not understand.
async fn judged(session: &Session) -> Result<Option<String>, Stop> {
    let sql = "SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1";
    let rows = session.ask(sql).await?;
    let Some(row) = rows.iter().next() else { return Ok(None) };
    Ok(Some(format!("line {}: {}", row.text("line_number")?, row.text("error")?)))
}

/// Another machine may well have a file of the same name.
async fn is_the_servers(session: &Session, edit: &Edit) -> Result<(), Stop> {
    let rows = session.ask("SELECT pg_catalog.pg_read_file(pg_catalog.current_setting('hba_file')) AS text").await?;
    match rows.first()?.text("text")? == edit.text() {
        true => Ok(()),
        false => {
            Err(Stop::Surprise(format!("the {} here is not the server's; run surus on the server's host", edit.file)))
        }
    }
}
