//! Who may see the page.
//!
//! Another site that a browser has open must not read it: a name of its own that it points at this address
//! (DNS rebinding) does not pass as `Host`, and requests that it makes itself are told by `Sec-Fetch-Site`. Beyond
//! loopback, and wherever a token was given, the token is asked for as well.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

use super::token::Token;

/// The cookie that holds the token.
const COOKIE: &str = "rstrace-token";

/// What is asked of every request.
#[derive(Clone, Debug)]
pub struct Access {
    bound: SocketAddr,
    /// What the machine calls itself, in lower case.
    host: String,
    token: Option<Token>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this host is not called so: use its address, its own name or localhost")]
    Host,
    #[error("other sites may not read this")]
    OtherSite,
    #[error(
        "the token is missing or wrong: add /?token=TOKEN to the address; it stands in the file of --web-token-file, or \
         in the agent's log"
    )]
    Token,
}

/// A request that may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The token came in the address: from now on it shall come as this cookie.
    pub set_cookie: Option<String>,
}

// === impl Access ===

impl Access {
    #[must_use]
    pub fn new(bound: SocketAddr, host: &str, token: Option<Token>) -> Self {
        Self { bound, host: host.to_ascii_lowercase(), token }
    }

    /// Whether that request may be answered; `query` are the pairs of its URL.
    ///
    /// # Errors
    /// If not.
    pub fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        query: &[(String, String)],
    ) -> Result<Granted, Denied> {
        if !self.is_called_so(uri, headers) {
            return Err(Denied::Host);
        }
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        // The page itself may be linked to from anywhere; what it shows may not be read from there.
        if uri.path() != "/" && site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return Err(Denied::OtherSite);
        }
        let Some(token) = &self.token else { return Ok(Granted { set_cookie: None }) };
        if bearer(headers).is_some_and(|text| token.is(text)) || cookies(headers).any(|text| token.is(text)) {
            return Ok(Granted { set_cookie: None });
        }
        if query.iter().any(|(word, value)| word == "token" && token.is(value)) {
            let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", token.reveal());
            return Ok(Granted { set_cookie: Some(cookie) });
        }
        Err(Denied::Token)
    }

    fn is_called_so(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let named = |authority: &Authority| self.is_own_name(authority.host());
        // A port may be forwarded to ours, so the number says nothing.
        host.to_str().ok().and_then(|text| text.parse().ok()).is_some_and(|host| named(&host))
            && uri.authority().is_none_or(named)
    }

    fn is_own_name(&self, name: &str) -> bool {
        let literal = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let bound = self.bound.ip();
        if let Ok(address) = literal.parse::<IpAddr>() {
            // An address in place of a name cannot be pointed elsewhere.
            return address.is_loopback() || address == bound || bound.is_unspecified();
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || (!bound.is_loopback() && !name.is_empty() && name == self.host)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn access(bound: &str, secret: bool) -> Access {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, SECRET).unwrap();
        Access::new(bound.parse().unwrap(), "GW-1", secret.then(|| Token::read(&path).unwrap()))
    }

    fn check(access: &Access, path: &str, headers: &[(HeaderName, &str)]) -> Result<Granted, Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        let query = path.split_once("?token=").map(|(_, token)| ("token".to_owned(), token.to_owned()));
        access.check(&path.parse().unwrap(), &map, query.as_slice())
    }

    #[test]
    fn a_name_of_somebody_else_does_not_pass() {
        let loopback = access("127.0.0.1:19436", false);
        let wide = access("0.0.0.0:19436", false);
        let one = access("10.0.1.2:19436", false);
        for (host, on_loopback, on_all, on_one) in [
            ("127.0.0.1:19436", true, true, true),
            // Forwarded by ssh or kubectl.
            ("localhost:8080", true, true, true),
            ("LOCALHOST.", true, true, true),
            ("[::1]:19436", true, true, true),
            ("10.0.1.2:19436", false, true, true),
            ("10.9.9.9", false, true, false),
            ("gw-1:19436", false, true, true),
            ("evil.example", false, false, false),
            ("127.0.0.1.evil.example", false, false, false),
            ("localhost.evil.example:19436", false, false, false),
            ("evil@127.0.0.1@x", false, false, false),
            ("", false, false, false),
        ] {
            for (access, expected) in [(&loopback, on_loopback), (&wide, on_all), (&one, on_one)] {
                let passed = check(access, "/", &[(header::HOST, host)]).is_ok();
                assert_eq!(passed, expected, "{host:?} on {}", access.bound);
            }
        }
        assert_eq!(check(&loopback, "/", &[]), Err(Denied::Host));
        let twice = [(header::HOST, "localhost"), (header::HOST, "evil.example")];
        assert_eq!(check(&loopback, "/", &twice), Err(Denied::Host));
        let absolute = check(&loopback, "http://evil.example/", &[(header::HOST, "localhost")]);
        assert_eq!(absolute, Err(Denied::Host));
    }

    #[test]
    fn another_site_reads_nothing() {
        let access = access("127.0.0.1:19436", false);
        let site = HeaderName::from_static("sec-fetch-site");
        let from =
            |path, site_is| check(&access, path, &[(header::HOST, "localhost"), (site.clone(), site_is)]);
        assert_eq!(from("/api/events", "cross-site"), Err(Denied::OtherSite));
        assert_eq!(from("/api/events", "same-site"), Err(Denied::OtherSite));
        assert!(from("/api/events", "same-origin").is_ok());
        assert!(from("/api/history", "none").is_ok());
        assert!(from("/", "cross-site").is_ok());
    }

    #[test]
    fn the_token_comes_in_any_of_three_ways() {
        let access = access("10.0.1.2:19436", true);
        let host = (header::HOST, "10.0.1.2:19436");
        let with = |name, value| check(&access, "/api/history", &[host.clone(), (name, value)]);
        assert_eq!(check(&access, "/", std::slice::from_ref(&host)), Err(Denied::Token));
        assert_eq!(with(header::AUTHORIZATION, "Bearer 0123456789abcdef"), Ok(Granted { set_cookie: None }));
        assert_eq!(with(header::AUTHORIZATION, "Bearer 0123456789abcdeg"), Err(Denied::Token));
        assert_eq!(with(header::AUTHORIZATION, "Basic 0123456789abcdef"), Err(Denied::Token));
        assert!(with(header::COOKIE, "a=b; rstrace-token=0123456789abcdef").is_ok());
        assert_eq!(with(header::COOKIE, "rstrace-token=; token=0123456789abcdef"), Err(Denied::Token));
        let cookie = check(&access, "/?token=0123456789abcdef", std::slice::from_ref(&host))
            .unwrap()
            .set_cookie
            .unwrap();
        assert!(cookie.starts_with("rstrace-token=0123456789abcdef;"), "{cookie}");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert_eq!(check(&access, "/?token=", &[host]), Err(Denied::Token));
    }
}
