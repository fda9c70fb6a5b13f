//! Changing pg_hba.conf on this host, byte for byte except the one line.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

/// The file was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HbaFileError {
    /// It no longer holds what it should.
    #[error("{0}")]
    Changed(String),
    /// It cannot be read or written here.
    #[error("{0}")]
    Unusable(String),
}

/// One line of the file replaced by another; nothing is written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// The line as it is and as it will be, without its end.
    pub before: String,
    pub after: String,
    old_text: String,
    new_text: String,
}

impl Edit {
    /// Replaces the rule `old` on this line; `None` comments it out. Rules are compared word by word, so that spacing
    /// does not matter.
    ///
    /// # Errors
    /// When the file cannot be read, or the line holds another rule by now.
    pub fn of_rule(file: &str, line: u32, old: &str, new: Option<&str>) -> Result<Self, HbaFileError> {
        Self::new(file, line, |current| {
            if rule_words(current) != rule_words(old) {
                return Err(HbaFileError::Changed(format!("line {line} of {file} is no longer \"{old}\"")));
            }
            Ok(new.map_or_else(|| format!("# {current}"), str::to_owned))
        })
    }

    /// Replaces exactly the line `from` by `to`. A line that is `to` already stays as it is.
    ///
    /// # Errors
    /// As [`Edit::of_rule`].
    pub fn of_line(file: &str, line: u32, from: &str, to: &str) -> Result<Self, HbaFileError> {
        Self::new(file, line, |current| match current == from || current == to {
            true => Ok(to.to_owned()),
            false => Err(HbaFileError::Changed(format!("line {line} of {file} is no longer \"{from}\""))),
        })
    }

    fn new(
        file: &str,
        line: u32,
        replacement: impl FnOnce(&str) -> Result<String, HbaFileError>,
    ) -> Result<Self, HbaFileError> {
        let old_text = read(file)?;
        let mut lines: Vec<&str> = old_text.split_inclusive('\n').collect();
        let at = usize::try_from(line).unwrap_or(0).wrapping_sub(1);
        let missing = || HbaFileError::Changed(format!("{file} has no line {line} any more"));
        let whole = *lines.get(at).ok_or_else(missing)?;
        let before = whole.trim_end_matches(['\n', '\r']);
        let after = replacement(before)?;
        let with_end = format!("{after}{}", &whole[before.len()..]);
        lines[at] = &with_end;
        let new_text = lines.concat();
        Ok(Self { file: file.to_owned(), line, before: before.to_owned(), after, old_text, new_text })
    }

    /// The whole file as it was read.
    pub fn text(&self) -> &str {
        &self.old_text
    }

    /// Writes it, if the file is still as it was read.
    ///
    /// # Errors
    /// When somebody else changed the file, or it cannot be written; it is then as it was.
    pub fn write(&self) -> Result<(), HbaFileError> {
        replace(&self.file, &self.old_text, &self.new_text)
    }

    /// Puts back what [`Edit::write`] replaced, if nobody else changed the file since.
    ///
    /// # Errors
    /// As [`Edit::write`].
    pub fn revert(&self) -> Result<(), HbaFileError> {
        replace(&self.file, &self.new_text, &self.old_text)
    }
}

fn read(file: &str) -> Result<String, HbaFileError> {
    fs::read_to_string(file).map_err(|error| HbaFileError::Unusable(format!("{file} cannot be read here: {error}")))
}

/// Replaces the file's text, keeping owner and mode. The change is on disk when this returns, and a crash leaves the
/// old or the new text, never a part.
fn replace(file: &str, expected: &str, text: &str) -> Result<(), HbaFileError> {
    if read(file)? != expected {
        return Err(HbaFileError::Changed(format!("{file} was changed by somebody else in the meantime")));
    }
    if expected == text {
        return Ok(());
    }
    let problem = |error: io::Error| HbaFileError::Unusable(format!("{file} cannot be written: {error}"));
    // A symbolic link stays one: what it points to is replaced.
    let path = fs::canonicalize(file).map_err(problem)?;
    let mut beside = path.clone().into_os_string();
    beside.push(".surus");
    let beside = Path::new(&beside);
    put_in_place(&path, beside, text).map_err(|error| {
        // The half-made copy is of no use to anybody.
        let _ = fs::remove_file(beside);
        problem(error)
    })
}

fn put_in_place(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let was = fs::metadata(path)?;
    let mut new = fs::File::create(beside)?;
    new.set_permissions(fs::Permissions::from_mode(was.mode() & 0o7777))?;
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (was.uid(), was.gid()) {
        chown(beside, Some(was.uid()), Some(was.gid()))?;
    }
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
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

    const FILE: &str = "# head\nlocal   all all   trust\nhost all all 10.0.0.0 255.255.255.0 md5 # old";
    const RULE: &str = "host all all 10.0.0.0/24 md5";
    const NEW: &str = "host all all 10.0.0.0/24 scram-sha-256";

    /// A file of its own, gone with the directory.
    fn file() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pg_hba.conf");
        fs::write(&file, FILE).unwrap();
        (dir, file.to_str().unwrap().to_owned())
    }

    #[test]
    fn replaces_one_line_and_nothing_else() {
        let (_dir, file) = file();
        let edit = Edit::of_rule(&file, 3, RULE, Some(NEW)).unwrap();
        edit.write().unwrap();
        let written = format!("# head\nlocal   all all   trust\n{NEW}");
        assert_eq!(fs::read_to_string(&file).unwrap(), written);
        assert!(matches!(edit.write(), Err(HbaFileError::Changed(why)) if why.contains("somebody else")));
        let commented = Edit::of_rule(&file, 2, "local all all trust", None).unwrap();
        assert_eq!(commented.after, "# local   all all   trust");
        edit.revert().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), FILE);
    }

    #[test]
    fn takes_a_line_back_whatever_happened_to_the_others() {
        let (_dir, file) = file();
        let edit = Edit::of_rule(&file, 3, RULE, Some(NEW)).unwrap();
        edit.write().unwrap();
        fs::write(&file, format!("# other\nlocal all all peer\n{NEW}\n# more\n")).unwrap();
        for _already_there in [false, true] {
            Edit::of_line(&file, 3, &edit.after, &edit.before).unwrap().write().unwrap();
            let now = format!("# other\nlocal all all peer\n{}\n# more\n", edit.before);
            assert_eq!(fs::read_to_string(&file).unwrap(), now);
        }
        assert!(matches!(Edit::of_line(&file, 2, &edit.after, &edit.before), Err(HbaFileError::Changed(_))));
    }

    #[test]
    fn keeps_links_and_modes() {
        let (dir, file) = file();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.conf");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Edit::of_rule(link.to_str().unwrap(), 3, RULE, Some(NEW)).unwrap().write().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::read_to_string(&file).unwrap().contains(NEW));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn refuses_a_line_that_moved() {
        let (_dir, file) = file();
        let of = |line| Edit::of_rule(&file, line, "local all all trust", None);
        assert!(of(1).unwrap_err().to_string().contains("no longer"));
        assert!(of(9).unwrap_err().to_string().contains("no line 9"));
        assert!(of(0).unwrap_err().to_string().contains("no line 0"));
    }
}
