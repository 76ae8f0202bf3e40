//! Logging in on the web page: a password and, where the user has them, a one-time code give a pair of tokens; the access
//! token stands in for key and signature in REST calls. No cookie is ever set or read, so no other page can act in one's name.
//!
//! Whoever guesses is slowed down: so many failures of an address or for a name, and nothing more is looked at for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use engine::access::{Access, Role, User, UserTerms};
use engine::{Command, Event, Time, Uid};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::perform::{Refused, hash_password, one_time_context};
use crate::app::App;
use crate::auth::{Caller, Security};
use crate::client_address::counted;
use crate::config::LoginConfig;
use crate::params::Params;
use crate::passwords;
use crate::rest::error::ApiError;
use crate::tokens::{Claims, Purpose, Tokens, is_live, role_word};
use crate::views::Catalog;

/// After so many failures within the pause, an address or name must wait.
const FAILURES_MAX: u32 = 5;
/// How long, in microseconds.
const PAUSE: u64 = 60_000_000;
/// How many addresses and names with failures are remembered; with more of them nobody new is let in until some are over.
const FAILURES_REMEMBERED: usize = 100_000;

/// Who is logged in, and who tries.
pub struct Login {
    tokens: Tokens,
    access_seconds: u64,
    refresh_seconds: u64,
    failures: Mutex<HashMap<Failing, (u32, Time)>>,
    /// The last step whose one-time code each user has used: none is good twice.
    used_steps: Mutex<HashMap<String, u64>>,
}

#[derive(PartialEq, Eq, Hash)]
enum Failing {
    Address(IpAddr),
    Name(String),
}

/// What is asked about logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A password for a pair of tokens.
    Login,
    /// A refresh token for a pair of tokens.
    Refresh,
    /// The end of a session.
    Logout,
    /// Another password.
    Password,
    /// Who one is.
    Me,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    name: String,
    password: String,
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RefreshBody {
    refresh_token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    old: String,
    new: String,
}

impl Login {
    /// With a key that all nodes have which shall believe its tokens.
    pub fn new(config: &LoginConfig, key: &[u8; 32]) -> Login {
        Login {
            tokens: Tokens::new(key),
            access_seconds: config.access_minutes * 60,
            refresh_seconds: config.refresh_hours * 3_600,
            failures: Mutex::default(),
            used_steps: Mutex::default(),
        }
    }

    /// The user of an access token, while the session goes on.
    pub fn user<'a>(&self, catalog: &'a Catalog, token: &str, now: Time) -> Option<&'a User> {
        let claims = self.tokens.read(token, Purpose::Access, now)?;
        catalog.users.get(&claims.sub).filter(|user| is_live(&claims, user))
    }

    /// Who makes a call with an access token, if its role allows it.
    pub fn caller(
        &self,
        catalog: &Catalog,
        security: Security,
        token: &str,
        params: &mut Params,
        now: Time,
    ) -> Result<Option<Caller>, ApiError> {
        if security == Security::None {
            return Ok(None);
        }
        // What a signed request would have is not needed, and does no harm.
        for name in ["timestamp", "recvWindow", "signature"] {
            params.take(name);
        }
        let user = self.user(catalog, token, now).ok_or_else(ApiError::rejected_key)?;
        let may_trade = user.terms.role != Role::ReadOnly;
        // Prices come from collectors, each with a key of its own.
        let allowed = security != Security::Feed && (may_trade || security != Security::Trade);
        let uid = user.terms.uid.filter(|_| allowed);
        let uid = uid.ok_or_else(ApiError::rejected_key)?;
        Ok(Some(Caller { uid, deadline: None, may_read: true, may_trade }))
    }

    fn pair(&self, user: &User, session: u64, now: Time) -> Value {
        let iat = now.0 / 1_000_000;
        let write = |purpose, seconds| {
            let (sub, epoch) = (user.terms.name.clone(), user.epoch);
            self.tokens.write(&Claims { sub, session, epoch, purpose, iat, exp: iat + seconds })
        };
        json!({
            "accessToken": write(Purpose::Access, self.access_seconds),
            "expiresIn": self.access_seconds,
            "refreshToken": write(Purpose::Refresh, self.refresh_seconds),
            "refreshExpiresIn": self.refresh_seconds,
            "name": user.terms.name,
            "role": role_word(user.terms.role),
            "uid": user.terms.uid.map(|uid| uid.0),
        })
    }

    fn may_try(&self, address: IpAddr, name: &str, now: Time) -> bool {
        let mut failures = self.failures.lock();
        let is_over = |since: Time| now.0 >= since.0.saturating_add(PAUSE);
        if failures.len() >= FAILURES_REMEMBERED {
            failures.retain(|_, (_, since)| !is_over(*since));
            if failures.len() >= FAILURES_REMEMBERED {
                return false;
            }
        }
        let waits =
            |who: &Failing| failures.get(who).is_some_and(|&(count, since)| count >= FAILURES_MAX && !is_over(since));
        !waits(&Failing::Address(address)) && !waits(&Failing::Name(name.to_owned()))
    }

    fn failed(&self, address: IpAddr, name: &str, now: Time) {
        let mut failures = self.failures.lock();
        for who in [Failing::Address(address), Failing::Name(name.to_owned())] {
            let (count, since) = failures.entry(who).or_insert((0, now));
            if now.0 >= since.0.saturating_add(PAUSE) {
                (*count, *since) = (0, now);
            }
            *count = count.saturating_add(1);
        }
    }

    /// Whether a code is good, and has not been used.
    fn takes_code(&self, name: &str, secret: &[u8], code: &str, now: Time) -> bool {
        let Some(step) = passwords::one_time_step(secret, code, now.0 / 1_000_000) else { return false };
        let mut used = self.used_steps.lock();
        if used.get(name).is_some_and(|last| step <= *last) {
            return false;
        }
        used.insert(name.to_owned(), step);
        true
    }
}

/// The longest name that is looked up, in bytes.
const NAME_MAX: usize = 64;

/// Answers what is asked about logins.
pub async fn answer(
    app: &Arc<App>,
    asked: Asked,
    body: &[u8],
    token: Option<&str>,
    address: IpAddr,
    now: Time,
) -> Result<Value, Refused> {
    match asked {
        Asked::Login => log_in(app, body, counted(address), now).await,
        Asked::Refresh => refresh(app, body, now),
        Asked::Logout => log_out(app, token, now).await,
        Asked::Password => change_password(app, body, token, counted(address), now).await,
        Asked::Me => {
            let catalog = app.outlets.views.symbols();
            let user = token.and_then(|token| app.login.user(&catalog, token, now)).ok_or_else(not_logged_in)?;
            let (name, role, uid) = (&user.terms.name, role_word(user.terms.role), user.terms.uid.map(|uid| uid.0));
            Ok(json!({ "name": name, "role": role, "uid": uid }))
        }
    }
}

fn not_logged_in() -> Refused {
    Refused(401, "You are not logged in.".to_owned())
}

/// The same for a name that is not known, a wrong password and a wrong code.
fn wrong_login() -> Refused {
    Refused(401, "Name, password or code is wrong.".to_owned())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    // What is wrong is not told: it may quote the password.
    serde_json::from_slice(body).map_err(|_| Refused(400, "The body is not the JSON that is expected.".to_owned()))
}

async fn log_in(app: &Arc<App>, body: &[u8], address: IpAddr, now: Time) -> Result<Value, Refused> {
    let LoginBody { name, password, code } = parse(body)?;
    if name.len() > NAME_MAX || password.len() > *passwords::PASSWORD_BYTES.end() {
        return Err(wrong_login());
    }
    if !app.login.may_try(address, &name, now) {
        return Err(Refused(429, "Too many failures; try again in a minute.".to_owned()));
    }
    let user = app.outlets.views.symbols().users.get(&name).cloned();
    let hash = user.as_ref().map(|user| user.terms.password_hash.clone()).unwrap_or_default();
    let is_right = verify(app, password, hash).await?;
    let user = user.filter(|user| is_right && user.terms.is_enabled);
    let user = user.filter(|user| match &user.terms.one_time_secret {
        None => true,
        Some(sealed) => {
            let secret = app.secrets.open(&one_time_context(&name), sealed);
            secret.is_ok_and(|secret| app.login.takes_code(&name, &secret, &code, now))
        }
    });
    let Some(user) = user else {
        app.login.failed(address, &name, now);
        tracing::info!(%address, "a login failed");
        return Err(wrong_login());
    };
    // Whoever the user is, its session has a number of its own.
    Ok(app.login.pair(&user, rand::random(), now))
}

async fn verify(app: &App, password: String, hash: String) -> Result<bool, Refused> {
    let _permit = app.hashing.acquire().await.map_err(|_| Refused(503, "The server is stopping.".to_owned()))?;
    let verified = tokio::task::spawn_blocking(move || passwords::verify(&password, &hash)).await;
    verified.map_err(|_| Refused(500, "The password could not be checked.".to_owned()))
}

fn refresh(app: &App, body: &[u8], now: Time) -> Result<Value, Refused> {
    let RefreshBody { refresh_token } = parse(body)?;
    let claims = app.login.tokens.read(&refresh_token, Purpose::Refresh, now).ok_or_else(not_logged_in)?;
    let catalog = app.outlets.views.symbols();
    let user = catalog.users.get(&claims.sub).filter(|user| is_live(&claims, user)).ok_or_else(not_logged_in)?;
    Ok(app.login.pair(user, claims.session, now))
}

async fn log_out(app: &App, token: Option<&str>, now: Time) -> Result<Value, Refused> {
    let claims =
        token.and_then(|token| app.login.tokens.read(token, Purpose::Access, now)).ok_or_else(not_logged_in)?;
    // No token of the session lasts longer.
    let until = Time((claims.exp + app.login.refresh_seconds).saturating_mul(1_000_000));
    end(app, Access::EndSessions { name: claims.sub, session: Some((claims.session, until)) }).await?;
    Ok(json!({}))
}

async fn change_password(
    app: &Arc<App>,
    body: &[u8],
    token: Option<&str>,
    address: IpAddr,
    now: Time,
) -> Result<Value, Refused> {
    let PasswordBody { old, new } = parse(body)?;
    let catalog = app.outlets.views.symbols();
    let user = token.and_then(|token| app.login.user(&catalog, token, now)).ok_or_else(not_logged_in)?;
    let name = &user.terms.name;
    if !app.login.may_try(address, name, now) {
        return Err(Refused(429, "Too many failures; try again in a minute.".to_owned()));
    }
    if !verify(app, old, user.terms.password_hash.clone()).await? {
        app.login.failed(address, name, now);
        return Err(wrong_login());
    }
    let terms = UserTerms { password_hash: hash_password(app, new).await?, ..user.terms.clone() };
    end(app, Access::SetUser(terms)).await?;
    Ok(json!({}))
}

/// Lays it into the log and waits until it holds.
async fn end(app: &App, asked: Access) -> Result<(), Refused> {
    let command = Command::Access(Box::new(asked));
    let answer = app.lanes.submit(Uid(u64::MAX), command, None)?.answer().await?;
    match answer.events().first() {
        Some(Event::Rejected(_)) => Err(not_logged_in()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login::new(&LoginConfig::default(), &[1; 32])
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn who_guesses_waits_by_name_and_by_address() {
        let (login, other) = (login(), IpAddr::from([10, 0, 0, 1]));
        (0..FAILURES_MAX).for_each(|_| login.failed(HERE, "ann", Time(0)));
        assert!(!login.may_try(HERE, "bob", Time(1)) && !login.may_try(other, "ann", Time(1)));
        assert!(login.may_try(other, "bob", Time(1)));
        assert!(login.may_try(HERE, "ann", Time(PAUSE)));
        login.failed(HERE, "ann", Time(PAUSE));
        assert!(login.may_try(HERE, "ann", Time(PAUSE)));
    }

    #[test]
    fn failures_without_end_let_nobody_in_until_they_are_over() {
        let login = login();
        for number in 0..FAILURES_REMEMBERED {
            login.failed(HERE, &number.to_string(), Time(0));
        }
        assert!(!login.may_try([10, 0, 0, 1].into(), "ann", Time(1)));
        assert!(login.may_try([10, 0, 0, 1].into(), "ann", Time(PAUSE)));
        assert!(login.failures.lock().is_empty());
    }

    #[test]
    fn a_one_time_code_is_good_once() {
        let (login, secret, now) = (login(), b"12345678901234567890", Time(59_000_000));
        assert!(login.takes_code("ann", secret, "287082", now));
        assert!(!login.takes_code("ann", secret, "287082", now));
        assert!(!login.takes_code("ann", secret, &passwords::one_time_code(secret, 0), now), "an older one neither");
        assert!(login.takes_code("bob", secret, "287082", now));
    }
}
