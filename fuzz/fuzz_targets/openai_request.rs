//! What a client of OpenAI's formats posts is refused in a line, or means something that a session can begin with.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use steerage::{
    command::InputMessage,
    dialect::{
        openai_chat::request::ChatRequest,
        openai_responses::request::{CreateRequest, conversation, input},
    },
    openai::InvalidRequest,
};

fn told(no: &InvalidRequest) {
    assert!(!no.message.contains('\n') && no.message.len() < 4096, "{no}");
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return };
    match ChatRequest::read(body.clone()) {
        Ok(request) => {
            assert!(!request.inputs.is_empty());
            assert_eq!(InputMessage::check(&request.inputs), Ok(()));
            assert_eq!(request.params.check(std::iter::empty()), Ok(()));
            request.tools.iter().for_each(|tool| assert_eq!(tool.check(), Ok(())));
        }
        Err(no) => told(&no),
    }
    let request = match CreateRequest::read(body) {
        Ok(request) => request,
        Err(no) => return told(&no),
    };
    assert_eq!(input(request.items.clone().into()).as_ref(), Ok(&request.items), "read again as it was read");
    assert_eq!(request.params.check(std::iter::empty()), Ok(()));
    match conversation(&request.items) {
        Ok(read) => {
            assert_eq!(InputMessage::check(&read.inputs), Ok(()));
            assert!(read.before_approvals <= read.inputs.len());
        }
        Err(no) => told(&no),
    }
});
