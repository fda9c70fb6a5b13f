//! `surus undo`: takes a recorded change back.

use super::confirmed;
use crate::{
    args::{DataFormat, Global, UndoArgs},
    config::Config,
    failure::Failure,
    ledger,
    output::print,
    paint::Paint,
};
use surus_check::fix;
use surus_pg::Target;

/// Runs the command.
pub async fn run(global: &Global, args: UndoArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let store = ledger::open(global, &config)?;
    let undoable = fix::undoable(&store, args.number)?;
    let dsn = args.dsn.as_deref().unwrap_or(&undoable.server);
    let target = Target::parse(dsn)?;
    let change = &undoable.entry.proof;
    print(&format!(
        "{} entry {} of {}, on {}:\n  {}\nis taken back by\n  {}\n",
        Paint::strong("Change"),
        undoable.entry.number,
        change.finished_at.strftime("%Y-%m-%d %H:%M UTC"),
        target.label(),
        Paint::code(&change.subject),
        Paint::code(undoable.plan()),
    ))?;
    confirmed("Take it back?", args.yes, DataFormat::Text)?;
    let back = fix::take_back(&undoable, &target, &store).await?;
    let after = if back.after_restart { "; it takes effect after a restart" } else { "" };
    print(&format!("  {} taken back{after}\n", Paint::good("✓")))?;
    Ok(0)
}
