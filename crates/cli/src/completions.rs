//! `gvpn completions` and what the shell's script calls.

use anyhow::{Result, bail};

use crate::command::{Argument, Arguments, Context, Kind, Output, command, positional};
use crate::{COMMANDS, words};

command! {
    /// Print the completion script of a shell: `source <(gvpn completions bash)`.
    COMPLETIONS = "completions", &[positional("SHELL", "bash")], script;
}

command! {
    /// Words that may follow; for completion scripts.
    COMPLETE = "complete-words", &[Argument { name: "WORD", kind: Kind::Rest, help: "Words so far" }], complete;
}

const BASH: &str = r#"_gvpn() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local words=() word skip=
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [ -n "$skip" ]; then skip=; continue; fi
        case $word in --runtime-dir) skip=1 ;; --*) ;; *) words+=("$word") ;; esac
    done
    COMPREPLY=($(compgen -W "$(gvpn complete-words "${words[@]}" 2>/dev/null)" -- "$current"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _gvpn gvpn
"#;

fn script(_: &Context, arguments: &Arguments) -> Result<Output> {
    match arguments.value("SHELL") {
        Some("bash") => Ok(Output::text(BASH.to_owned())),
        Some(other) => bail!("no completions for `{other}`; there are some for bash"),
        None => bail!("completions needs a shell: bash"),
    }
}

fn complete(_: &Context, arguments: &Arguments) -> Result<Output> {
    let tokens: Vec<String> = arguments.values("WORD").map(str::to_owned).collect();
    Ok(Output::text(words::completions(COMMANDS, &tokens).into_iter().map(|(word, _)| word + "\n").collect()))
}
