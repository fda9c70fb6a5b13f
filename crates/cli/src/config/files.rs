//! `surus.toml` and the files of `conf.d/` beside it, as one.

use super::Config;
use std::path::{Path, PathBuf};

/// Files that are read from `conf.d/`.
const MAX_FILES: usize = 1000;

/// A file, read, that is valid on its own.
pub struct Part {
    pub path: PathBuf,
    table: toml::Table,
}

impl Part {
    /// Reads a text; what is wrong with it names the line and suggests the right key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let wrong = |error: toml::de::Error| explained(&error);
        let config: Config = toml::from_str(text).map_err(wrong)?;
        config.judge()?;
        Ok(Self { path: path.to_owned(), table: toml::from_str(text).map_err(wrong)? })
    }
}

/// The error with a suggestion when a key is nearly right.
fn explained(error: &toml::de::Error) -> String {
    let text = error.to_string().trim().to_owned();
    match suggestion(error.message()) {
        Some(right) => format!("{text}\ndid you mean `{right}`?"),
        None => text,
    }
}

/// Of the keys that serde expected, the one that is nearest to the one that it found.
fn suggestion(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (found, expected) = rest.split_once('`')?;
    let near = expected.split('`').skip(1).step_by(2).map(|key| (distance(found, key), key)).min()?;
    (near.0 <= (found.len() / 3).max(1)).then_some(near.1)
}

/// How many letters must be changed, added, removed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[a.len()][b.len()]
}

/// The files `conf.d/*.toml` beside a file, in the order of their names.
pub fn beside(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path.with_file_name("conf.d")) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|ending| ending == "toml") && !hidden && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(std::io::Error::other(format!("conf.d has more than {MAX_FILES} files")));
        }
    }
    files.sort();
    Ok(files)
}

/// All parts as one: lists are put together, a key that stands in two files is an error.
pub fn merged(parts: Vec<Part>) -> Result<Config, String> {
    let mut whole = toml::Table::new();
    for part in parts {
        merge(&mut whole, part.table, "").map_err(|key| {
            format!("{}: {key} stands in another file already; keep it in one of them", part.path.display())
        })?;
    }
    let config: Config = whole.try_into().map_err(|error| explained(&error))?;
    config.judge()?;
    Ok(config)
}

fn merge(into: &mut toml::Table, from: toml::Table, below: &str) -> Result<(), String> {
    for (key, value) in from {
        let name = if below.is_empty() { key.clone() } else { format!("{below}.{key}") };
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(toml::Value::Table(own)), toml::Value::Table(other)) => merge(own, other, &name)?,
            (Some(toml::Value::Array(own)), toml::Value::Array(other)) => own.extend(other),
            (Some(_), _) => return Err(name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, text: &str) -> Part {
        Part::parse(Path::new(name), text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn files_are_one_configuration() {
        let config = merged(vec![
            part("surus.toml", "[serve]\nlisten = '127.0.0.1:1'\n[[target]]\nname = 'a'\ndsn = 'host=/a'\n"),
            part("conf.d/b.toml", "[check.declared]\nstandbys = ['x']\n[[target]]\nname = 'b'\ndsn = 'host=/b'\n"),
        ])
        .unwrap();
        assert_eq!(config.target.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.check.declared.standbys, ["x"]);
    }

    #[test]
    fn a_key_in_two_files_and_a_name_given_twice_are_errors() {
        let twice = merged(vec![
            part("surus.toml", "[serve]\nlisten = '127.0.0.1:1'\n"),
            part("conf.d/b.toml", "[serve]\nlisten = '127.0.0.1:2'\n"),
        ]);
        assert!(twice.unwrap_err().contains("conf.d/b.toml: serve.listen stands in another file"));
        let target = "[[target]]\nname = 'a'\ndsn = 'host=/a'\n";
        let same = merged(vec![part("surus.toml", target), part("conf.d/b.toml", target)]);
        assert!(same.unwrap_err().contains("two targets are named \"a\""));
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_right_one() {
        let said = |text: &str| Part::parse(Path::new("surus.toml"), text).err().unwrap();
        let text = said("[serve]\n\nlistne = '127.0.0.1:1'\n");
        assert!(text.contains("line 3") && text.contains("did you mean `listen`?"), "{text}");
        let text = said("[sreve]\n");
        assert!(text.contains("line 1") && text.contains("did you mean `serve`?"), "{text}");
        let text = said("[serve]\nzzzzzz = 1\n");
        assert!(text.contains("line 2") && !text.contains("did you mean"), "{text}");
    }

    #[test]
    fn distances() {
        assert_eq!([distance("listne", "listen"), distance("", "abc"), distance("kitten", "sitting")], [1, 3, 3]);
    }
}
