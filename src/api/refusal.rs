//! The reason why a request is refused.

use crate::error::{Code, Failure};

/// A request that cannot be answered as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Stable code, lower case.
    pub(crate) code: &'static str,
    /// The field at fault, if there is one.
    pub(crate) param: Option<String>,
    /// Message for the user.
    pub(crate) message: String,
}

impl Refusal {
    /// Creates a refusal because of the field `param`, which `message` names or makes clear.
    pub(crate) fn new(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self { code, param: Some(param.to_owned()), message: message.into() }
    }

    /// Creates a refusal with the message "PARAM" WHY.
    pub(crate) fn of(code: &'static str, param: &str, why: &str) -> Self {
        Self::new(code, param, format!("\"{param}\" {why}"))
    }

    /// Creates the refusal of a prompt or a parameter that cannot be used. `largest`: the context is the one that the
    /// model was trained for, so no flag can make it larger.
    pub(crate) fn from_failure(failure: &Failure, largest: bool) -> Self {
        let (code, fix) = match failure.code {
            Code::ContextLength if largest => ("context_length_exceeded", "shorten the prompt"),
            Code::ContextLength => ("context_length_exceeded", "shorten the prompt, or give a larger -c"),
            Code::Sampling => ("invalid_parameter", failure.fix.as_str()),
            _ => ("invalid_prompt", failure.fix.as_str()),
        };
        Self { code, param: None, message: format!("{}; {fix}", failure.what) }
    }
}

impl From<Refusal> for (&'static str, String) {
    /// Returns the code and the message, for a failed record.
    fn from(refusal: Refusal) -> Self {
        (refusal.code, refusal.message)
    }
}
