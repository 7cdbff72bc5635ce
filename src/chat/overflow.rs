//! Rules for a conversation that does not fit into the context: whole turns are dropped, the oldest first. No I/O;
//! `conversation.rs` renders the prompts and decides.

use crate::prompt::{Message, Role};

/// What to do when a conversation does not fit into the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overflow {
    /// Refuse the message.
    Error,
    /// Drop whole turns, the oldest first; the system message is kept.
    DropOldest,
}

/// Returns the tokens of the context reserved for an answer: its maximum length, but at most a quarter of the context.
pub(super) fn reserved_for_answer(max_tokens: u32, n_ctx: usize) -> usize {
    (max_tokens as usize).min(n_ctx / 4)
}

/// Returns the tokens freed by each drop in addition to the needed ones. A drop shifts positions, so everything after
/// the system message is processed again. The extra tokens delay the next drop by several turns.
pub(super) fn extra_space(n_ctx: usize) -> usize {
    n_ctx / 4
}

/// Returns the messages to send: the system message, and all messages from `start` on.
pub(super) fn messages_to_send(messages: &[Message], start: usize) -> Vec<Message> {
    let system = messages.iter().take(start).filter(|message| message.role == Role::System);
    system.chain(messages.iter().skip(start)).cloned().collect()
}

/// Returns the possible later starts: the indices of all user messages from `start` on, except the first one.
pub(super) fn later_starts(messages: &[Message], start: usize) -> Vec<usize> {
    let first = messages.iter().skip(start).position(|message| message.role == Role::User).map(|at| start + at);
    let first = first.unwrap_or(messages.len());
    (first + 1..messages.len()).filter(|at| messages[*at].role == Role::User).collect()
}

#[cfg(test)]
mod tests {
    use super::{later_starts, messages_to_send, reserved_for_answer};
    use crate::prompt::{Message, Role};

    fn conversation() -> Vec<Message> {
        let turns = ["a", "b", "c"].into_iter();
        let turns = turns.flat_map(|name| [Message::new(Role::User, name), Message::new(Role::Assistant, name)]);
        let mut all = vec![Message::new(Role::System, "s")];
        all.extend(turns);
        all.push(Message::new(Role::User, "d"));
        all
    }

    #[test]
    fn whole_turns_are_dropped_and_the_system_message_is_kept() {
        let all = conversation();
        assert_eq!(later_starts(&all, 0), [3, 5, 7]);
        assert_eq!(later_starts(&all, 3), [5, 7]);
        assert_eq!(later_starts(&all, 7), Vec::<usize>::new());
        let left = messages_to_send(&all, 5);
        assert_eq!(left.iter().map(|m| m.content.as_str()).collect::<String>(), "sccd");
        assert_eq!(messages_to_send(&all, 0), all);
        assert_eq!(messages_to_send(&all[1..], 2)[0].content, "b");
        assert_eq!(later_starts(&[], 0), Vec::<usize>::new());
    }

    #[test]
    fn at_most_a_quarter_is_reserved_for_an_answer() {
        assert_eq!(reserved_for_answer(256, 4096), 256);
        assert_eq!(reserved_for_answer(u32::MAX, 4096), 1024);
    }
}
