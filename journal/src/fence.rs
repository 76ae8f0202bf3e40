//! A node whose state differs from that of a majority does not start again on its directory: what is in it is not to be trusted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::StartError;

/// The longest reason that is read.
const REASON_BYTES_MAX: usize = 4 << 10;

/// The mark in a data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    mark: PathBuf,
}

impl Fence {
    /// That of `data`.
    pub(crate) fn of(data: &Path) -> Fence {
        Fence { mark: data.join("fenced") }
    }

    /// Sets it, synced.
    pub(crate) fn set(&self, reason: &str) -> io::Result<()> {
        let mut file = File::create(&self.mark)?;
        file.write_all(reason.as_bytes())?;
        file.sync_all()
    }

    /// Refuses where it is set.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        match fs::read(&self.mark) {
            Ok(reason) => {
                let reason = String::from_utf8_lossy(&reason[..reason.len().min(REASON_BYTES_MAX)]).into_owned();
                Err(StartError::Fenced { mark: self.mark.clone(), reason })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StartError::disk(&self.mark, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_directory_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let fence = Fence::of(folder.path());
        fence.check().unwrap();
        fence.set("entry 64 differs").unwrap();
        let error = fence.check().unwrap_err().to_string();
        assert!(error.starts_with("entry 64 differs") && error.contains("fenced"), "{error}");
    }
}
