//! Whether a data directory is the one that was written here, or a copy of it. An older copy put in its place would start
//! without complaint and lose what was acknowledged since, so a copy starts only after an operator said that it is meant.
//!
//! A copy of a file is another file: the record of identity holds the number that the file system gave it. What copies
//! the file system itself, a disk image, is not noticed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::StartError;
use crate::format::{FrameError, open, seal};

#[derive(Serialize, Deserialize)]
struct Identity {
    /// The number of the file that this stands in.
    inode: u64,
    /// Drawn when the directory was made or adopted: what it promised to others, only it has promised.
    incarnation: u64,
}

/// An [`Identity`] as data format 3 began with it.
#[derive(Deserialize)]
struct OldIdentity {
    inode: u64,
}

/// Refuses a copy; a directory without a record gets one. Its incarnation.
pub(crate) fn check(data: &Path) -> Result<u64, StartError> {
    let path = path(data);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return renew(data),
        Err(error) => return Err(StartError::disk(&path, error)),
    };
    let (inode, incarnation) = match open::<Identity>(&bytes) {
        Ok(identity) => (identity.inode, Some(identity.incarnation)),
        Err(FrameError::Malformed) => {
            let old = open::<OldIdentity>(&bytes);
            (old.map_err(|error| StartError::damaged(path.display().to_string(), error))?.inode, None)
        }
        Err(error) => return Err(StartError::damaged(path.display().to_string(), error)),
    };
    let found = fs::metadata(&path).map_err(|error| StartError::disk(&path, error))?.ino();
    if found != inode {
        return Err(StartError::Copied(data.to_owned()));
    }
    incarnation.map_or_else(|| renew(data), Ok)
}

/// Makes `data`, copied here, the directory of a node: what it lacks of the original is given up.
pub fn adopt(data: &Path) -> Result<(), StartError> {
    renew(data).map(|_| ())
}

fn renew(data: &Path) -> Result<u64, StartError> {
    let path = path(data);
    let incarnation = rand::random();
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&seal(&Identity { inode: file.metadata()?.ino(), incarnation }))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(data)?.sync_all()
    };
    write().map(|()| incarnation).map_err(|error| StartError::disk(&path, error))
}

fn path(data: &Path) -> PathBuf {
    data.join("identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_refused_until_it_is_adopted() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        check(original.path()).unwrap();
        check(original.path()).unwrap();
        fs::copy(path(original.path()), path(copy.path())).unwrap();
        let error = check(copy.path()).unwrap_err().to_string();
        assert!(error.contains("rialto journal adopt"), "{error}");
        adopt(copy.path()).unwrap();
        check(copy.path()).unwrap();
        check(original.path()).unwrap();
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path()).unwrap();
        let mut bytes = fs::read(path(folder.path())).unwrap();
        bytes[5] ^= 1;
        fs::write(path(folder.path()), bytes).unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.contains("identity is damaged"), "{error}");
    }
}
