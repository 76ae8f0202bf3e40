//! Secrets at rest: what the log and snapshots hold of an API secret or a TOTP secret is ciphertext, under a key that stands
//! in a file of its own and never in the log.
//!
//! Where no file is named, it is `rialto/secrets.key` in the user's configuration folder (`$XDG_CONFIG_HOME`, `~/.config`).
//!
//! The file has one key in each line. The first seals; all of them open, so that a key is replaced by putting a new one before
//! it. All nodes of a cluster need the same file. A sealed secret is bound to what it belongs to: moved elsewhere it does
//! not open.
//!
//! ```text
//! sealed   version 1, u8 | key's id, 8 bytes | nonce, 12 bytes | ciphertext | tag, 16 bytes   (ChaCha20-Poly1305)
//! line     rialto-secrets-key-1 <32 bytes in hex> <first 4 bytes of their SHA-256 in hex>
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use engine::Command;
use engine::command::{ApiKey, ApiKeyKind};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// The name of a file of keys that no setting names.
const FILE_NAME: &str = "secrets.key";
const LINE_START: &str = "rialto-secrets-key-1";
/// More than any number of keys would need.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The keys that seal and open secrets.
pub struct KeyRing {
    /// The first seals.
    keys: Vec<SealingKey>,
}

struct SealingKey {
    id: [u8; ID_BYTES],
    cipher: LessSafeKey,
    bytes: [u8; KEY_BYTES],
}

/// Why a secret cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealError {
    /// It was sealed under a key that is not in the file.
    UnknownKey(String),
    /// It is damaged, or belongs to something else.
    Damaged,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SealError::UnknownKey(id) => write!(f, "it is sealed under the key {id}, which is not in the file of keys"),
            SealError::Damaged => f.write_str("it is damaged, or was sealed for something else"),
        }
    }
}

impl std::fmt::Debug for KeyRing {
    /// Never shows a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| hex::encode(key.id))).finish()
    }
}

impl KeyRing {
    /// The keys of a file, which only its owner may read.
    pub fn read(path: &Path) -> Result<KeyRing, String> {
        let complain = |error: &dyn std::fmt::Display| format!("the file of keys {}: {error}", path.display());
        let metadata = fs::metadata(path).map_err(|error| complain(&error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(complain(&"others than its owner can read or write it; chmod 600 it"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(complain(&"it is too large to be one"));
        }
        let text = fs::read_to_string(path).map_err(|error| complain(&error))?;
        KeyRing::parse(&text).map_err(|error| complain(&error))
    }

    /// The same; where there is no such file, a new one with a new key. Of two that make it at once one does.
    pub fn read_or_create(path: &Path) -> Result<KeyRing, String> {
        if !path.exists() {
            let bytes: [u8; KEY_BYTES] = rand::random();
            create_private(path, &format!("{}\n", line(&bytes)))
                .map_err(|error| format!("the file of keys {} cannot be written: {error}", path.display()))?;
        }
        KeyRing::read(path)
    }

    /// The keys of a node whose settings name no file: those of the user that it runs as, made when they are missing, so that
    /// they lie apart from the data and all nodes of that user share them. Where there is no place for them, those in the data
    /// directory; keys that are there count in any case.
    pub fn of_user(data: &Path) -> Result<KeyRing, String> {
        let in_data = data.join(FILE_NAME);
        let of_data = if in_data.exists() { Some(KeyRing::read(&in_data)?) } else { None };
        let of_user = user_file().map(|path| {
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            let made = folder.map_err(|error| format!("{}: {error}", path.display()));
            made.and_then(|()| KeyRing::read_or_create(&path))
        });
        match (of_data, of_user) {
            (Some(mut keys), of_user) => {
                keys.keys.extend(of_user.and_then(Result::ok).map_or_else(Vec::new, |more| more.keys));
                Ok(keys)
            }
            (None, Some(Ok(keys))) => Ok(keys),
            (None, of_user) => {
                if let Some(Err(reason)) = of_user {
                    tracing::warn!("{reason}; the keys of secrets are kept in the data directory");
                }
                KeyRing::read_or_create(&in_data)
            }
        }
    }

    fn parse(text: &str) -> Result<KeyRing, String> {
        let lines =
            text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let key = |(at, line): (usize, &str)| parse_line(line).ok_or_else(|| format!("line {} is no key", at + 1));
        let keys: Vec<SealingKey> = lines.map(key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err("there is no key in it".to_owned()) } else { Ok(KeyRing { keys }) }
    }

    /// The secret as it may stand anywhere; `context` says what it belongs to.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let key = &self.keys[0];
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let mut sealed = Vec::with_capacity(1 + ID_BYTES + NONCE_BYTES + secret.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut text = secret.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.cipher
            .seal_in_place_append_tag(nonce, Aad::from(context.as_bytes()), &mut text)
            .expect("a secret is far shorter than the cipher's limit");
        sealed.extend_from_slice(&text);
        sealed
    }

    /// The secret again.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>().ok_or(SealError::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        if *version != VERSION {
            return Err(SealError::Damaged);
        }
        let key = self.keys.iter().find(|key| key.id == *id);
        let key = key.ok_or_else(|| SealError::UnknownKey(hex::encode(id)))?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.cipher.open_in_place(nonce, Aad::from(context.as_bytes()), &mut text);
        opened.map(|secret| secret.to_vec()).map_err(|_| SealError::Damaged)
    }

    /// A key for another purpose, which follows from the first of the file: the same on all nodes that share it.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.keys[0].bytes);
        let derived = ring::hmac::sign(&key, purpose.as_bytes());
        derived.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// A key of an API as it goes into the log.
    pub fn seal_api_key(&self, key: &mut ApiKey) {
        if let ApiKeyKind::Hmac { secret } = &key.kind {
            key.kind = ApiKeyKind::SealedHmac { sealed: self.seal(&api_key_context(&key.api_key), secret) };
        }
    }

    /// The same in a command that has one.
    pub fn seal_command(&self, command: &mut Command) {
        if let Command::AddApiKey(key) = command {
            self.seal_api_key(key);
        }
    }

    /// A key of an API as requests are checked with.
    pub fn open_api_key(&self, key: &ApiKey) -> Result<ApiKey, SealError> {
        let mut key = key.clone();
        if let ApiKeyKind::SealedHmac { sealed } = &key.kind {
            key.kind = ApiKeyKind::Hmac { secret: self.open(&api_key_context(&key.api_key), sealed)? };
        }
        Ok(key)
    }
}

fn api_key_context(api_key: &str) -> String {
    format!("api-key:{api_key}")
}

fn parse_line(line: &str) -> Option<SealingKey> {
    let mut words = line.split_whitespace();
    let (start, key, check) = (words.next()?, words.next()?, words.next()?);
    let bytes: [u8; KEY_BYTES] = hex::decode(key).ok()?.try_into().ok()?;
    let hash = Sha256::digest(bytes);
    let is_sound = start == LINE_START && words.next().is_none() && check == hex::encode(&hash[..4]);
    let id = hash[8..8 + ID_BYTES].try_into().ok()?;
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?);
    is_sound.then_some(SealingKey { id, cipher, bytes })
}

fn line(bytes: &[u8; KEY_BYTES]) -> String {
    format!("{LINE_START} {} {}", hex::encode(bytes), hex::encode(&Sha256::digest(bytes)[..4]))
}

/// Where the keys of the user stand that this runs as.
fn user_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    Some(folder.filter(|folder| folder.is_absolute())?.join("rialto").join(FILE_NAME))
}

/// Writes a file that only its owner may read, whole or not at all, and syncs it; one that is there is replaced.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = write_beside(path, text)?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// The same; one that is there stays.
fn create_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = write_beside(path, text)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(path),
    }
}

fn write_beside(path: &Path, text: &str) -> io::Result<PathBuf> {
    let temporary = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes: [u8; 32]) -> KeyRing {
        KeyRing::parse(&line(&bytes)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_owner_alone() {
        let ring_of_node = ring([1; 32]);
        let sealed = ring_of_node.seal("api-key:a", b"secret");
        assert_eq!(ring_of_node.open("api-key:a", &sealed).unwrap(), b"secret");
        assert_eq!(ring_of_node.open("api-key:b", &sealed), Err(SealError::Damaged));
        assert!(matches!(ring([2; 32]).open("api-key:a", &sealed), Err(SealError::UnknownKey(_))));
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, ring_of_node.seal("api-key:a", b"secret"), "a nonce is used once");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(ring_of_node.open("api-key:a", &damaged).is_err(), "{at}");
            assert!(ring_of_node.open("api-key:a", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_new_key_before_the_old_one_seals_while_both_open() {
        let old = ring([1; 32]);
        let both = KeyRing::parse(&format!("# comment\n{}\n\n{}\n", line(&[2; 32]), line(&[1; 32]))).unwrap();
        let sealed = old.seal("x", b"secret");
        assert_eq!(both.open("x", &sealed).unwrap(), b"secret");
        assert!(old.open("x", &both.seal("x", b"secret")).is_err());
        assert_ne!(old.derive("a"), both.derive("a"));
        assert_ne!(old.derive("a"), old.derive("b"));
        assert_eq!(old.derive("a"), ring([1; 32]).derive("a"));
    }

    #[test]
    fn a_file_of_keys_is_made_once_and_one_that_is_open_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let sealed = KeyRing::read_or_create(&path).unwrap().seal("x", b"secret");
        assert_eq!(KeyRing::read_or_create(&path).unwrap().open("x", &sealed).unwrap(), b"secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        // Any one digit that changes is noticed.
        for at in text.char_indices().filter(|(_, letter)| letter.is_ascii_hexdigit()).map(|(at, _)| at) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(KeyRing::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
        for text in ["", "\n", "rialto-secrets-key-1", "rialto-secrets-key-1 00 00"] {
            assert!(KeyRing::parse(text).is_err(), "{text}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(KeyRing::read(&path).unwrap_err().contains("chmod 600"));
        assert!(KeyRing::read(&folder.path().join("none")).is_err());
        assert!(!format!("{:?}", ring([1; 32])).contains("0101"));
    }
}
