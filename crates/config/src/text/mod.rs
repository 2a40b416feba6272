//! Text to statements: lexer and grammar, before any statement has a meaning.

mod grammar;
mod repair;
mod secrets;
mod token;

pub(crate) use grammar::{Command, Item, MAX_DEPTH, Section, Statement, Tag, parse};
pub(crate) use secrets::secret_places;
pub use token::Word;
pub(crate) use token::written;
