//! The WAL archive of a demo that runs for days: only the newest files are kept.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files of 1 MB each.
const KEEP: usize = 512;
const EVERY: Duration = Duration::from_secs(60);

/// Removes the oldest files beyond the limit, again and again.
pub async fn keep_newest(dir: PathBuf) {
    loop {
        tokio::time::sleep(EVERY).await;
        let dir = dir.clone();
        // What cannot be removed now is tried again the next time.
        let _ = tokio::task::spawn_blocking(move || remove_oldest(&dir, KEEP)).await;
    }
}

/// The names of segments sort by age within a timeline, and a demo has one.
fn remove_oldest(dir: &Path, keep: usize) -> std::io::Result<()> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.retain(|name| !name.to_string_lossy().starts_with('.'));
    names.sort();
    let surplus = names.len().saturating_sub(keep);
    names.iter().take(surplus).try_for_each(|name| fs::remove_file(dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_half_written_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000000010000000000000003", "000000010000000000000001", "000000010000000000000002", ".x.part"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_oldest(dir.path(), 1).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".x.part", "000000010000000000000003"]);
    }
}
