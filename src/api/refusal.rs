//! The reason why a request is refused.

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
}

impl From<Refusal> for (&'static str, String) {
    /// Returns the code and the message, for a failed record.
    fn from(refusal: Refusal) -> Self {
        (refusal.code, refusal.message)
    }
}
