//! The KV cache of finished conversations.

use crate::support::serve::Server;
use serde_json::{Value, json};

/// Answers a conversation, and appends the answer to it. Returns the tokens of the prompt, those in the cache, and those
/// of the answer.
fn turn(server: &Server, talk: &mut Vec<Value>, question: &str) -> (u64, u64, u64) {
    talk.push(json!({"role": "user", "content": question}));
    let body = json!({"messages": talk, "temperature": 0, "max_tokens": 30});
    let response = server.post("/v1/chat/completions", &body.to_string()).json();
    talk.push(json!({"role": "assistant", "content": response["choices"][0]["message"]["content"]}));
    let usage = &response["usage"];
    let count = |value: &Value| value.as_u64().unwrap();
    (
        count(&usage["prompt_tokens"]),
        count(&usage["prompt_tokens_details"]["cached_tokens"]),
        count(&usage["completion_tokens"]),
    )
}

#[test]
fn a_follow_up_turn_does_not_read_the_conversation_again() {
    // One slot, and several conversations in turn.
    let server = Server::start(&["-np", "1", "-c", "1024", "--kv-tokens", "8192"]);
    let questions = ["What is 2 and 3? Tell me everything about it.", "What is the capital of Japan? And of Italy?"];
    let mut talks: Vec<Vec<Value>> =
        (0..6).map(|i| vec![json!({"role": "system", "content": format!("You are number {i}.")})]).collect();
    let first: Vec<_> = talks.iter_mut().map(|talk| turn(&server, talk, questions[0])).collect();
    for (talk, (prompt, _, answer)) in talks.iter_mut().zip(first) {
        let (_, cached, _) = turn(&server, talk, questions[1]);
        // The last token of the answer was not computed, and its end may be tokenized differently.
        assert!(cached + 4 >= prompt + answer, "{cached} of {prompt} + {answer}");
    }
}

#[test]
fn clients_share_a_long_system_message() {
    let server = Server::start(&["-np", "2", "-c", "1024"]);
    let system = "Be brief and kind. ".repeat(20);
    let ask = |question: &str| {
        let mut talk = vec![json!({"role": "system", "content": system})];
        turn(&server, &mut talk, question)
    };
    ask("Hello");
    for question in ["What is 2 and 3?", "Who are you?", "Tell me a story about a dog."] {
        let (prompt, cached, _) = ask(question);
        assert!(cached * 10 > prompt * 7, "{cached} of {prompt}");
    }
}
