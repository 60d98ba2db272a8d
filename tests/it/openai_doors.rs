//! OpenAI's doors at the outer boundary: completions, responses and their socket, with clients written without the server.

mod approvals;
mod cancels;
mod chains;
mod client;
mod completions;
mod conversations;
mod keys;
mod limits;
mod losses;
mod replay;
mod responses;
mod socket;
mod steers;
