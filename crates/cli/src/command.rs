//! What a command is: its words, its arguments, its help, and what it runs.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use control::{Filter, Level};
use serde::Serialize;
use serde_json::Value;

/// Everything outside the words of a command that it may depend on.
#[derive(Clone)]
pub struct Context {
    /// Where the daemon's socket is.
    pub runtime_directory: PathBuf,
    /// Seconds since 1970, for replies that count back from now.
    pub now_unix_secs: u64,
}

/// What a command has to say.
#[derive(Debug, Default)]
pub struct Output {
    /// The columns.
    pub text: String,
    /// The same for programs.
    pub json: Value,
    /// Whether the process ends well.
    pub success: bool,
}

impl Output {
    /// A reply and its rendering.
    pub fn new(text: String, reply: &impl Serialize) -> Result<Output> {
        Ok(Output { text, json: serde_json::to_value(reply)?, success: true })
    }

    /// Text that has no other form.
    pub fn text(text: String) -> Output {
        let json = Value::String(text.clone());
        Output { text, json, success: true }
    }
}

/// How an argument is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bare word.
    Flag,
    /// The word and a value of this description.
    Value,
    /// The value alone; at most one each.
    Positional,
    /// Every remaining word.
    Rest,
}

/// An argument of a command.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// The word; of a positional one its description.
    pub name: &'static str,
    /// How it is given.
    pub kind: Kind,
    /// One line.
    pub help: &'static str,
}

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its words, separated by spaces.
    pub words: &'static str,
    /// Its help: the first line is the summary.
    pub help: &'static str,
    /// What may follow the words, in any order.
    pub arguments: &'static [Argument],
    /// What it does.
    pub run: fn(&Context, &Arguments) -> Result<Output>,
}

/// Declares a command; its doc comment is its help.
macro_rules! command {
    ($(#[doc = $doc:literal])+ $name:ident = $words:literal, $arguments:expr, $run:expr;) => {
        $(#[doc = $doc])+
        pub const $name: $crate::command::Command = $crate::command::Command {
            words: $words,
            help: concat!($($doc, "\n"),+),
            arguments: $arguments,
            run: $run,
        };
    };
}
pub(crate) use command;

/// An argument that is a bare word.
pub const fn flag(name: &'static str, help: &'static str) -> Argument {
    Argument { name, kind: Kind::Flag, help }
}

/// An argument with a value.
pub const fn value(name: &'static str, help: &'static str) -> Argument {
    Argument { name, kind: Kind::Value, help }
}

/// An argument without a word.
pub const fn positional(name: &'static str, help: &'static str) -> Argument {
    Argument { name, kind: Kind::Positional, help }
}

/// `brief`.
pub const BRIEF: Argument = flag("brief", "One line each (default)");
/// `detail`.
pub const DETAIL: Argument = flag("detail", "Everything");
/// `peer-address A`.
pub const PEER_ADDRESS: Argument = value("peer-address", "Only this peer");
/// `group G`.
pub const GROUP: Argument = value("group", "Only the group of this name");
/// `group-id N`.
pub const GROUP_ID: Argument = value("group-id", "Only the group of this number");
/// `index N`.
pub const INDEX: Argument = value("index", "Only the entry of this index");
/// `vpn V`.
pub const VPN: Argument = value("vpn", "Only this VPN");

/// The arguments that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    given: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Reads what follows the words of a command. Words may be shortened; `--name` is read as `name`.
    pub fn parse(command: &Command, tokens: &[String]) -> Result<Arguments> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        let mut tokens = tokens.iter();
        while let Some(token) = tokens.next() {
            let argument = find(command, token, &given)?;
            if argument.kind != Kind::Rest && given.iter().any(|(name, _)| *name == argument.name) {
                bail!("`{}` is given twice", argument.name);
            }
            let value = match argument.kind {
                Kind::Flag => String::new(),
                Kind::Value => tokens
                    .next()
                    .with_context(|| format!("`{}` needs a value: {}", argument.name, argument.help))?
                    .clone(),
                Kind::Positional | Kind::Rest => token.clone(),
            };
            given.push((argument.name, value));
        }
        Ok(Arguments { given })
    }

    /// The value of an argument, empty for a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Every value of an argument.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The filter that the arguments make up.
    pub fn filter(&self) -> Result<Filter> {
        fn number(name: &str, value: Option<&str>) -> Result<Option<u32>> {
            value
                .map(|value| value.parse().with_context(|| format!("{name} `{value}` is not a number")))
                .transpose()
        }
        if self.has("brief") && self.has("detail") {
            bail!("`brief` and `detail` exclude each other");
        }
        let peer_address = self
            .value("peer-address")
            .map(|value| value.parse::<IpAddr>().with_context(|| format!("`{value}` is not an IP address")))
            .transpose()?;
        Ok(Filter {
            level: if self.has("detail") { Level::Detail } else { Level::Brief },
            peer_address,
            group: self.value("group").map(str::to_owned),
            group_id: number("group-id", self.value("group-id"))?,
            index: number("index", self.value("index"))?,
            vpn: self.value("vpn").map(str::to_owned),
            peer_gateway: self.value("peer-gateway").map(str::to_owned),
            now: self.has("now"),
            tunnel: self.has("tunnel"),
        })
    }
}

fn find(command: &Command, token: &str, given: &[(&'static str, String)]) -> Result<Argument> {
    let bare = token.strip_prefix("--").unwrap_or(token);
    let named = |argument: &&Argument| matches!(argument.kind, Kind::Flag | Kind::Value);
    if let Some(exact) = command.arguments.iter().filter(named).find(|argument| argument.name == bare) {
        return Ok(*exact);
    }
    let free = command.arguments.iter().find(|argument| match argument.kind {
        Kind::Rest => true,
        Kind::Positional => !given.iter().any(|(name, _)| *name == argument.name),
        Kind::Flag | Kind::Value => false,
    });
    if let Some(free) = free
        && (bare == token)
    {
        return Ok(*free);
    }
    let mut matching =
        command.arguments.iter().filter(named).filter(|argument| argument.name.starts_with(bare));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(*only),
        (Some(first), Some(second)) => bail!("`{token}` is ambiguous: {}, {}, ...", first.name, second.name),
        (None, _) => {
            let known: Vec<&str> = command.arguments.iter().map(|argument| argument.name).collect();
            match known.is_empty() {
                true => bail!("unexpected `{token}`: `{}` takes no arguments", command.words),
                false => {
                    bail!("unexpected `{token}` after `{}`; possible: {}", command.words, known.join(", "))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: Command = Command {
        words: "load",
        help: "",
        arguments: &[
            positional("FILE", "a file"),
            flag("relative", ""),
            flag("merge", ""),
            value("at", "a path"),
            GROUP,
            GROUP_ID,
        ],
        run: |_, _| Ok(Output::default()),
    };

    fn parse(tokens: &[&str]) -> Result<Arguments> {
        Arguments::parse(&COMMAND, &tokens.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_come_in_any_order_and_may_be_shortened() {
        let arguments = parse(&["merge", "x.conf", "--at", "security group-vpn"]).unwrap();
        assert_eq!(arguments.value("FILE"), Some("x.conf"));
        assert_eq!(arguments.value("at"), Some("security group-vpn"));
        assert!(arguments.has("merge"));
        assert!(parse(&["x.conf", "rel"]).unwrap().has("relative"));
        assert_eq!(parse(&["-", "group", "g1"]).unwrap().filter().unwrap().group.as_deref(), Some("g1"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (tokens, message) in [
            (&["x", "y"][..], "unexpected `y`"),
            (&["x", "g", "1"], "ambiguous"),
            (&["x", "at"], "needs a value"),
            (&["x", "merge", "merge"], "twice"),
        ] {
            assert!(parse(tokens).unwrap_err().to_string().contains(message), "{tokens:?}");
        }
    }
}
