//! What happens when a conversation outgrows its window: whole oldest turns go, never part of one. Pure; the prompts
//! themselves are rendered by the caller.

use crate::prompt::{Message, Role};

/// What to do when a conversation outgrows its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overflow {
    /// Refuse the message.
    Error,
    /// Leave out whole turns, the oldest first; the system message stays.
    DropOldest,
}

/// The part of the window that is kept free for an answer: as long as it may become, but no more than a quarter.
pub(super) fn reserved_for_answer(max_tokens: u32, n_ctx: usize) -> usize {
    (max_tokens as usize).min(n_ctx / 4)
}

/// The part of the window that dropping makes free besides. After a drop everything behind the system message is at other
/// positions and is read again; were only as much dropped as needed, the next message would do it again.
pub(super) fn extra_space(n_ctx: usize) -> usize {
    n_ctx / 4
}

/// The messages that the model reads when those before `start` are left out: the system message, and all from `start` on.
pub(super) fn messages_to_send(messages: &[Message], start: usize) -> Vec<Message> {
    let system = messages.iter().take(start).filter(|message| message.role == Role::System);
    system.chain(messages.iter().skip(start)).cloned().collect()
}

/// Where the turns begin that could come first instead of the one that does: every message of the user after `start`.
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
    fn turns_go_whole_and_the_system_message_stays() {
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
    fn an_answer_may_claim_a_quarter_of_the_window() {
        assert_eq!(reserved_for_answer(256, 4096), 256);
        assert_eq!(reserved_for_answer(u32::MAX, 4096), 1024);
    }
}
