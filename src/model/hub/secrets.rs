//! Removes secrets from messages. A server may send a secret back: as it is, percent-encoded, in base64, or truncated
//! anywhere.

use std::fmt;

/// Shorter fragments of a secret are not hidden: they occur in ordinary words.
const MIN_FRAGMENT: usize = 8;

/// Shorter secrets are not hidden: they would match too much of every message.
const MIN_SECRET: usize = 4;

/// Replaces a secret in messages.
const PLACEHOLDER: &str = "(token)";

/// Secrets in all forms that are searched for, in lower case. They cannot be printed.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Secrets {
    /// Adds a secret in all its forms.
    pub(super) fn add(&mut self, secret: &str) {
        if secret.len() < MIN_SECRET {
            return;
        }
        self.0.push(secret.to_ascii_lowercase().into_bytes());
        for shift in 0..3 {
            // the base64 of a longer text contains only those characters that depend on the secret alone
            let mut bytes = vec![0; shift];
            bytes.extend_from_slice(secret.as_bytes());
            let (first, last) = ((shift * 8).div_ceil(6), bytes.len() * 8 / 6);
            for urlsafe in [false, true] {
                let text = base64(&bytes, urlsafe).to_ascii_lowercase();
                let form = text.as_bytes().get(first..last).unwrap_or_default();
                if form.len() >= MIN_FRAGMENT {
                    self.0.push(form.to_owned());
                }
            }
        }
    }

    /// Returns whether `text` contains a whole secret, in any form.
    pub(super) fn are_contained_in(&self, text: &str) -> bool {
        let plain: Vec<u8> = decoded(text).into_iter().map(|(byte, _)| byte.to_ascii_lowercase()).collect();
        self.0.iter().any(|form| plain.windows(form.len()).any(|part| part == form))
    }

    /// Replaces the secrets and fragments of them in `text`.
    pub(super) fn hide(&self, text: &str) -> String {
        let read = decoded(text);
        let mut hidden = vec![false; text.len()];
        for form in &self.0 {
            let least = form.len().min(MIN_FRAGMENT);
            for start in 0..read.len() {
                let longest = (0..form.len()).map(|at| common_prefix(&read[start..], &form[at..])).max().unwrap_or(0);
                if longest >= least {
                    for (_, (from, to)) in read.iter().skip(start).take(longest) {
                        hidden[*from..*to].fill(true);
                    }
                }
            }
        }
        let mut out = String::new();
        let mut within = false;
        for (at, c) in text.char_indices() {
            let hide = hidden[at];
            if hide && !within {
                out.push_str(PLACEHOLDER);
            } else if !hide {
                out.push(c);
            }
            within = hide;
        }
        out
    }
}

/// Returns the length of the common prefix.
fn common_prefix(read: &[(u8, (usize, usize))], form: &[u8]) -> usize {
    read.iter().zip(form).take_while(|((a, _), b)| a.to_ascii_lowercase() == **b).count()
}

/// Percent-decodes `text`, repeatedly if it was encoded several times. Returns each byte with its range in `text`.
fn decoded(text: &str) -> Vec<(u8, (usize, usize))> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let mut digits = at + 1;
        while *byte == b'%' && bytes.get(digits..).is_some_and(|rest| rest.starts_with(b"25")) {
            digits += 2;
        }
        let code = bytes.get(digits..digits + 2).filter(|code| *byte == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        let (byte, end) = match code.filter(u8::is_ascii_graphic) {
            Some(code) => (code, digits + 2),
            None => (*byte, at + 1),
        };
        out.push((byte, (at, end)));
        at = end;
    }
    out
}

/// Encodes `bytes` in base64 without padding, with `+/` or the URL-safe `-_`.
pub(super) fn base64(bytes: &[u8], urlsafe: bool) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let last = if urlsafe { [b'-', b'_'] } else { [b'+', b'/'] };
    let letter = |bits: u32| char::from(LETTERS.iter().chain(&last).nth(bits as usize & 63).copied().unwrap_or(b'='));
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let byte = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.extend([18, 12, 6, 0].iter().take(part.len() + 1).map(|shift| letter(bits >> shift)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Secrets, base64};

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let known = [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")];
        for (text, coded) in known {
            assert_eq!(base64(text.as_bytes(), false), coded);
        }
        assert_eq!((base64(&[255, 254], false), base64(&[255, 254], true)), ("//4".into(), "__4".into()));
    }

    #[test]
    fn secrets_are_hidden_in_every_form_and_truncated_anywhere() {
        const TOKEN: &str = "hf_SeCrEtToKeN0123456789";
        let mut secrets = Secrets::default();
        secrets.add(TOKEN);
        secrets.add("ab");
        let encoded: String = TOKEN.bytes().map(|b| format!("%{b:02x}")).collect();
        let twice = encoded.replace('%', "%25");
        let coded =
            ["", "x", "xy", "Bearer ", "user:"].map(|before| base64(format!("{before}{TOKEN}").as_bytes(), false));
        let forms = [TOKEN, &TOKEN.to_uppercase(), &TOKEN.replace('_', "%5F"), &encoded, &twice].map(str::to_owned);
        for form in forms.iter().chain(&coded) {
            let text = format!("before {form} after");
            let found = secrets.hide(&text);
            assert!(found.starts_with("before ") && found.ends_with(" after") && found.contains("(token)"), "{found}");
            assert!(found.len() < 40, "{text}: {found}");
        }
        for cut in 8..TOKEN.len() {
            assert_eq!(secrets.hide(&format!("Bearer {}", &TOKEN[..cut])), "Bearer (token)");
            assert_eq!(secrets.hide(&format!("é{}é", &TOKEN[TOKEN.len() - cut..])), "é(token)é");
        }
        let plain = "status 503 at https://host:443/a%20b?c=1, ab 100%";
        assert_eq!(secrets.hide(plain), plain);
        assert!(secrets.are_contained_in(&format!("x{TOKEN}x")) && !secrets.are_contained_in(&TOKEN[1..]));
    }
}
