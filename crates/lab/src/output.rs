//! Where a scenario's progress goes: to the terminal as it happens, or into memory while several run at the same time.

use std::sync::Mutex;

/// Lines of one scenario.
#[derive(Debug)]
pub enum Output {
    /// Printed at once.
    Live,
    /// Kept until somebody takes them.
    Kept(Mutex<String>),
    /// Not wanted.
    None,
}

impl Output {
    /// Lines that are kept.
    pub fn kept() -> Self {
        Self::Kept(Mutex::new(String::new()))
    }

    /// One or more lines, without the last line feed.
    pub fn line(&self, text: &str) {
        match self {
            Self::Live => println!("{text}"),
            Self::Kept(lines) => {
                let mut lines = lines.lock().expect("no scenario panics while it holds this");
                lines.push_str(text);
                lines.push('\n');
            }
            Self::None => {}
        }
    }

    /// What was kept.
    pub fn take(&self) -> String {
        match self {
            Self::Kept(lines) => {
                std::mem::take(&mut *lines.lock().expect("no scenario panics while it holds this"))
            }
            Self::Live | Self::None => String::new(),
        }
    }
}
