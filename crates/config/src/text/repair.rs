//! Pasted listings whose braces do not match because they were cut at page breaks.

use super::token::Token;
use crate::finding::{Finding, Kind};
use crate::place::Span;

/// How often surplus closing braces of a pasted text are explained by a page break before we give up.
const MAX_REPAIRS: usize = 16;

/// A listing that was cut at a page break often has its open blocks closed before the break and again at the real end.
/// Where braces close more than was opened, and the statements before them follow a run of at least as many closing
/// braces, those are dropped; a warning says so. Only for pasted text, where the alternative is to refuse it.
pub(super) fn join_pages(tokens: &mut Vec<(Token, Span)>, findings: &mut Vec<Finding>) {
    for _ in 0..MAX_REPAIRS {
        let mut depth = 0usize;
        let Some(surplus) = tokens.iter().position(|(token, _)| match token {
            Token::Open => {
                depth += 1;
                false
            }
            Token::Close if depth == 0 => true,
            Token::Close => {
                depth -= 1;
                false
            }
            _ => false,
        }) else {
            return;
        };
        let count = tokens[surplus..].iter().take_while(|(token, _)| *token == Token::Close).count();
        let before = &tokens[..surplus];
        let Some(early) = before
            .iter()
            .rposition(|(token, _)| matches!(token, Token::Open | Token::Close | Token::Prompt(_)))
        else {
            return;
        };
        let first =
            before[..=early].iter().rposition(|(token, _)| *token != Token::Close).map_or(0, |at| at + 1);
        if early + 1 == surplus || (early + 1).saturating_sub(first) < count {
            return;
        }
        let from = early + 1 - count;
        let place = tokens[from].1;
        findings.push(
            Finding::warning(
                Kind::Syntax,
                place,
                "",
                format!(
                    "{count} block{} closed here and again on line {}: read as one listing that was cut at a page break",
                    if count == 1 { " is" } else { "s are" },
                    tokens[surplus].1.line
                ),
            )
            .remedy(format!("remove the closing brace{} on this line", if count == 1 { "" } else { "s" })),
        );
        tokens.drain(from..=early);
    }
}

/// A pasted listing may lack closing braces. Where that is so, a line that starts no further right than the statement
/// which opened the block around it ends that block; a warning says so.
pub(super) fn close_blocks(tokens: &mut Vec<(Token, Span)>, findings: &mut Vec<Finding>) {
    let mut from = 0;
    while from < tokens.len() {
        let is_prompt = |(token, _): &(Token, Span)| matches!(token, Token::Prompt(_));
        let to = tokens[from..].iter().position(is_prompt).map_or(tokens.len(), |at| from + at);
        let count = |wanted: Token| tokens[from..to].iter().filter(|(token, _)| *token == wanted).count();
        let mut missing = count(Token::Open).saturating_sub(count(Token::Close));
        let mut heads: Vec<(u32, Span)> = Vec::new();
        let mut head = None;
        let mut at = from;
        let mut end = to;
        let mut line = 0;
        while at < end && missing > 0 {
            let (token, span) = tokens[at].clone();
            if head.is_none() && span.line != line && token != Token::Close {
                while let Some((column, opened)) = heads.last().copied().filter(|_| missing > 0) {
                    if span.column > column {
                        break;
                    }
                    let message = format!("the block of line {} is not closed before this line", opened.line);
                    let finding = Finding::warning(Kind::Syntax, span, "", message);
                    findings.push(finding.remedy("add the missing `}` before it"));
                    tokens.insert(at, (Token::Close, span));
                    heads.pop();
                    missing -= 1;
                    at += 1;
                    end += 1;
                }
            }
            match token {
                Token::Open => {
                    heads.push(head.take().map_or((span.column, span), |head: Span| (head.column, head)))
                }
                Token::Close => {
                    heads.pop();
                    head = None;
                }
                Token::End => head = None,
                _ => head = head.or(Some(span)),
            }
            line = span.line;
            at += 1;
        }
        from = end + 1;
    }
}
