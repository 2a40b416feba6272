//! Attaching programs with tc: legacy filters on the `clsact` queueing discipline, which survive the process.
//!
//! Priority and handle are fixed, so that attaching replaces, in one step, whatever a predecessor attached.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use crate::netlink::RouteSocket;

/// First of all: a filter of others that accepts a packet would end the search before ours.
const PRIORITY: u16 = 1;
/// Ours among the BPF filters of that priority.
const HANDLE: u32 = 0x6776;
/// `ETH_P_ALL` in network order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Where on an interface a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// What arrived.
    Ingress,
    /// What leaves.
    Egress,
}

impl Hook {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: TcHandle::CLSACT.major, minor }
    }
}

/// Attaches a program, or replaces the one that is attached there under our priority and handle. `name` is what
/// `tc filter show` prints; it must start with [`NAME_PREFIX`].
pub(super) fn attach(interface: u32, hook: Hook, program: impl AsFd, name: &str) -> io::Result<()> {
    debug_assert!(name.starts_with(NAME_PREFIX));
    let mut socket = RouteSocket::open()?;
    add_clsact(&mut socket, interface)?;
    let mut message = filter(interface, hook);
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_fd().as_raw_fd() as u32)),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    socket.change(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Gives an interface no queueing discipline.
pub(super) fn set_noqueue(interface: u32) -> io::Result<()> {
    let mut message = TcMessage::with_index(interface as i32);
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("noqueue".into())];
    RouteSocket::open()?
        .change(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// All filters of ours begin with this; detaching looks for it.
pub(super) const NAME_PREFIX: &str = "gvpn_";

/// Removes our filters from an interface, and its `clsact` if nobody else has a filter there. True if there were any.
pub(super) fn detach(interface: u32) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    let mut found = false;
    for hook in Hook::BOTH {
        if filters(&mut socket, interface, hook)?.contains(&FilterOwner::Us) {
            found = true;
            let removed = socket.change(RouteNetlinkMessage::DelTrafficFilter(filter(interface, hook)), 0);
            ignore(removed, &[libc::ENOENT, libc::ENODEV, libc::EINVAL])?;
        }
    }
    if found && is_empty(&mut socket, interface)? {
        let mut message = TcMessage::with_index(interface as i32);
        message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        message.header.parent = TcHandle::CLSACT;
        let removed = socket.change(RouteNetlinkMessage::DelQueueDiscipline(message), 0);
        ignore(removed, &[libc::ENOENT, libc::ENODEV, libc::EINVAL])?;
    }
    Ok(found)
}

/// Both of our filters are there.
pub(super) fn is_attached(interface: u32) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    for hook in Hook::BOTH {
        if !filters(&mut socket, interface, hook)?.contains(&FilterOwner::Us) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn add_clsact(socket: &mut RouteSocket, interface: u32) -> io::Result<()> {
    let mut message = TcMessage::with_index(interface as i32);
    message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    message.header.parent = TcHandle::CLSACT;
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    let added = socket.change(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL);
    ignore(added, &[libc::EEXIST])
}

fn filter(interface: u32, hook: Hook) -> TcMessage {
    let mut message = TcMessage::with_index(interface as i32);
    message.header.handle = HANDLE.into();
    message.header.parent = hook.parent();
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(ALL_PROTOCOLS);
    message
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilterOwner {
    Us,
    Others,
}

fn filters(socket: &mut RouteSocket, interface: u32, hook: Hook) -> io::Result<Vec<FilterOwner>> {
    let mut message = TcMessage::with_index(interface as i32);
    message.header.parent = hook.parent();
    let listed = match socket.dump(RouteNetlinkMessage::GetTrafficFilter(message)) {
        Ok(listed) => listed,
        // No clsact there, or no such interface any longer: no filters.
        Err(error) => {
            return ignore(Err(error), &[libc::ENODEV, libc::EINVAL, libc::ENOENT]).map(|()| Vec::new());
        }
    };
    let filters = listed.iter().filter_map(|message| match message {
        // Each priority lists itself once without a handle, before its filters.
        RouteNetlinkMessage::NewTrafficFilter(message) if message.header.handle != TcHandle::UNSPEC => {
            Some(owner(message))
        }
        _ => None,
    });
    Ok(filters.collect())
}

fn owner(filter: &TcMessage) -> FilterOwner {
    let is_our_name = |option: &TcOption| matches!(option, TcOption::Bpf(TcFilterBpfOption::ProgName(name)) if name.starts_with(NAME_PREFIX));
    let has_our_name = filter.attributes.iter().any(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().any(is_our_name),
        _ => false,
    });
    if filter.header.handle == HANDLE.into() && has_our_name { FilterOwner::Us } else { FilterOwner::Others }
}

fn is_empty(socket: &mut RouteSocket, interface: u32) -> io::Result<bool> {
    for hook in Hook::BOTH {
        if !filters(socket, interface, hook)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Turns errors that mean "already so" into success.
fn ignore(result: io::Result<()>, errors: &[i32]) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error().is_some_and(|number| errors.contains(&number)) => Ok(()),
        other => other,
    }
}
