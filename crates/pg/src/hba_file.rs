//! Changing pg_hba.conf on this host, byte for byte except the one line.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

/// The file's text now and with `line` (from 1) replaced; `None` comments it out. The line must still hold the
/// rule `old`, compared word by word so that spacing does not matter.
///
/// # Errors
/// In words: the file cannot be read, or the line holds another rule by now.
pub fn with_line(file: &str, line: u32, old: &str, new: Option<&str>) -> Result<(String, String), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file} cannot be read here: {error}"))?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = usize::try_from(line).unwrap_or(0).wrapping_sub(1);
    let current = lines.get(at).ok_or_else(|| format!("{file} has no line {line} any more"))?;
    if rule_words(current) != rule_words(old) {
        return Err(format!("line {line} of {file} is no longer \"{old}\""));
    }
    let replacement = match new {
        Some(new) => format!("{new}\n"),
        None => format!("# {}\n", current.trim_end()),
    };
    lines[at] = &replacement;
    let written = lines.concat();
    Ok((text, written))
}

/// Replaces the file's text, keeping owner and mode; refuses when it is no longer `expected`. The change is on disk
/// when this returns, and a crash leaves the old or the new text, never a part.
///
/// # Errors
/// In words: somebody else changed the file, or it cannot be written.
pub fn replace(file: &str, expected: &str, text: &str) -> Result<(), String> {
    let path = Path::new(file);
    let now = fs::read_to_string(path).map_err(|error| format!("{file} cannot be read here: {error}"))?;
    if now != expected {
        return Err(format!("{file} was changed by somebody else in the meantime"));
    }
    let problem = |error: std::io::Error| format!("{file} cannot be written: {error}");
    let was = fs::metadata(path).map_err(problem)?;
    let beside = path.with_extension("conf.surus");
    let mut new = fs::File::create(&beside).map_err(problem)?;
    let written = new
        .set_permissions(fs::Permissions::from_mode(was.mode() & 0o7777))
        .and_then(|()| match same_owner(&new, &was) {
            true => Ok(()),
            false => chown(&beside, Some(was.uid()), Some(was.gid())),
        })
        .and_then(|()| new.write_all(text.as_bytes()))
        .and_then(|()| new.sync_all())
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all());
    written.map_err(|error| {
        // The half-made copy is of no use to anybody.
        let _ = fs::remove_file(&beside);
        problem(error)
    })
}

fn same_owner(file: &fs::File, was: &fs::Metadata) -> bool {
    file.metadata().is_ok_and(|new| new.uid() == was.uid() && new.gid() == was.gid())
}

/// The words of a rule, without comment; an address with a netmask in a word of its own counts like a prefix.
fn rule_words(line: &str) -> Vec<String> {
    let rule = line.split('#').next().unwrap_or_default();
    let mut words: Vec<String> = rule.split_whitespace().map(|word| word.replace('"', "")).collect();
    if let [kind, _, _, address, mask, ..] = words.as_slice()
        && kind.starts_with("host")
        && let Ok(mask) = mask.parse::<std::net::IpAddr>()
    {
        let bits = match mask {
            std::net::IpAddr::V4(mask) => u32::from(mask).leading_ones(),
            std::net::IpAddr::V6(mask) => u128::from(mask).leading_ones(),
        };
        words[3] = format!("{address}/{bits}");
        words.remove(4);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# head\nlocal   all all   trust\nhost all all 10.0.0.0 255.255.255.0 md5 # old\n";

    fn file(name: &str) -> String {
        let dir = std::env::temp_dir().join(format!("surus-hba-{}-{name}", std::process::id()));
        fs::write(&dir, FILE).unwrap();
        dir.to_str().unwrap().to_owned()
    }

    #[test]
    fn replaces_one_line_and_nothing_else() {
        let file = file("one");
        let (before, after) =
            with_line(&file, 3, "host all all 10.0.0.0/24 md5", Some("host all all 10.0.0.0/24 scram-sha-256"))
                .unwrap();
        assert_eq!(after, "# head\nlocal   all all   trust\nhost all all 10.0.0.0/24 scram-sha-256\n");
        replace(&file, &before, &after).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), after);
        assert!(replace(&file, &before, "x").unwrap_err().contains("somebody else"));
        let (_, commented) = with_line(&file, 2, "local all all trust", None).unwrap();
        assert!(commented.contains("\n# local   all all   trust\n"));
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn refuses_a_line_that_moved() {
        let file = file("moved");
        assert!(with_line(&file, 1, "local all all trust", None).unwrap_err().contains("no longer"));
        assert!(with_line(&file, 9, "local all all trust", None).unwrap_err().contains("no line 9"));
        fs::remove_file(file).unwrap();
    }
}
