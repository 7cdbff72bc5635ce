//! Makes the decoder's request from a prompt and its parameters.

use super::options::{Calls, RequestOptions};
use super::prompt_input::PromptInput;
use crate::decode::{Request, turn_markers};
use crate::engine::{Sampling, Token};
use crate::error::{Code, Failure};
use crate::prompt::Prompts;

/// Returns the decoder's request for `prompt`, and a note for the user. `sampling` comes from [`sampling`]. Refuses a
/// prompt that is certainly too long for a context of `n_ctx` tokens without tokenizing it.
pub(crate) fn decode_request(
    prompt: &PromptInput,
    options: &RequestOptions,
    sampling: Sampling,
    max_tokens: u32,
    prompts: &Prompts<'_>,
    n_ctx: usize,
) -> Result<(Request, Option<&'static str>), Failure> {
    let n_messages = if let PromptInput::Chat(messages) = prompt { messages.len() } else { 0 };
    let n_least = prompts.at_least(prompt.len()).max(n_messages);
    if n_least >= n_ctx {
        let what =
            format!("the prompt has at least {n_least} tokens; the context is {n_ctx} tokens, including the answer");
        return Err(Failure::input(Code::ContextLength, what, "shorten the prompt, or give a larger -c"));
    }
    let (ids, mut stop, notice) = match prompt {
        PromptInput::Chat(messages) => {
            let prompt = prompts.render(messages, true)?;
            // With a grammar, a marker can only be text within the answer, unless it allows any text.
            let any_text = options.grammar.is_none() || options.calls == Some(Calls::AfterText);
            let markers = if any_text { turn_markers(prompts.is_tulu()) } else { Vec::new() };
            (prompt.ids, markers, prompt.notice)
        }
        PromptInput::Text(text) => {
            let (ids, notice) = prompts.rendered(text, options.add_bos.unwrap_or(true))?;
            (ids, Vec::new(), notice)
        }
        PromptInput::Ids(ids) => (prompts.checked(ids)?, Vec::new(), None),
    };
    stop.extend(options.stop.iter().cloned());
    let biased: Vec<Token> = options.logit_bias.iter().map(|(token, _)| *token).collect();
    prompts
        .checked(&biased)
        .map_err(|failure| Failure { what: failure.what.replace("the prompt has", "logit_bias has"), ..failure })?;
    let grammar = options.grammar.as_deref().map(|text| prompts.grammar(text)).transpose()?;
    let request = Request {
        ids,
        sampling: sampling.check()?,
        logit_bias: options.logit_bias.clone(),
        grammar,
        max_tokens: options.max_tokens.unwrap_or(max_tokens),
        stop,
        logprobs: options.logprobs,
    };
    Ok((request, notice))
}

/// Returns the sampling parameters of a request: its own, otherwise those of `default`.
pub(crate) fn sampling(options: &RequestOptions, default: &Sampling, seed: u32) -> Sampling {
    let mut sampling = Sampling {
        temperature: options.temperature.unwrap_or(default.temperature),
        top_k: options.top_k.unwrap_or(default.top_k),
        top_p: options.top_p.unwrap_or(default.top_p),
        min_p: options.min_p.unwrap_or(default.min_p),
        repeat_penalty: options.repeat_penalty.unwrap_or(default.repeat_penalty),
        repeat_last_n: options.repeat_last_n.unwrap_or(default.repeat_last_n),
        presence_penalty: options.presence_penalty.unwrap_or(default.presence_penalty),
        frequency_penalty: options.frequency_penalty.unwrap_or(default.frequency_penalty),
        seed,
    };
    if let Some(penalty) = options.repetition_penalty {
        // vLLM's penalty applies to all tokens of the prompt and the answer.
        (sampling.repeat_penalty, sampling.repeat_last_n) = (penalty, Sampling::REPEAT_LAST_N_MAX);
    }
    sampling
}
