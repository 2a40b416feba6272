//! What a row of the schema table says about one statement.

/// Whether a statement has its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has.
    Active,
    /// Accepted, kept, shown back, without effect so far: what the feature is called.
    NotYet(&'static str),
    /// Accepted, kept, shown back: another program does this on Linux.
    Elsewhere,
}

/// One word of an enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it has its effect.
    pub status: Status,
}

/// A word that has its effect.
pub(super) const fn choice(word: &'static str, help: &'static str) -> Choice {
    Choice { word, help, status: Status::Active }
}

/// A word whose effect comes later.
pub(super) const fn later(word: &'static str, help: &'static str, feature: &'static str) -> Choice {
    Choice { word, help, status: Status::NotYet(feature) }
}

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A name of 1..=max characters.
    Name(usize),
    /// Free text of 1..=max characters.
    Text(usize),
    /// A whole number.
    Number {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
        /// What it counts; may be empty.
        unit: &'static str,
    },
    /// A number of seconds whose least value `security group-vpn test-lifetimes` lowers.
    Timer {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
        /// Least in tests.
        test_min: u64,
    },
    /// One of these words.
    Words(&'static [Choice]),
    /// An IPv4 address, or an IPv6 address where the second cell says so.
    Address,
    /// A group address that routers forward.
    Multicast,
    /// A prefix, IPv4 or IPv6.
    Prefix,
    /// An address with its prefix length, such as an interface has.
    InterfaceAddress,
    /// An interface name.
    Interface,
    /// A secret as text or `$9$`.
    SecretText,
    /// A secret as hexadecimal digits or `$9$`.
    SecretHexadecimal,
    /// A file size: digits with k, m or g.
    Size,
    /// A regular expression.
    Expression,
    /// `anti-replay-time-window`: seconds, or milliseconds with `ms`.
    Window,
    /// An IP protocol by number or name.
    Protocol,
    /// One port or `first-last`, by number or name.
    Ports,
    /// An FQDN, user@FQDN and the like.
    Identity,
}

/// What a statement is.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Holds statements.
    Container,
    /// Holds statements, once for each key.
    List {
        /// Form of each key.
        keys: &'static [Value],
    },
    /// One value.
    Leaf(Value),
    /// Several values, written in brackets or repeated.
    Leaves {
        /// Form of each.
        value: Value,
        /// Most values.
        max: usize,
    },
    /// Stands alone.
    Flag,
    /// Holds anything; nothing inside is looked at.
    Foreign,
    /// The same statements as at that path.
    Same(&'static str),
}

/// One statement of the language.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its path, levels divided by ` / `; `<key>` stands for a key.
    pub path: &'static str,
    /// What it is.
    pub shape: Shape,
    /// One line for completion and documentation.
    pub help: &'static str,
    /// Value where it is not written; empty: none.
    pub default: &'static str,
    /// More to know; may be empty.
    pub meaning: &'static str,
    /// Whether it has its effect.
    pub status: Status,
    /// Written on one line: `pre-shared-key ascii-text "..."`.
    pub one_line: bool,
    /// Statements inside that the table does not know are kept instead of refused.
    pub open: bool,
    /// Its name is not written: `file NAME`.
    pub nameless: bool,
    /// At most so many siblings of the kind; 0: no limit.
    pub most: usize,
    /// Not offered by completion.
    pub hidden: bool,
}

impl Row {
    const fn new(path: &'static str, shape: Shape, help: &'static str) -> Row {
        Row {
            path,
            shape,
            help,
            default: "",
            meaning: "",
            status: Status::Active,
            one_line: false,
            open: false,
            nameless: false,
            most: 0,
            hidden: false,
        }
    }

    pub(super) const fn default(mut self, default: &'static str) -> Row {
        self.default = default;
        self
    }

    pub(super) const fn meaning(mut self, meaning: &'static str) -> Row {
        self.meaning = meaning;
        self
    }

    pub(super) const fn not_yet(mut self, feature: &'static str) -> Row {
        self.status = Status::NotYet(feature);
        self
    }

    pub(super) const fn elsewhere(mut self) -> Row {
        self.status = Status::Elsewhere;
        self
    }

    pub(super) const fn one_line(mut self) -> Row {
        self.one_line = true;
        self
    }

    pub(super) const fn open(mut self) -> Row {
        self.open = true;
        self
    }

    pub(super) const fn nameless(mut self) -> Row {
        self.nameless = true;
        self
    }

    pub(super) const fn most(mut self, most: usize) -> Row {
        self.most = most;
        self
    }

    pub(super) const fn hidden(mut self) -> Row {
        self.hidden = true;
        self
    }

    /// Name of the statement: the first word of its last level.
    pub fn name(&self) -> &'static str {
        let last = self.path.rsplit(" / ").next().unwrap_or(self.path);
        last.split(' ').next().unwrap_or(last)
    }

    /// Path of the statement that holds it; empty at the top.
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once(" / ").map_or("", |(parent, _)| parent)
    }

    /// Words between the keys of a list: `from-zone <zone> to-zone <zone>` has `to-zone` before its second key.
    pub(crate) fn key_word(&self, key: usize) -> Option<&'static str> {
        let last = self.path.rsplit(" / ").next().unwrap_or(self.path);
        let mut seen = 0;
        let mut pending = None;
        for word in last.split(' ').skip(usize::from(!self.is_unnamed())) {
            if word.starts_with('<') {
                if seen == key {
                    return pending;
                }
                seen += 1;
                pending = None;
            } else {
                pending = Some(word);
            }
        }
        None
    }

    /// Whether the entry of a list has no name before its key: `interfaces / <interface>`.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.name().starts_with('<')
    }
}

pub(super) const fn container(path: &'static str, help: &'static str) -> Row {
    Row::new(path, Shape::Container, help)
}

pub(super) const fn list(path: &'static str, keys: &'static [Value], help: &'static str) -> Row {
    Row::new(path, Shape::List { keys }, help)
}

pub(super) const fn leaf(path: &'static str, value: Value, help: &'static str) -> Row {
    Row::new(path, Shape::Leaf(value), help)
}

pub(super) const fn leaves(path: &'static str, value: Value, max: usize, help: &'static str) -> Row {
    Row::new(path, Shape::Leaves { value, max }, help)
}

pub(super) const fn flag(path: &'static str, help: &'static str) -> Row {
    Row::new(path, Shape::Flag, help)
}

pub(super) const fn foreign(path: &'static str, help: &'static str) -> Row {
    let mut row = Row::new(path, Shape::Foreign, help);
    row.status = Status::Elsewhere;
    row
}

pub(super) const fn same(path: &'static str, as_at: &'static str, help: &'static str) -> Row {
    Row::new(path, Shape::Same(as_at), help)
}

impl Value {
    /// What is expected, with its range, for messages and documentation.
    pub fn expectation(&self) -> String {
        match self {
            Value::Name(max) => format!("a name of 1..{max} characters"),
            Value::Text(max) => format!("text of 1..{max} characters"),
            Value::Number { min, max, unit: "" } => format!("a number {min}..{max}"),
            Value::Number { min, max, unit } => format!("{min}..{max} {unit}"),
            Value::Timer { min, max, .. } => format!("{min}..{max} seconds"),
            Value::Words(choices) => {
                let words: Vec<&str> = choices.iter().map(|choice| choice.word).collect();
                match words.split_last() {
                    Some((last, [])) => (*last).to_owned(),
                    Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                    None => String::new(),
                }
            }
            Value::Address => "an IP address".to_owned(),
            Value::Multicast => {
                "a group address 224.0.1.0..239.255.255.255, or of IPv6 beyond the link".to_owned()
            }
            Value::Prefix => "a prefix such as 10.1.0.0/16 or 2001:db8::/32".to_owned(),
            Value::InterfaceAddress => "an address with its prefix length, such as 10.1.1.2/24".to_owned(),
            Value::Interface => "an interface name such as ge-0/0/1.0, lo0.0 or eth1".to_owned(),
            Value::SecretText => "a pre-shared key of 1..255 characters, or its $9$ form".to_owned(),
            Value::SecretHexadecimal => {
                "an even number of hexadecimal digits, 2..254, or their $9$ form".to_owned()
            }
            Value::Size => "a size such as 512k, 10m or 1g (10k..1g)".to_owned(),
            Value::Expression => "a regular expression".to_owned(),
            Value::Window => "60..360 seconds, or 1..60000 milliseconds written as `<n>ms`".to_owned(),
            Value::Protocol => "an IP protocol, 0..254 or a name such as tcp".to_owned(),
            Value::Ports => "a port 0..65535, or first-last".to_owned(),
            Value::Identity => "an identity of 1..255 characters".to_owned(),
        }
    }

    /// How the value is written in the syntax column of the documentation.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Value::Name(_) => "<name>",
            Value::Text(_) => "<text>",
            Value::Number { .. } | Value::Timer { .. } => "<number>",
            Value::Words(_) => "<word>",
            Value::Address | Value::Multicast => "<address>",
            Value::Prefix | Value::InterfaceAddress => "<prefix>",
            Value::Interface => "<interface>",
            Value::SecretText | Value::SecretHexadecimal => "<secret>",
            Value::Size => "<size>",
            Value::Expression => "<expression>",
            Value::Window => "<window>",
            Value::Protocol => "<protocol>",
            Value::Ports => "<ports>",
            Value::Identity => "<identity>",
        }
    }

    /// Whether the value must never be printed.
    pub fn is_secret(&self) -> bool {
        matches!(self, Value::SecretText | Value::SecretHexadecimal)
    }
}
