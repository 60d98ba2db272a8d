//! What is said to the model: the input that a session begins with, and every later one.

use serde_json::{Map, Value};

use super::state::{Out, State};
use crate::{
    command::InputMessage,
    env::Millis,
    event::{Event, Trigger},
    id::{CommandId, MessageId},
    spec::Role,
};

impl State {
    pub(super) fn begin(
        &mut self,
        inputs: Vec<InputMessage>,
        metadata: Map<String, Value>,
        now: Millis,
        out: &mut Out,
    ) {
        for input in inputs {
            self.add_message(None, input, None, now, out);
        }
        self.start_run(Trigger::Send, metadata, now, out);
        self.start_step(now, out);
    }

    /// Something is said. The name that a client gave it is kept, unless another message of the conversation has it.
    pub(super) fn add_input(
        &mut self,
        message_id: Option<MessageId>,
        role: Role,
        content: String,
        command_id: Option<CommandId>,
        now: Millis,
        out: &mut Out,
    ) {
        self.add_message(message_id, InputMessage::text(role, content), command_id, now, out);
    }

    /// The same of a message with everything that may be in one.
    fn add_message(
        &mut self,
        message_id: Option<MessageId>,
        message: InputMessage,
        command_id: Option<CommandId>,
        now: Millis,
        out: &mut Out,
    ) {
        let InputMessage { role, content, reasoning, calls } = message;
        let conversation = &self.fold.conversation;
        let message_id = message_id.filter(|id| !conversation.has(id));
        let message_id = message_id.unwrap_or_else(|| self.message_name());
        self.emit(Event::InputAdded { message_id, role, content, command_id, reasoning, calls }, now, out);
    }
}
