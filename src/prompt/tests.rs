//! Golden prompts: texts and segments, which need no vocabulary.

use super::render::{Rendered, Templates};
use super::template::{SpecialTokensMap, Template};
use super::tokenize::{Segment, SpecialToken};
use super::{Message, Role};
use crate::engine::Token;

/// The template of allenai/tulu-2-13b and its family on the Hub, byte for byte.
const HUB: &str = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";

fn specials() -> SpecialTokensMap {
    SpecialTokensMap { bos: "<s>".into(), eos: "</s>".into(), ..SpecialTokensMap::default() }
}

fn controls() -> Vec<SpecialToken> {
    let list = [("<unk>", 0), ("</s>", 2), ("<s>", 1)];
    list.map(|(text, id)| SpecialToken { text: text.into(), id: Token::new(id) }).into()
}

fn render(template: &str, messages: &[Message]) -> Result<Rendered, String> {
    let own = Some(Template::new(template, specials()).map_err(|f| f.to_string())?);
    let templates = Templates { own, tulu: Template::tulu(specials()).map_err(|f| f.to_string())? };
    templates.render(messages, true, &controls()).map_err(|f| f.to_string())
}

fn text(text: &str) -> Segment {
    Segment::Text(text.into())
}

fn control(id: i32) -> Segment {
    Segment::Special(Token::new(id))
}

fn user(content: &str) -> Message {
    Message::new(Role::User, content)
}

fn assistant(content: &str) -> Message {
    Message::new(Role::Assistant, content)
}

fn system(content: &str) -> Message {
    Message::new(Role::System, content)
}

#[test]
fn the_hub_template_is_split_at_its_own_control_tokens() {
    let got = render(HUB, &[user("Hello"), assistant("Hi!"), user("Bye")]).unwrap();
    assert_eq!(got.text, "<|user|>\nHello\n<|assistant|>\nHi!</s>\n<|user|>\nBye\n<|assistant|>\n");
    assert_eq!(
        got.segments,
        [text("<|user|>\nHello\n<|assistant|>\nHi!"), control(2), text("\n<|user|>\nBye\n<|assistant|>\n")]
    );
    assert!(!got.switched);
}

#[test]
fn content_cannot_produce_control_tokens() {
    let got = render(HUB, &[user("a</s>b<s>"), assistant("<unk></s")]).unwrap();
    assert_eq!(
        got.segments,
        [text("<|user|>\na</s>b<s>\n<|assistant|>\n<unk></s"), control(2), text("\n<|assistant|>\n")]
    );
    // Halves of a special token written by the template do not become one together with content.
    let got = render("<{{ messages[0].content }}></s>", &[user("/s")]).unwrap();
    assert_eq!(got.segments, [text("</s>"), control(2)]);
    // A template may contain the text of its special tokens.
    let got = render("<s>{{ messages[0].content }}</s>", &[user("</s>")]).unwrap();
    assert_eq!(got.segments, [control(1), text("</s>"), control(2)]);
}

#[test]
fn masks_do_not_collide_with_content() {
    let private: String = ('\u{F0000}'..='\u{F00FF}').collect();
    let got = render(HUB, &[user(&private)]).unwrap();
    assert_eq!(got.segments, [text(&format!("<|user|>\n{private}\n<|assistant|>\n"))]);
    let trimming = "{{ messages[0].content.strip() }}{{ eos_token }}";
    assert_eq!(render(trimming, &[user("  </s>\n")]).unwrap().segments, [text("</s>"), control(2)]);
    let reading = "{% if '/s' in messages[0].content %}{{ eos_token }}{% endif %}{{ messages[0].content }}";
    assert!(render(reading, &[user("a</s>")]).unwrap_err().contains("TEMPLATE_READS_TEXT"));
}

#[test]
fn a_system_message_is_never_silently_dropped() {
    let talk = [system("Be brief."), user("Hello")];
    let got = render(HUB, &talk).unwrap();
    assert_eq!(got.text, "<|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\n");
    assert!(got.switched);
    assert!(render(HUB, &talk[..1]).unwrap().switched);

    let refusing = format!("{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no') }}}}{{% endif %}}{HUB}");
    assert!(render(&refusing, &talk).unwrap().switched);

    let other = "{% for m in messages if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endfor %}";
    assert!(render(other, &talk).unwrap_err().contains("error[TEMPLATE_DROPS_MESSAGE]"));
    // A template's own error is reported as such, whatever the roles are.
    for talk in [&talk[..], &talk[1..]] {
        let error = render("{{ messages[0].content }}{{ no_such_function() }}", talk).unwrap_err();
        assert!(error.contains("error[TEMPLATE]") && error.contains("no_such_function"), "{error}");
    }
    let strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages[0].content }}";
    assert!(render(strict, &talk).unwrap_err().contains("error[TEMPLATE]"));
    assert!(render(other, &[user("a"), assistant("b")]).unwrap_err().contains("drops message 2"));
}

#[test]
fn tojson_of_a_message_has_no_control_token() {
    let got = render("{{ messages[0].content|tojson }}{{ eos_token }}", &[user("a < b & 'c' </s> \"d\"\n")]).unwrap();
    assert_eq!(got.segments, [text("\"a < b & 'c' </s> \\\"d\\\"\\n\""), control(2)]);
}

#[test]
fn ascii_escapes_do_not_hide_masks() {
    let got =
        render("{{ messages[0].content|tojson(ensure_ascii=true) }}{{ eos_token }}", &[user("é < </s>")]).unwrap();
    assert_eq!(got.segments, [text("\"\\u00e9 < </s>\""), control(2)]);
}

#[test]
fn generated_ids_are_kept_where_they_can_be() {
    let ids = vec![Token::new(7), Token::new(8)];
    let talk = [user("Hello"), Message::answer(" Hi</s>!", ids.clone()), user("Bye")];
    let got = render(HUB, &talk).unwrap();
    assert_eq!(got.text, "<|user|>\nHello\n<|assistant|>\n Hi</s>!</s>\n<|user|>\nBye\n<|assistant|>\n");
    assert_eq!(
        got.segments,
        [
            text("<|user|>\nHello\n<|assistant|>\n"),
            Segment::Generated(ids),
            control(2),
            text("\n<|user|>\nBye\n<|assistant|>\n"),
        ]
    );
    let trimming = "{% for m in messages %}{{ m.content.strip() }}{{ eos_token }}{% endfor %}";
    assert_eq!(render(trimming, &talk).unwrap().segments[2], text("Hi</s>!"));
    let unclosed = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    assert_eq!(render(unclosed, &talk).unwrap().segments.len(), 1);
}
