//! Real market data that lies beside the checkout and never in it.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// The file `path` of the data folder: `$RIALTO_SHARED`, or `../shared` beside the checkout. Where it is absent, says in
/// one line that the test skips, and gives `None`.
pub fn shared_file(path: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("RIALTO_SHARED").map_or(beside, PathBuf::from);
    let file = folder.join(path);
    if file.exists() {
        return Some(file);
    }
    println!("skipped: there is no {}", file.display());
    None
}

/// The lines of a gzip file.
pub fn gzip_lines(path: &Path) -> impl Iterator<Item = String> {
    let file = File::open(path).expect("the file exists");
    BufReader::new(GzDecoder::new(file)).lines().map(|line| line.expect("the file is whole"))
}

/// The lines of the one file in a zip archive whose name ends with `suffix`.
pub fn zip_lines(path: &Path, suffix: &str) -> Vec<String> {
    let bytes = std::fs::read(path).expect("the file exists");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("it is a zip archive");
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).expect("the archive is whole");
        if file.name().is_ok_and(|name| name.ends_with(suffix)) {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("the file is whole");
            return text.lines().map(str::to_owned).collect();
        }
    }
    panic!("{} holds no {suffix}", path.display());
}
