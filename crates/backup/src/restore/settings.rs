//! What a restored server is told: recovery settings, quoted for the file that they stand in.

use super::target::RecoveryTarget;

/// Lines around what surus writes into `postgresql.auto.conf`.
const BEGIN: &str =
    "# surus restore: begin (with recovery.signal or standby.signal they act again: remove them after the recovery)";
const END: &str = "# surus restore: end";

/// Settings that one restore leaves and the next must not inherit.
const OURS: &[&str] = &[
    "restore_command",
    "recovery_target",
    "archive_cleanup_command",
    "recovery_end_command",
    "recovery_min_apply_delay",
];

/// The command with which the server fetches WAL: words, to which the file's name and its place are added.
pub fn restore_command(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| shell(word).replace('%', "%%")).collect();
    format!("{} \"%f\" \"%p\"", quoted.join(" "))
}

/// All settings of a restored server.
pub fn all(
    fetch: &[String],
    target: &RecoveryTarget,
    timeline: u32,
    keep_archiving: bool,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![("restore_command", restore_command(fetch))];
    settings.extend(target.settings(timeline));
    // The original's would act here, too: remove files of its archive, run its commands, or wait.
    settings.extend([
        ("archive_cleanup_command", String::new()),
        ("recovery_end_command", String::new()),
        ("recovery_min_apply_delay", "0".to_owned()),
    ]);
    if !keep_archiving {
        // Else the copy would put its WAL where the original's is.
        settings.extend([("archive_mode", "off".to_owned()), ("archive_command", String::new())]);
    }
    settings
}

/// `postgresql.auto.conf` with the settings at its end; what an earlier restore wrote is taken out.
pub fn auto_conf(there: &str, settings: &[(&'static str, String)]) -> String {
    let mut inside = false;
    let mut text = String::with_capacity(there.len() + 1024);
    for line in there.lines() {
        let name = line.split(['=', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        let old = OURS.contains(&name.as_str()) || name.starts_with("recovery_target_");
        inside = (inside || line.starts_with("# surus restore: begin")) && !line.starts_with(END);
        if !inside && !old && !line.starts_with(END) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(BEGIN);
    text.push('\n');
    for (name, value) in settings {
        text += &format!("{name} = {}\n", conf(value));
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// The value that a settings file gives a setting, as the server reads it; the last one holds.
pub fn value_in(text: &str, name: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })?;
    let inside = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    Some(inside.map_or_else(|| value.to_owned(), |value| value.replace("''", "'").replace("\\\\", "\\")))
}

/// A value of a settings file. Source: PostgreSQL's documentation, "Setting Parameters": quotes are doubled, and a
/// backslash begins an escape.
pub fn conf(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A word of a shell's command line.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_shell_server_and_file() {
        let words = ["/opt/my surus", "wal", "get", "--repo", "/srv/100%/it's", ""].map(str::to_owned);
        let command = restore_command(&words);
        assert_eq!(command, r#"'/opt/my surus' wal get --repo '/srv/100%%/it'\''s' '' "%f" "%p""#);
        assert_eq!(conf(r"it's \ here"), r"'it''s \\ here'");
    }

    #[test]
    fn nothing_of_the_originals_recovery_acts_in_the_copy() {
        let there = "recovery_min_apply_delay = '1d'\nrecovery_end_command = 'rm -r /srv/vip'\n";
        let text = auto_conf(there, &all(&["surus".into()], &RecoveryTarget::default(), 1, true));
        for line in ["archive_cleanup_command = ''", "recovery_end_command = ''", "recovery_min_apply_delay = '0'"] {
            assert!(text.contains(&format!("\n{line}\n")), "{text}");
        }
        assert!(!text.contains("1d") && !text.contains("vip"), "{text}");
    }

    #[test]
    fn what_an_earlier_restore_wrote_is_replaced() {
        let before = "work_mem = '1MB'\nrecovery_target_xid = '7'\nrestore_command = 'cp x y'\n";
        let settings = |xid: &str| vec![("recovery_target_xid", xid.to_owned()), ("archive_mode", "off".into())];
        let once = auto_conf(before, &settings("8"));
        let twice = auto_conf(&once, &settings("9"));
        assert!(twice.starts_with("work_mem = '1MB'\n# surus restore: begin"), "{twice}");
        assert_eq!(twice.matches("recovery_target_xid").count(), 1);
        assert!(twice.contains("recovery_target_xid = '9'\narchive_mode = 'off'\n"), "{twice}");
        assert_eq!(once.replace("'8'", "'9'"), twice);
        assert_eq!(value_in(&twice, "recovery_target_xid").as_deref(), Some("9"));
        let odd = auto_conf("", &[("restore_command", r"it's \ here".to_owned())]);
        assert_eq!(value_in(&odd, "restore_command").as_deref(), Some(r"it's \ here"));
        assert_eq!(value_in(&odd, "archive_mode"), None);
    }
}
