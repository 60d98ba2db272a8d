//! What a chat client posts is refused in a line, or means something that a session can be asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::dialect::ai_sdk::request::{HISTORY_MESSAGES_MAX, Intent, Submission};

fuzz_target!(|input: &[u8]| {
    let Ok(submission) = serde_json::from_slice::<Submission>(input) else { return };
    match submission.intent() {
        Ok(Intent::Say { content, .. }) => assert!(!content.trim().is_empty()),
        Ok(Intent::Regenerate { history, .. }) => {
            assert!(history.is_none_or(|history| history.len() <= HISTORY_MESSAGES_MAX));
        }
        Ok(Intent::FollowUp { calls, answers, .. }) => assert!(answers.len() <= calls.len()),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
