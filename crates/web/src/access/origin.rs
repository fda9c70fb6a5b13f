//! Where a request comes from and what it was addressed to, as the browser says.

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header},
};
use std::net::IpAddr;

/// Does the request come from a page of this server, or from no page at all?
pub fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            let origin = origin.as_ref().and_then(Uri::authority).map(|authority| authority.as_str());
            origin.is_some() && origin == text("host")
        }
    }
}

/// Was the request addressed to this machine itself? One without a host came from no browser.
pub fn is_for_loopback(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    host.or(request.uri().authority().map(|authority| authority.as_str())).is_none_or(is_loopback)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let local = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    local || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_its_names() {
        for own in ["localhost", "LOCALHOST:7432", "127.0.0.1:7432", "127.1.2.3", "[::1]:7432", "surus.localhost:1"] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in ["db.example:7432", "10.0.0.1", "127.0.0.1.evil.example", "[::2]:1", "", "localhost.example"] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn another_site_is_told_apart() {
        let own = |pairs: &[(&'static str, &'static str)]| {
            is_own(&pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
        };
        assert!(own(&[]) && own(&[("host", "a:1"), ("origin", "http://a:1")]));
        assert!(own(&[("sec-fetch-site", "same-origin")]) && !own(&[("sec-fetch-site", "cross-site")]));
        assert!(!own(&[("host", "a:1"), ("origin", "http://b:1")]) && !own(&[("host", "a"), ("origin", "null")]));
    }
}
