//! Where secrets stand in a text.

use super::token::{Token, tokens};
use crate::place::Span;

/// Where in a text pre-shared keys stand: from their statement's name to its end. Reports never quote these places.
pub(crate) fn secret_places(text: &str) -> Vec<Span> {
    let tokens = tokens(text, &mut Vec::new());
    let mut places = Vec::new();
    let mut from: Option<(Span, Span)> = None;
    let mut before = String::new();
    for (token, span) in tokens {
        let word = match &token {
            Token::Word(word) => word.as_str(),
            _ => "",
        };
        let begins = match word {
            "pre-shared-key" => before != "authentication-method",
            "ascii-text" | "hexadecimal" => true,
            _ => false,
        };
        let command = matches!(word, "set" | "delete" | "activate" | "deactivate");
        from = match (&token, from) {
            (Token::Word(_), Some((first, last))) if command && span.line != last.line => {
                places.push(first.to(last));
                None
            }
            (Token::Word(_) | Token::Quoted(_) | Token::Open, Some((first, _))) => Some((first, span)),
            (_, Some((first, last))) => {
                places.push(first.to(last));
                None
            }
            (_, None) => begins.then_some((span, span)),
        };
        word.clone_into(&mut before);
    }
    places.extend(from.map(|(first, last)| first.to(last)));
    places
}
