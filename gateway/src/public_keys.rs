//! Public keys as clients register them: PEM with the header `BEGIN PUBLIC KEY` (RFC 8410 for Ed25519, RFC 8017 for RSA), read
//! strictly into what verifies a signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::command::ApiKeyKind;

/// The longest PEM that is read: a 4096-bit RSA key has 800 characters.
const PEM_MAX: usize = 4_096;
/// The sizes of an RSA modulus, in bytes: 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// 1.3.101.112, as DER writes it.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 1.2.840.113549.1.1.1, as DER writes it.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The key that a PEM text holds; the complaint otherwise.
pub fn parse(pem: &str) -> Result<ApiKeyKind, String> {
    let der = decode_pem(pem)?;
    let malformed = || "the public key is malformed".to_owned();
    let mut outer = Der(&der);
    let mut info = Der(outer.take(SEQUENCE).filter(|_| outer.0.is_empty()).ok_or_else(malformed)?);
    let algorithm = info.take(SEQUENCE).and_then(|algorithm| Der(algorithm).take(OBJECT_ID)).ok_or_else(malformed)?;
    // The first byte says how many bits of the last one are not used.
    let bits = info.take(BIT_STRING).filter(|_| info.0.is_empty()).and_then(|bits| bits.strip_prefix(&[0]));
    let key = bits.ok_or_else(malformed)?;
    match algorithm {
        ED25519 => {
            let public_key = key.try_into().map_err(|_| "an Ed25519 public key has 32 bytes".to_owned())?;
            Ok(ApiKeyKind::Ed25519 { public_key })
        }
        RSA => {
            check_rsa(key)?;
            Ok(ApiKeyKind::Rsa { public_key: key.to_vec() })
        }
        _ => Err("the public key is neither Ed25519 nor RSA".to_owned()),
    }
}

fn decode_pem(pem: &str) -> Result<Vec<u8>, String> {
    if pem.len() > PEM_MAX {
        return Err(format!("the public key is longer than {PEM_MAX} characters"));
    }
    let text = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
    let text = text.and_then(|text| text.strip_suffix("-----END PUBLIC KEY-----"));
    let text = text.ok_or("the public key must be PEM, from BEGIN PUBLIC KEY to END PUBLIC KEY")?;
    let packed: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(packed).map_err(|_| "the public key is not base64".to_owned())
}

/// Whether these bytes are the modulus and exponent of a key of a size that is taken.
fn check_rsa(key: &[u8]) -> Result<(), String> {
    let parts = || {
        let mut outer = Der(key);
        let mut inner = Der(outer.take(SEQUENCE).filter(|_| outer.0.is_empty())?);
        let (modulus, exponent) = (inner.take(INTEGER)?, inner.take(INTEGER)?);
        inner.0.is_empty().then_some((modulus, exponent))
    };
    let (modulus, exponent) = parts().ok_or("the RSA public key is malformed")?;
    // A zero in front keeps the number above zero.
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    if !MODULUS_BYTES.contains(&modulus.len()) || modulus[0] & 0x80 == 0 {
        return Err("an RSA key must have 2048 to 4096 bits".to_owned());
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !odd(modulus) || !odd(exponent) || exponent == [1] || exponent.len() > 4 {
        return Err("the RSA public key is malformed".to_owned());
    }
    Ok(())
}

/// Bytes in the distinguished encoding rules, read from the front.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next value, which must be of this kind.
    fn take(&mut self, kind: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Longer lengths say in how many bytes they come; two are enough for every key there is.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => (usize::from(*rest.first()?), &rest[1..]),
            0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == kind).then_some(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// faqs/api_key_types.md.
    const DOCUMENTED_ED25519: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAgmDRTtj2FA+wzJUIlAL9ly1eovjLBu7uXUFR+jFULmg=\n\
        -----END PUBLIC KEY-----\n";
    /// faqs/api_key_types.md.
    const DOCUMENTED_RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyfKiFXpcOhF5rX1XxePN\n\
        akwN7Etwtn3v05cZNY+ftDHbVZHs/kY6Ruj5lhxVFAq5dv7Ba9/4jPijXuMuIc6Y\n\
        8nUlqtrrxC8DEOAczw9SKATDYZN9nbLfYlbBFfHzRQUXdAtYCPI6XtxmJBS7aOBb\n\
        4nZe1SVm+bhLrp0YQnx2P0s+37qkGeVn09m6w9MnWxjgCkkYFPWQkXIu5qOnwx6p\n\
        NfqDmFD7d7dUc/6PZQ1bKFALu/UETsobmBk82ShbrBhlc0JXuhf9qBR7QASjHjFQ\n\
        2N+VF2PfH8dm5prZIpz/MFKPkBW4Yuss0OXiD+jQt1J2JUKspLqsIqoXjHQQGjL7\n\
        3wIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    /// Of 1024 bits.
    const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC5OM8EF/6AMysvA6TbWsxbj+QC\n\
        EH+AATaJoQ1uztYWo418KnIJM0EFUrNYst6cVLw5ivQ2c7gjDcpzgQz69ZI4xigG\n\
        wtU6W6VYdd+CBgAFwJyaXhAraQiyEsH6UFfH3l6uf31WPw554NYbNwiIum+xHgSZ\n\
        RMX68wcaqU3QBq80TwIDAQAB\n\
        -----END PUBLIC KEY-----\n";

    fn der_of(pem: &str) -> Vec<u8> {
        decode_pem(pem).unwrap()
    }

    fn pem_of(der: &[u8]) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn the_documented_keys_are_read() {
        let ApiKeyKind::Ed25519 { public_key } = parse(DOCUMENTED_ED25519).unwrap() else { panic!("not Ed25519") };
        assert_eq!((public_key[0], public_key[31]), (0x82, 0x68));
        let ApiKeyKind::Rsa { public_key } = parse(DOCUMENTED_RSA).unwrap() else { panic!("not RSA") };
        assert_eq!(public_key.len(), 270);
        // Windows line ends, and spaces around it.
        assert!(parse(&format!("  {}  ", DOCUMENTED_RSA.replace('\n', "\r\n"))).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let complaint = |pem: &str| parse(pem).unwrap_err();
        assert!(complaint("").contains("PEM"));
        assert!(complaint("secret").contains("PEM"));
        assert!(complaint(&DOCUMENTED_RSA.replace("PUBLIC", "PRIVATE")).contains("PEM"));
        assert!(complaint(&DOCUMENTED_RSA.replace('M', "*")).contains("base64"));
        assert!(complaint(&"A".repeat(PEM_MAX + 1)).contains("longer"));
        assert!(complaint(SHORT_RSA).contains("2048 to 4096 bits"));
        // An elliptic curve's object id.
        let mut other = der_of(DOCUMENTED_ED25519);
        other[6] = 0x71;
        assert!(complaint(&pem_of(&other)).contains("neither"));
    }

    #[test]
    fn no_cut_or_altered_bytes_make_it_panic() {
        for pem in [DOCUMENTED_ED25519, DOCUMENTED_RSA] {
            let der = der_of(pem);
            for end in 0..der.len() {
                assert!(parse(&pem_of(&der[..end])).is_err(), "cut at {end}");
            }
            for at in 0..der.len() {
                for flipped in [0x01, 0x80, 0xff] {
                    let mut der = der.clone();
                    der[at] ^= flipped;
                    // Many of them are keys still; none is a panic.
                    let _ = parse(&pem_of(&der));
                }
            }
            assert!(parse(&pem_of(&[&der[..], &[0]].concat())).is_err(), "more bytes than a key has");
        }
    }
}
