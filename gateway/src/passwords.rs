//! What people prove that they are who they say with: passwords, kept as argon2id hashes, and one-time codes (RFC 6238).

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

/// Memory in KiB, passes and lanes of a hash: what OWASP's cheat sheet advises for argon2id.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
/// The shortest and the longest password, in bytes.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 10..=256;

/// Seconds for which a one-time code is good, and how many steps a clock may be off.
const STEP_SECONDS: u64 = 30;
const STEPS_OFF: u64 = 1;
const CODE_DIGITS: usize = 6;
/// Bytes of a new secret of one-time codes, as RFC 4226 advises.
const ONE_TIME_SECRET_BYTES: usize = 20;

/// The hash of a password, with all that is needed to check it: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
pub fn hash(password: &str) -> String {
    let salt: [u8; 16] = rand::random();
    let digest = digest(password, &salt, MEMORY_KIB, PASSES, LANES).expect("our own parameters are sound");
    let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest));
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}")
}

/// Whether the password is that of the hash. Takes as long whether it is or not, and as long for a hash that is none.
pub fn verify(password: &str, hash: &str) -> bool {
    let parsed = parse(hash);
    let is_known = parsed.is_some();
    let (memory, passes, lanes, salt, expected) =
        parsed.unwrap_or((MEMORY_KIB, PASSES, LANES, vec![0; 16], [0; HASH_BYTES]));
    let found = digest(password, &salt, memory, passes, lanes);
    is_known && found.is_some_and(|found| is_equal(&found, &expected))
}

/// Whether two texts of bytes are the same, in a time that tells nothing of where they differ.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    // The key is of no account: what is compared is whether both have the same code under it.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
    hmac::verify(&key, one, hmac::sign(&key, other).as_ref()).is_ok()
}

fn digest(password: &str, salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Option<[u8; HASH_BYTES]> {
    let params = Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?;
    let mut digest = [0; HASH_BYTES];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(password.as_bytes(), salt, &mut digest).ok()?;
    Some(digest)
}

type Parsed = (u32, u32, u32, Vec<u8>, [u8; HASH_BYTES]);

fn parse(hash: &str) -> Option<Parsed> {
    let mut parts = hash.strip_prefix("$argon2id$v=19$")?.split('$');
    let mut params = parts.next()?.split(',');
    let mut number = |name: &str| params.next()?.strip_prefix(name)?.parse::<u32>().ok();
    let (memory, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    // What stands in the log is not believed to be small.
    if memory > 1 << 20 || passes > 16 || lanes > 16 {
        return None;
    }
    let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let digest = STANDARD_NO_PAD.decode(parts.next()?).ok()?.try_into().ok()?;
    parts.next().is_none().then_some((memory, passes, lanes, salt, digest))
}

/// A new secret for one-time codes.
pub fn one_time_secret() -> Vec<u8> {
    rand::random::<[u8; ONE_TIME_SECRET_BYTES]>().to_vec()
}

/// The step whose code this is, if it is one of now.
pub fn one_time_step(secret: &[u8], code: &str, seconds: u64) -> Option<u64> {
    let step = seconds / STEP_SECONDS;
    let near = step.saturating_sub(STEPS_OFF)..=step + STEPS_OFF;
    // All are looked at, so that the time tells nothing.
    near.fold(None, |found, step| {
        let is_it = is_equal(one_time_code(secret, step).as_bytes(), code.as_bytes());
        if is_it { Some(step) } else { found }
    })
}

/// The code of a step.
pub fn one_time_code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes[bytes.len() - 1] & 0xf);
    let number = u32::from_be_bytes([bytes[at] & 0x7f, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    format!("{:0CODE_DIGITS$}", number % 10u32.pow(CODE_DIGITS as u32))
}

/// What an authenticator reads: the secret in base 32, within a URL that it can be shown as a picture.
pub fn one_time_url(name: &str, secret: &[u8]) -> String {
    let name: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    format!("otpauth://totp/Rialto:{name}?secret={}&issuer=Rialto", base32(secret))
}

fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(LETTERS[(bits >> count & 31) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(LETTERS[(bits << (5 - count) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hashed = hash("correct horse battery");
        assert!(verify("correct horse battery", &hashed));
        assert!(!verify("correct horse batterz", &hashed) && !verify("", &hashed));
        assert_ne!(hashed, hash("correct horse battery"), "each has a salt of its own");
        for broken in
            ["", "$argon2id$v=19$m=1,t=1,p=1$AA$AA", "$argon2i$v=19$m=19456,t=2,p=1$AA$AA", &hashed[1..], "plain"]
        {
            assert!(!verify("correct horse battery", broken), "{broken}");
        }
        let greedy = hashed.replace("m=19456", "m=99999999");
        assert!(!verify("correct horse battery", &greedy));
    }

    #[test]
    fn a_hash_of_another_program_is_understood() {
        // From the reference implementation's command: echo -n "password" | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32 -e
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", hash));
        assert!(!verify("passwort", hash));
    }

    #[test]
    fn one_time_codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        let secret = b"12345678901234567890";
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(one_time_code(secret, seconds / 30), code);
            assert_eq!(one_time_step(secret, code, seconds), Some(seconds / 30));
            assert_eq!(one_time_step(secret, code, seconds + 30), Some(seconds / 30), "a step late");
            assert_eq!(one_time_step(secret, code, seconds + 90), None, "too late");
        }
        assert_eq!(one_time_step(secret, "", 59), None);
        assert!(
            one_time_url("a b", secret).ends_with("Rialto:a_b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Rialto")
        );
        assert_eq!(
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base32(text.as_bytes())).join(" "),
            " MY MZXQ MZXW6 MZXW6YQ MZXW6YTB MZXW6YTBOI"
        );
    }
}
