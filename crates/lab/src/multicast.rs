//! Plain UDP to a multicast group: proves that a network carries it before anything of ours depends on that.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

/// Send numbered datagrams to a group.
#[derive(Debug, Args)]
pub struct Announce {
    /// The group.
    group: Ipv4Addr,
    /// Own address: one of the loopback makes them leave where the multicast routes point.
    #[arg(long)]
    from: Ipv4Addr,
    /// UDP port of the group.
    #[arg(long, default_value_t = 8480)]
    port: u16,
    /// How many, ten a second.
    #[arg(long, default_value_t = 30)]
    count: u32,
}

/// Join a group and print what comes.
#[derive(Debug, Args)]
pub struct Hear {
    /// The group.
    group: Ipv4Addr,
    /// Address of the interface that joins.
    #[arg(long)]
    at: Ipv4Addr,
    /// UDP port of the group.
    #[arg(long, default_value_t = 8480)]
    port: u16,
    /// How many different datagrams to wait for.
    #[arg(long, default_value_t = 5)]
    count: u32,
    /// How long to wait for them.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

impl Announce {
    /// Send them.
    pub fn run(self) -> Result<()> {
        let socket = UdpSocket::bind((self.from, 0))?;
        socket.set_multicast_ttl_v4(16)?;
        // The copy that the loopback receives is the one that a multicast router forwards; a second one is not wanted.
        socket.set_multicast_loop_v4(false)?;
        for number in 0..self.count {
            socket.send_to(&number.to_be_bytes(), (self.group, self.port)).context("sending to the group")?;
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("sent {}", self.count);
        Ok(())
    }
}

impl Hear {
    /// Wait for them.
    pub fn run(self) -> Result<()> {
        let socket = UdpSocket::bind((self.group, self.port))?;
        socket.join_multicast_v4(&self.group, &self.at)?;
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut heard = std::collections::BTreeSet::new();
        let mut buffer = [0; 2048];
        while heard.len() < self.count as usize {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                bail!("{} of {} datagrams to {}", heard.len(), self.count, self.group);
            };
            socket.set_read_timeout(Some(left))?;
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if !heard.insert(buffer[..length].to_vec()) {
                bail!("a datagram to {} came twice", self.group);
            }
            if heard.len() == 1 {
                println!("first datagram to {} came from {}", self.group, from.ip());
            }
        }
        println!("{} different datagrams to {}, none twice", heard.len(), self.group);
        Ok(())
    }
}
