//! Tokens of those who logged in: JWT (RFC 7519), signed with HMAC-SHA256. An access token lasts minutes and goes with each
//! request; a refresh token lasts hours and is good for the next pair alone.
//!
//! A token is good while its user is enabled and its session was not ended: that stands in the log, so it holds on every node.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::Time;
use engine::access::{Role, User};
use ring::hmac;
use serde::{Deserialize, Serialize};

/// The only header there is: no other way to sign is understood.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 2_048;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Requests.
    Access,
    /// The next pair of tokens.
    Refresh,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's name.
    pub sub: String,
    /// Which login it came from.
    #[serde(rename = "sid")]
    pub session: u64,
    /// The epoch of the user's sessions.
    pub epoch: u64,
    /// What it is for.
    #[serde(rename = "use")]
    pub purpose: Purpose,
    /// When it was made, in seconds.
    pub iat: u64,
    /// When it ends, in seconds.
    pub exp: u64,
}

/// Makes and reads tokens.
pub struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// With a key that all nodes have which shall believe them.
    pub fn new(key: &[u8; 32]) -> Tokens {
        Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The token that says so.
    pub fn write(&self, claims: &Claims) -> String {
        let body = serde_json::to_string(claims).expect("claims have text keys and no floats");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(body));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// What a token says, if it is ours and its time is not over.
    pub fn read(&self, token: &str, purpose: Purpose, now: Time) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, tag) = token.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &tag).ok()?;
        let (header, body) = signed.split_once('.')?;
        if URL_SAFE_NO_PAD.decode(header).ok()? != HEADER.as_bytes() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (claims.purpose == purpose && now.0 / 1_000_000 < claims.exp).then_some(claims)
    }
}

/// Whether the session that a token speaks of goes on.
pub fn is_live(claims: &Claims, user: &User) -> bool {
    let is_ended = user.ended.iter().any(|(session, _)| *session == claims.session);
    user.terms.is_enabled && user.terms.name == claims.sub && user.epoch == claims.epoch && !is_ended
}

/// The word for a role.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Trader => "trader",
        Role::ReadOnly => "read-only",
        Role::Operator => "operator",
    }
}

/// The role of a word.
pub fn parse_role(word: &str) -> Option<Role> {
    [Role::Trader, Role::ReadOnly, Role::Operator].into_iter().find(|role| role_word(*role) == word)
}

#[cfg(test)]
mod tests {
    use engine::access::UserTerms;

    use super::*;

    fn claims() -> Claims {
        Claims { sub: "ann".into(), session: 7, epoch: 3, purpose: Purpose::Access, iat: 1_000, exp: 1_900 }
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn a_token_is_believed_until_its_end_and_only_as_it_was_written() {
        let tokens = Tokens::new(&[1; 32]);
        let token = tokens.write(&claims());
        assert_eq!(tokens.read(&token, Purpose::Access, at(1_899)), Some(claims()));
        assert_eq!(tokens.read(&token, Purpose::Access, at(1_900)), None);
        assert_eq!(tokens.read(&token, Purpose::Refresh, at(1_000)), None);
        assert_eq!(Tokens::new(&[2; 32]).read(&token, Purpose::Access, at(1_000)), None);
        for at_byte in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at_byte] = if bytes[at_byte] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            // The last letter of an encoding may have bits that mean nothing; strict readers refuse those too.
            assert_eq!(tokens.read(&altered, Purpose::Access, at(1_000)), None, "{at_byte}");
        }
        for token in ["", ".", "..", "a.b.c", &"x".repeat(5_000)] {
            assert_eq!(tokens.read(token, Purpose::Access, at(1_000)), None);
        }
    }

    #[test]
    fn a_token_that_says_it_needs_no_signature_is_refused() {
        let tokens = Tokens::new(&[1; 32]);
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_string(&claims()).unwrap());
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(tokens.read(&format!("{none}.{body}."), Purpose::Access, at(1_000)), None);
        let signed = format!("{none}.{body}");
        let tag = hmac::sign(&tokens.key, signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(tokens.read(&token, Purpose::Access, at(1_000)), None);
    }

    #[test]
    fn a_session_ends_with_its_user_its_epoch_or_by_itself() {
        let terms = UserTerms {
            name: "ann".into(),
            uid: None,
            role: Role::Operator,
            password_hash: String::new(),
            one_time_secret: None,
            is_enabled: true,
        };
        let user = User { terms, epoch: 3, ended: vec![(6, at(9))] };
        assert!(is_live(&claims(), &user));
        let mut disabled = user.clone();
        disabled.terms.is_enabled = false;
        assert!(!is_live(&claims(), &disabled));
        assert!(!is_live(&claims(), &User { epoch: 4, ..user.clone() }));
        assert!(!is_live(&claims(), &User { ended: vec![(6, at(9)), (7, at(9))], ..user }));
    }
}
