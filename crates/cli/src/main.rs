//! `gvpn`: the operator command.

mod check;
mod clear;
mod client;
mod clock;
mod columns;
mod command;
mod commit;
mod completions;
mod decode;
mod diagnostics;
mod input;
mod load;
mod metrics;
mod monitor;
mod monitor_traffic;
mod pipe;
mod show;
mod status;
mod words;
mod xml;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use command::{Arguments, Command, Context, Kind};
use pipe::Stage;

const DEFAULT_RUNTIME_DIRECTORY: &str = "/run/groupvpn";

/// Every command, in the order of the help.
const COMMANDS: &[Command] = &[
    show::server_ike::SERVER_IKE,
    show::server_ipsec::SERVER_IPSEC,
    show::server_kek::SERVER_KEK,
    show::server_members::SERVER_MEMBERS,
    show::server_statistics::SERVER_STATISTICS,
    show::server_cluster::SERVER_CLUSTER,
    show::member_ike::MEMBER_IKE,
    show::member_ipsec::MEMBER_IPSEC,
    show::member_statistics::MEMBER_STATISTICS,
    show::member_inactive::MEMBER_INACTIVE,
    show::member_kek::MEMBER_KEK,
    show::member_policy::MEMBER_POLICY,
    show::dynamic_policies::DYNAMIC_POLICIES,
    show::flow_session::FLOW_SESSION,
    show::configuration::CONFIGURATION,
    clear::SERVER_IKE,
    clear::SERVER_STATISTICS,
    clear::SERVER_GROUP,
    clear::MEMBER_IKE,
    clear::MEMBER_IPSEC,
    clear::MEMBER_GROUP,
    clear::MEMBER_STATISTICS,
    check::CHECK,
    commit::COMMIT,
    load::LOAD,
    status::STATUS,
    decode::DECODE,
    monitor::MONITOR,
    metrics::METRICS,
    monitor_traffic::MONITOR_TRAFFIC,
    completions::COMPLETIONS,
    completions::COMPLETE,
];

fn main() -> ExitCode {
    let outcome = run(std::env::args().skip(1).collect());
    match outcome {
        Ok((text, success)) => {
            // A reader that went away (`gvpn … | head`) is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "gvpn: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What goes to standard output, and whether the process ends well.
fn run(arguments: Vec<String>) -> Result<(String, bool)> {
    let (options, arguments) = Options::split(arguments)?;
    if options.version {
        return Ok((format!("gvpn {}\n", env!("CARGO_PKG_VERSION")), true));
    }
    let (words, mut stages) = pipe::split(&arguments)?;
    if options.help || words.is_empty() {
        return Ok((help(&words)?, options.help));
    }
    if options.json && !stages.iter().any(|stage| matches!(stage, Stage::Json | Stage::Xml)) {
        stages.insert(0, Stage::Json);
    }
    let (command, rest) = words::resolve(COMMANDS, &words)?;
    let given = Arguments::parse(command, rest)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let context = Context { runtime_directory: options.runtime_directory, now_unix_secs: now.as_secs() };
    let output = match configuration_form(command, &stages) {
        Some(form) => show::configuration::show(&context, &given, form)?,
        None => (command.run)(&context, &given)?,
    };
    if command.words == show::configuration::CONFIGURATION.words {
        stages.retain(|stage| !matches!(stage, Stage::Json | Stage::Xml | Stage::Set));
    }
    Ok((pipe::apply(&output, &stages)?, output.success))
}

/// The daemon renders configurations: forms of the whole language are its business.
fn configuration_form(command: &Command, stages: &[Stage]) -> Option<&'static str> {
    if command.words != show::configuration::CONFIGURATION.words {
        return None;
    }
    stages.iter().find_map(|stage| match stage {
        Stage::Json => Some("json"),
        Stage::Xml => Some("xml"),
        Stage::Set => Some("set"),
        Stage::Match(_) | Stage::Except(_) | Stage::Count | Stage::NoMore => None,
    })
}

/// Options that may stand anywhere before a pipe.
struct Options {
    runtime_directory: PathBuf,
    json: bool,
    help: bool,
    version: bool,
}

impl Options {
    fn split(arguments: Vec<String>) -> Result<(Options, Vec<String>)> {
        let mut options = Options {
            runtime_directory: PathBuf::from(DEFAULT_RUNTIME_DIRECTORY),
            json: false,
            help: false,
            version: false,
        };
        let mut rest = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--runtime-dir" => {
                    options.runtime_directory =
                        arguments.next().context("--runtime-dir needs a directory")?.into();
                }
                "--json" => options.json = true,
                "--help" | "-h" | "?" => options.help = true,
                "--version" | "-V" => options.version = true,
                _ if argument.starts_with("--runtime-dir=") => {
                    options.runtime_directory = argument["--runtime-dir=".len()..].into();
                }
                _ if argument.trim_start().starts_with('|') => {
                    rest.push(argument);
                    rest.extend(arguments.by_ref());
                }
                _ => rest.push(argument),
            }
        }
        Ok((options, rest))
    }
}

/// The help of the commands that the words lead to.
fn help(words: &[String]) -> Result<String> {
    if !words.is_empty()
        && let Ok((command, _)) = words::resolve(COMMANDS, words)
    {
        return Ok(command_help(command));
    }
    let mut text = String::from(
        "gvpn [--runtime-dir DIR] [--json] COMMAND … ['| display json|xml|set'] ['| match RE'] ['| count']\n\n\
         Words may be shortened as long as they are unambiguous; --help after some words tells more.\n\n",
    );
    let wanted: Vec<&Command> = COMMANDS
        .iter()
        .filter(|command| {
            let mut of_command = command.words.split(' ');
            words.iter().all(|word| of_command.next().is_some_and(|known| known.starts_with(word.as_str())))
        })
        .filter(|command| command.words != completions::COMPLETE.words)
        .collect();
    if wanted.is_empty() {
        bail!("no command starts with `{}`", words.join(" "));
    }
    for command in wanted {
        text.push_str(&format!("{}\n    {}\n", usage(command), command.summary()));
    }
    Ok(text)
}

fn usage(command: &Command) -> String {
    let mut text = command.words.to_owned();
    for argument in command.arguments {
        text.push_str(&match argument.kind {
            Kind::Flag => format!(" [{}]", argument.name),
            Kind::Value => format!(" [{} …]", argument.name),
            Kind::Positional => format!(" [{}]", argument.name),
            Kind::Rest => format!(" [{} …]", argument.name),
        });
    }
    text
}

fn command_help(command: &Command) -> String {
    let about: String = command.help.lines().map(|line| format!("{}\n", line.trim())).collect();
    let mut text = format!("{}\n\n{about}", usage(command));
    if !command.arguments.is_empty() {
        let rows: Vec<Vec<String>> = command
            .arguments
            .iter()
            .map(|argument| vec![argument.name.into(), argument.help.into()])
            .collect();
        text.push('\n');
        text.push_str(&columns::columns("  ", &["Argument", "Meaning"], &[], &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gvpn(words: &[&str]) -> Result<(String, bool)> {
        run(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_missing_daemon_is_told_with_the_name_of_its_socket() {
        let error = gvpn(&["--runtime-dir", "/nonexistent", "status"]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/gvpnd.sock") && error.contains("is gvpnd running"), "{error}");
    }

    #[test]
    fn help_lists_what_the_words_lead_to() {
        insta::assert_snapshot!(gvpn(&["--help"]).unwrap().0);
        let (text, _) = gvpn(&["show", "security", "group-vpn", "server", "--help"]).unwrap();
        assert!(text.contains("registered-members") && !text.contains("member ipsec"), "{text}");
        insta::assert_snapshot!(gvpn(&["load", "--help"]).unwrap().0);
    }

    #[test]
    fn completion_words_follow_the_tree() {
        let (text, _) =
            gvpn(&["complete-words", "show", "security", "group-vpn", "member", "ipsec"]).unwrap();
        assert_eq!(text, "security-associations\nstatistics\ninactive-tunnels\n");
    }
}
