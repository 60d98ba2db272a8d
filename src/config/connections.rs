//! Bounds of connections: how many there may be, and how long each may wait for its peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What every HTTP/2 peer may send before it has heard of another window (RFC 9113 §6.9.2): a smaller one only costs it a
/// reset.
const WINDOW_LEAST: u64 = 65_535;

/// Bounds of connections.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Connections at once; the next one is closed. At most four fifths of the files that the process may open.
    pub max: usize,
    /// Connections of one address at once (IPv6: of one /64). Loopback has no such bound: a proxy in front comes from
    /// there, and so does everybody behind it.
    pub per_address_max: usize,
    /// Requests of one HTTP/2 connection at once.
    pub streams_max: u32,
    /// Seconds until the first bytes: an HTTP/1.1 request line begins, or an HTTP/2 preface is whole.
    pub first_byte_timeout_s: u64,
    /// Seconds that a TLS handshake may take, where the certificate is the server's own.
    pub tls_handshake_timeout_s: u64,
    /// Seconds until a request's head is whole, counted from the response before it: also the longest idle keep-alive.
    pub header_timeout_s: u64,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Bytes of a request's header fields, all together.
    pub header_bytes_max: usize,
    /// Seconds until a request's body is whole.
    pub body_timeout_s: u64,
    /// Seconds of the longest pause within a body.
    pub body_idle_timeout_s: u64,
    /// Seconds that an HTTP/2 connection stays without a request.
    pub idle_timeout_s: u64,
    /// Seconds between two pings of an HTTP/2 peer.
    pub ping_interval_s: u64,
    /// Seconds that it may take to answer one.
    pub ping_timeout_s: u64,
    /// Bytes that an HTTP/2 peer may send on one stream before they are read.
    pub stream_window_bytes: u32,
    /// Bytes that it may send on all of them.
    pub connection_window_bytes: u32,
    /// Seconds that a peer may take nothing of what waits for it.
    pub stall_timeout_s: u64,
    /// Seconds that the kernel waits for a peer to acknowledge what was sent (TCP_USER_TIMEOUT, Linux). A quiet stream
    /// sends something every 10 s, and the two together stay below half a minute.
    pub unacknowledged_max_s: u64,
    /// Seconds of silence after which the kernel asks a peer whether it is there (TCP keep-alive). It does not while
    /// something is unacknowledged.
    pub keepalive_s: u64,
    /// Seconds between two of its questions.
    pub keepalive_interval_s: u64,
    /// Questions without an answer, after which the peer has gone.
    pub keepalive_probes_max: u32,
    /// Bytes that the kernel holds for a peer that does not read (SO_SNDBUF; Linux accounts twice as many).
    pub send_buffer_bytes: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max: 10_000,
            per_address_max: 100,
            streams_max: 100,
            first_byte_timeout_s: 5,
            tls_handshake_timeout_s: 5,
            header_timeout_s: 10,
            headers_max: 64,
            header_bytes_max: 16 * 1024,
            body_timeout_s: 30,
            body_idle_timeout_s: 10,
            idle_timeout_s: 60,
            ping_interval_s: 15,
            ping_timeout_s: 10,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 256 * 1024,
            stall_timeout_s: 15,
            unacknowledged_max_s: 15,
            keepalive_s: 30,
            keepalive_interval_s: 10,
            keepalive_probes_max: 3,
            send_buffer_bytes: 64 * 1024,
        }
    }
}

impl Connections {
    /// Why these bounds cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        let at_least_one = [
            ("max", self.max as u64),
            ("per_address_max", self.per_address_max as u64),
            ("streams_max", self.streams_max.into()),
            ("first_byte_timeout_s", self.first_byte_timeout_s),
            ("tls_handshake_timeout_s", self.tls_handshake_timeout_s),
            ("header_timeout_s", self.header_timeout_s),
            ("body_timeout_s", self.body_timeout_s),
            ("body_idle_timeout_s", self.body_idle_timeout_s),
            ("idle_timeout_s", self.idle_timeout_s),
            ("ping_interval_s", self.ping_interval_s),
            ("ping_timeout_s", self.ping_timeout_s),
            ("stall_timeout_s", self.stall_timeout_s),
            ("unacknowledged_max_s", self.unacknowledged_max_s),
            ("keepalive_s", self.keepalive_s),
            ("keepalive_interval_s", self.keepalive_interval_s),
            ("keepalive_probes_max", self.keepalive_probes_max.into()),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("connections.{key} is at least 1"));
        }
        let ranges = [
            // With the heartbeat of 10 s a vanished peer is found within half a minute.
            ("unacknowledged_max_s", self.unacknowledged_max_s, 1, 19),
            // A browser sends some twenty.
            ("headers_max", self.headers_max as u64, 32, 1_000),
            // The buffer that a head is read into ends it.
            ("header_bytes_max", self.header_bytes_max as u64, 8 * 1024, 64 * 1024),
            ("stream_window_bytes", self.stream_window_bytes.into(), WINDOW_LEAST, 16 * 1024 * 1024),
            (
                "connection_window_bytes",
                self.connection_window_bytes.into(),
                self.stream_window_bytes.into(),
                256 * 1024 * 1024,
            ),
            ("send_buffer_bytes", self.send_buffer_bytes as u64, 4 * 1024, 16 * 1024 * 1024),
        ];
        match ranges.iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((key, _, least, most)) => Err(format!("connections.{key} is {least} to {most}")),
            None => Ok(()),
        }
    }

    /// How long a peer may take for its first bytes.
    pub fn first_byte_timeout(&self) -> Duration {
        Duration::from_secs(self.first_byte_timeout_s)
    }

    /// How long a peer may take to shake hands.
    pub fn tls_handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.tls_handshake_timeout_s)
    }

    /// How long a peer may take for a request's head.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_s)
    }

    /// How long an HTTP/2 connection stays without a request.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    /// How often an HTTP/2 peer is pinged, and how long it may take to answer.
    pub fn ping(&self) -> (Duration, Duration) {
        (Duration::from_secs(self.ping_interval_s), Duration::from_secs(self.ping_timeout_s))
    }

    /// How long a peer may take nothing.
    pub fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout_s)
    }

    /// How long what was sent may stay unacknowledged.
    pub fn unacknowledged_max(&self) -> Duration {
        Duration::from_secs(self.unacknowledged_max_s)
    }

    /// After how long a silent peer is asked, how often, and how many times.
    pub fn keepalive(&self) -> (Duration, Duration, u32) {
        (
            Duration::from_secs(self.keepalive_s),
            Duration::from_secs(self.keepalive_interval_s),
            self.keepalive_probes_max,
        )
    }
}
