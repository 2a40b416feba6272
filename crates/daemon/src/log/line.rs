//! Makes a line of each entry for `traceoptions` files and `gvpn monitor`.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use control::MonitorEntry;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime as Rfc3339};
use tracing_subscriber::layer::Context;

use super::Log;

/// Longest text of one entry, in octets: what a peer made us log stays bounded whoever forgot to.
const LONGEST_MESSAGE: usize = 4096;

/// Feeds [`Log`].
pub struct LineLayer {
    log: Log,
}

impl LineLayer {
    /// A layer for a log.
    pub fn new(log: Log) -> Self {
        LineLayer { log }
    }
}

/// Whether an entry comes from us, or is serious: libraries have nothing else to say that an operator could use.
pub fn is_ours(metadata: &Metadata<'_>) -> bool {
    let library = ["hyper", "tokio", "mio", "axum", "netlink", "rtnetlink"]
        .iter()
        .any(|library| metadata.target().starts_with(library));
    !library || *metadata.level() <= Level::WARN
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut files = self.log.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let wanted = files.iter().any(|file| file.wants(metadata));
        let monitored = self.log.monitor.receiver_count() > 0 && *metadata.level() <= Level::DEBUG;
        if !wanted && !monitored {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let time = now();
        if wanted {
            let line = format!("{time} {:5} {}: {}", metadata.level(), metadata.target(), message.0);
            for file in files.iter_mut().filter(|file| file.wants(metadata)) {
                file.write(&line);
            }
        }
        if monitored {
            let entry = MonitorEntry {
                time,
                level: metadata.level().to_string(),
                target: metadata.target().to_owned(),
                message: message.0,
            };
            // Nobody listening is no error.
            let _ = self.log.monitor.send(entry);
        }
    }
}

fn now() -> String {
    let mut text = String::new();
    if Rfc3339.format_time(&mut Writer::new(&mut text)).is_err() {
        return format!("{:?}", SystemTime::now());
    }
    text
}

/// The message, then ` name=value` for each field, on one line.
#[derive(Default)]
struct Message(String);

impl Message {
    fn push(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let text = value.to_string();
        // A newline in a value must not look like another entry.
        let text: String =
            text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        if name == "message" {
            self.0.insert_str(0, &text);
        } else {
            let _ = write!(self.0, " {name}={text}");
        }
        if self.0.len() > LONGEST_MESSAGE {
            let end = (0..=LONGEST_MESSAGE).rev().find(|end| self.0.is_char_boundary(*end)).unwrap_or(0);
            self.0.truncate(end);
            self.0.push('…');
        }
    }
}

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), format_args!("{value:?}"));
    }
}
