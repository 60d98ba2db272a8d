//! Cancel is a barrier (R7): once it is answered, the upstream is closed and nothing of the run follows, whatever the
//! run was doing.

use std::time::Duration;

mod barrier;
mod cases;
mod puppet;
mod upstream;

/// Longest that an upstream may wait for the end of its connection. The real figure is printed; this is the alarm.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
