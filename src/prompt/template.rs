//! Jinja chat templates with the settings of Transformers, limited in size, time and output. Handles text only; special
//! tokens are handled in `render.rs` and `tokenize.rs`.

use super::dialect::to_minijinja;
use super::jinja_functions;
use super::message::Message;
use crate::error::{Code, Failure};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::OnceLock;

/// The name of the template in errors.
const NAME: &str = "chat_template";

/// Tulu's own template, with the system branch of the training format, which the Hub's copy lacks.
const TULU: &str = include_str!("tulu.jinja");
/// Limit on the size of a template, larger than any published one: a template from a file is not trusted.
const MAX_SOURCE: usize = 64 << 10;
/// Limit on the instructions of a rendering. A thousand messages with a long template use a fifth of it.
const FUEL: u64 = 1_000_000;
/// Limit on the growth of content: a template may repeat it a few times.
const MAX_GROWTH: usize = 4;

/// Texts of special tokens, under the names that templates of Transformers use.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTokensMap {
    /// `<s>`.
    pub(crate) bos: String,
    /// `</s>`.
    pub(crate) eos: String,
    /// `unk_token`, `pad_token` and others, if the vocabulary has them.
    pub(crate) others: Vec<(&'static str, String)>,
    /// Special tokens without a name of their own.
    pub(crate) additional: Vec<String>,
}

impl SpecialTokensMap {
    /// Returns the variables of special tokens in a template.
    fn variables(&self) -> BTreeMap<&'static str, Value> {
        let mut all = BTreeMap::from([
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ]);
        all.extend(self.others.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
        if !self.additional.is_empty() {
            all.insert("additional_special_tokens", Value::from(self.additional.clone()));
        }
        all
    }
}

/// A compiled chat template.
pub(crate) struct Template {
    env: Environment<'static>,
    source: String,
    specials: SpecialTokensMap,
}

impl Template {
    /// Compiles Tulu's own template.
    pub(crate) fn tulu(specials: SpecialTokensMap) -> Result<Self, Failure> {
        Self::new(TULU, specials)
    }

    /// Compiles the template of a model.
    ///
    /// # Errors
    /// `TEMPLATE`.
    pub(crate) fn new(source: &str, specials: SpecialTokensMap) -> Result<Self, Failure> {
        if source.len() > MAX_SOURCE {
            let what = format!("the chat template has {} bytes; the limit is {MAX_SOURCE}", source.len());
            return Err(Failure::input(Code::Template, what, "use a model with an ordinary chat template"));
        }
        let mut env = environment()?.clone();
        env.add_template_owned(NAME, to_minijinja(source)).map_err(|err| failure(&err))?;
        Ok(Self { env, source: source.to_owned(), specials })
    }

    /// Returns the text of the template.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation, without the BOS that the tokenizer adds.
    ///
    /// # Errors
    /// `TEMPLATE`, including an error that the template itself raises.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Failure> {
        let content: usize = messages.iter().map(|m| m.content.len()).sum();
        let mut out =
            Bounded { bytes: Vec::new(), remaining: content.saturating_mul(MAX_GROWTH).saturating_add(MAX_SOURCE) };
        let said: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role.name(), content => m.content.as_str() }).collect();
        let mut variables = self.specials.variables();
        // Transformers always defines tools and documents; they are None when absent.
        variables.extend([
            ("messages", Value::from(said)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ]);
        let variables = Value::from(variables);
        let template = self.env.get_template(NAME).map_err(|err| failure(&err))?;
        template.render_captured_to(variables, &mut out).map_err(|err| failure(&err))?;
        String::from_utf8(out.bytes).map_err(|err| {
            Failure::engine(Code::Template, format!("the rendered prompt is not UTF-8: {err}"), "report this")
        })
    }
}

/// Returns the environment with the settings of Transformers. Every template gets a cheap copy of it.
fn environment() -> Result<&'static Environment<'static>, Failure> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    if let Some(env) = ENVIRONMENT.get() {
        return Ok(env);
    }
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.map_err(|err| failure(&err))?);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    jinja_functions::add_to(&mut env);
    Ok(ENVIRONMENT.get_or_init(|| env))
}

/// Creates a failure from minijinja's error and its causes, because the error alone is often only "could not render".
fn failure(err: &Error) -> Failure {
    let mut what = format!("the chat template: {err}");
    let (mut kind, mut cause) = (err.kind(), std::error::Error::source(err));
    while let Some(err) = cause {
        what = format!("{what}: {err}");
        kind = err.downcast_ref::<Error>().map_or(kind, Error::kind);
        cause = err.source();
    }
    let fix = match kind {
        // `raise_exception`, or an operation on a missing field.
        ErrorKind::InvalidOperation | ErrorKind::UndefinedError => {
            "check the roles and their order, or the model's chat template"
        }
        _ => "fix the model's chat template",
    };
    Failure::input(Code::Template, what, fix)
}

/// Output with a size limit. Fuel limits the number of steps of a template, but not the output of each step.
struct Bounded {
    bytes: Vec<u8>,
    remaining: usize,
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.remaining =
            self.remaining.checked_sub(buf.len()).ok_or_else(|| io::Error::other("the output grows without bound"))?;
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SOURCE, SpecialTokensMap, Template};
    use crate::prompt::{Message, Role};

    fn specials() -> SpecialTokensMap {
        SpecialTokensMap {
            bos: "<s>".into(),
            eos: "</s>".into(),
            others: vec![("unk_token", "<unk>".into())],
            additional: vec!["<|x|>".into()],
        }
    }

    fn render(source: &str) -> Result<String, String> {
        let messages = [Message::new(Role::User, " Hello\n"), Message::new(Role::Assistant, "Hi!")];
        let template = Template::new(source, specials()).map_err(|f| f.to_string())?;
        template.render(&messages, true).map_err(|f| f.to_string())
    }

    #[test]
    fn the_tulu_template_is_exact() {
        let template = Template::tulu(specials()).unwrap();
        let talk = [
            Message::new(Role::System, "Be brief.\n"),
            Message::new(Role::User, "Hello"),
            Message::new(Role::Assistant, " Hi!"),
            Message::new(Role::User, ""),
        ];
        let text = "<|system|>\nBe brief.\n\n<|user|>\nHello\n<|assistant|>\n Hi!</s>\n<|user|>\n\n";
        assert_eq!(template.render(&talk, false).unwrap(), text);
        assert_eq!(template.render(&talk, true).unwrap(), format!("{text}<|assistant|>\n"));
    }

    #[test]
    fn features_of_transformers_work() {
        assert_eq!(
            render("{{ messages[0]['content'].strip() }}|{{ messages[0].content|trim }}").unwrap(),
            "Hello|Hello"
        );
        assert_eq!(render("{% for m in messages %}{% break %}{% endfor %}{{ bos_token }}").unwrap(), "<s>");
        assert_eq!(render("  {% if true %}\nx\n  {% endif %}\n").unwrap(), "x\n");
        assert_eq!(render("{{ messages[1].content.split('!')[0].startswith('H') }}").unwrap(), "True");
        assert!(render("{{ raise_exception('no such thing') }}").unwrap_err().contains("no such thing"));
    }

    #[test]
    fn special_tokens_have_their_names() {
        let source =
            "{{ bos_token }}{{ unk_token }}{{ pad_token }}{{ additional_special_tokens[0] }}{{ pad_token is defined }}";
        assert_eq!(render(source).unwrap(), "<s><unk><|x|>False");
        assert_eq!(render("{{ tools is defined }}{{ tools is none }}{{ documents is none }}").unwrap(), "TrueTrueTrue");
    }

    #[test]
    fn errors_have_fitting_advice() {
        assert!(render("{{ raise_exception('no') }}").unwrap_err().contains("check the roles"));
        for source in ["{{ no_such_function() }}", "{{ 1|no_such_filter }}", "{% nothing %}", "{% for %}"] {
            let error = render(source).unwrap_err();
            assert!(error.contains("fix the model's chat template") && error.contains("chat_template:1"), "{error}");
        }
    }

    #[test]
    fn a_hostile_template_is_stopped() {
        assert!(render("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}").is_err());
        assert!(render("{{ 'x' * 50000000 }}").unwrap_err().contains("without bound"));
        assert!(render("{% include '/etc/passwd' %}").is_err());
        assert!(render(&" ".repeat(MAX_SOURCE + 1)).unwrap_err().contains("the limit is"));
        assert!(render("{% for %}").unwrap_err().contains("error[TEMPLATE]"));
    }
}
