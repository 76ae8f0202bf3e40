//! Data directories to break: copies that cost little, and the files in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Copies a directory that no node runs on. What RocksDB and we never write to again once it is whole is linked.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a folder");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "ballast" {
            // Large, and only there to be given up.
            continue;
        }
        if entry.file_type().expect("a folder's entry").is_dir() {
            copy(&path, &target);
        } else if is_immutable(&path) {
            fs::hard_link(&path, &target).expect("a folder in the same file system");
        } else {
            fs::copy(&path, &target).expect("room for a copy");
        }
    }
}

fn is_immutable(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst" || extension == "snapshot")
}

/// Every file in it, relative to it, in order.
pub fn files(data: &Path) -> Vec<PathBuf> {
    fn walk(data: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a folder").path();
            if path.is_dir() {
                walk(data, &path, found);
            } else {
                found.push(path.strip_prefix(data).expect("it is inside").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(data, data, &mut found);
    found.sort();
    found
}

/// RocksDB's write-ahead logs, oldest first.
pub fn write_ahead_logs(data: &Path) -> Vec<PathBuf> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    files(data).into_iter().filter(is_log).map(|path| data.join(path)).collect()
}

/// How many bytes of a file were written to: its end may be room that was made in advance, and zeros.
pub fn written(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("it is there");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
