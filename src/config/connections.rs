//! Bounds of connections: how many there may be, and how long each may wait for its peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// Seconds until a request's head is whole, counted from the response before it: also the longest idle keep-alive.
    pub header_timeout_s: u64,
    /// Seconds that a peer may take nothing of what waits for it.
    pub stall_timeout_s: u64,
    /// Seconds that the kernel waits for a peer to acknowledge what was sent (TCP_USER_TIMEOUT, Linux). A quiet stream
    /// sends something every 10 s, and the two together stay below half a minute.
    pub unacknowledged_max_s: u64,
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
            header_timeout_s: 10,
            stall_timeout_s: 15,
            unacknowledged_max_s: 15,
            send_buffer_bytes: 64 * 1024,
        }
    }
}

impl Connections {
    /// Why these bounds cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self {
            max,
            per_address_max,
            streams_max,
            first_byte_timeout_s,
            header_timeout_s,
            stall_timeout_s,
            unacknowledged_max_s,
            send_buffer_bytes,
        } = *self;
        let at_least_one = [
            ("max", max as u64),
            ("per_address_max", per_address_max as u64),
            ("streams_max", streams_max.into()),
            ("first_byte_timeout_s", first_byte_timeout_s),
            ("header_timeout_s", header_timeout_s),
            ("stall_timeout_s", stall_timeout_s),
            ("unacknowledged_max_s", unacknowledged_max_s),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("connections.{key} is at least 1"));
        }
        match send_buffer_bytes {
            4_096..=16_777_216 => Ok(()),
            _ => Err("connections.send_buffer_bytes is 4096 to 16777216".into()),
        }
    }

    /// How long a peer may take for its first bytes.
    pub fn first_byte_timeout(&self) -> Duration {
        Duration::from_secs(self.first_byte_timeout_s)
    }

    /// How long a peer may take for a request's head.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_s)
    }

    /// How long a peer may take nothing.
    pub fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout_s)
    }

    /// How long what was sent may stay unacknowledged.
    pub fn unacknowledged_max(&self) -> Duration {
        Duration::from_secs(self.unacknowledged_max_s)
    }
}
