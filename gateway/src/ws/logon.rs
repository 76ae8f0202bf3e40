//! Who a WS API socket is logged on as: session.logon, session.status, session.logout.

use std::sync::Arc;

use engine::Time;
use serde_json::json;

use crate::auth::{self, Credentials, Security};
use crate::params::Params;
use crate::rest::error::ApiError;
use crate::views::Catalog;
use crate::ws::hub::TimeUnit;

/// A socket's logon. Keys of every kind may log on; the venue allows Ed25519 alone.
pub(super) struct Logon {
    connected_since: Time,
    /// The key, and since when.
    key: Option<(Arc<str>, Time)>,
}

impl Logon {
    /// Of a socket that nobody is logged on to yet.
    pub(super) fn new(connected_since: Time) -> Logon {
        Logon { connected_since, key: None }
    }

    /// The key that is logged on.
    pub(super) fn key(&self) -> Option<Arc<str>> {
        self.key.as_ref().map(|(key, _)| key.clone())
    }

    /// session.logon: the key that the request names and signs is logged on from now, in place of any other.
    pub(super) fn log_on(
        &mut self,
        catalog: &Catalog,
        mut params: Params,
        by: &Credentials<'_>,
        now: Time,
    ) -> Result<(), ApiError> {
        let by = Credentials { session: None, ..*by };
        auth::authenticate(catalog, Security::Signed, &by, &mut params, now)?;
        params.finish()?;
        let key = by.api_key.ok_or_else(ApiError::api_key_format)?;
        self.key = Some((key.into(), now));
        Ok(())
    }

    /// session.logout.
    pub(super) fn log_out(&mut self) {
        self.key = None;
    }

    /// Whether the key that is logged on is good no longer: then nobody is.
    pub(super) fn is_revoked(&mut self, catalog: &Catalog) -> bool {
        let is_known = |(key, _): &(Arc<str>, Time)| auth::find_key(catalog, Some(key)).is_ok();
        let revoked = self.key.as_ref().is_some_and(|key| !is_known(key));
        if revoked {
            self.key = None;
        }
        revoked
    }

    /// What all three answer.
    pub(super) fn status(&self, unit: TimeUnit, now: Time, has_rate_limits: bool, is_subscribed: bool) -> String {
        let (key, since) = self.key.as_ref().map(|(key, since)| (&**key, unit.of(*since))).unzip();
        json!({
            "apiKey": key,
            "authorizedSince": since,
            "connectedSince": unit.of(self.connected_since),
            "returnRateLimits": has_rate_limits,
            "serverTime": unit.of(now),
            "userDataStream": is_subscribed,
        })
        .to_string()
    }
}
