//! A request comes in with exactly the key, under exactly a name of the server's, and with nothing that only looks like
//! them. What is right is said here once more, in other words than the server's.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;

#[path = "../common/server.rs"]
mod server;

/// Whether a name may be the server's. Too generous for what is no name at all, which is refused before.
fn may_be_ours(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    // What follows the name is the port's, whatever it is: it decides nothing.
    let name = match host.find(']') {
        Some(end) if host.starts_with('[') => &host[..=end],
        _ => host.split(':').next().unwrap_or_default(),
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let loopback = |address: Ipv6Addr| {
        address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
    };
    match inner {
        Some(inner) => {
            inner.parse().is_ok_and(loopback) || inner.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        None => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost"
                || name == "chat.example"
                || name.ends_with(".localhost")
                || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Whether a field's value is the key as it is to be sent.
fn is_key(value: &str) -> bool {
    value.split_once(' ').is_some_and(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer") && key == server::KEY)
}

// Two lines, a name and the credential: each of them what is right, something like it, or anything. Nothing would find the
// key by itself, and hardly a name.
fuzz_target!(|input: &str| {
    let Some((host, credential)) = input.split_once('\n') else { return };
    let host = match (host.as_bytes().first(), host.get(1..)) {
        (Some(b'='), _) => "localhost".to_owned(),
        (Some(b'+'), Some(rest)) => format!("chat.example{rest}"),
        (Some(b'-'), Some(rest)) => format!("{rest}localhost"),
        (Some(b'*'), Some(rest)) => format!("{rest}chat.example"),
        _ => host.to_owned(),
    };
    let credential = match (credential.as_bytes().first(), credential.get(1..)) {
        (Some(b'='), _) => format!("Bearer {}", server::KEY),
        (Some(b'+'), Some(rest)) => format!("Bearer {}{rest}", server::KEY),
        (Some(b'-'), Some(rest)) => format!("{rest}{}", server::KEY),
        _ => credential.replace("KEY", server::KEY),
    };
    if input.len() > 4 * 1024 || format!("{host}{credential}").bytes().any(|byte| byte < 32 || byte == 127) {
        return;
    }
    let request = format!(
        "GET /v1/sessions HTTP/1.1\r\nhost: {host}\r\nauthorization: {credential}\r\nconnection: close\r\n\r\n"
    );
    let said = server::ask(std::iter::once(request.as_bytes()));
    let status: u16 = std::str::from_utf8(&said[9..12]).expect("a status").parse().expect("a number");
    // Spaces around a value are not of it (RFC 9110 §5.5).
    let (host, credential) = (host.trim_matches([' ', '\t']), credential.trim_matches([' ', '\t']));
    match status {
        200 => assert!(may_be_ours(host) && is_key(credential), "{request}"),
        401 | 429 => assert!(may_be_ours(host) && !is_key(credential), "{request}"),
        421 => {}
        // Bytes that no field may have.
        400 | 431 => {}
        other => panic!("{other}: {request}"),
    }
    if host.is_ascii() && ["localhost", "chat.example:443", "127.0.0.1:8787", "[::1]"].contains(&host) {
        assert_ne!(status, 421, "{request}");
    }
});
