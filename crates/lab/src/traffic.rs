//! Small hosts' programs for the scenarios: an echo service, a telnet-like session, a bulk transfer, a constant stream.
//! They exist so that a scenario can say exactly what was sent, what came back and what was lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::mesh::{Mesh, Verify};
use crate::multicast::{Announce, Hear};

/// Host programs.
#[derive(Debug, Subcommand)]
pub enum Traffic {
    /// Answer every TCP line and every UDP datagram on a port with itself.
    Echo {
        /// TCP and UDP port.
        #[arg(long, default_value_t = 23)]
        port: u16,
    },
    /// A telnet-like session: send lines, wait for each echo.
    Session {
        /// Peer.
        to: IpAddr,
        /// TCP port.
        #[arg(long, default_value_t = 23)]
        port: u16,
        /// Lines to send.
        #[arg(long, default_value_t = 20)]
        lines: u32,
    },
    /// Send octets through TCP to the echo service and compare what comes back.
    Transfer {
        /// Peer.
        to: IpAddr,
        /// TCP port.
        #[arg(long, default_value_t = 23)]
        port: u16,
        /// Octets each way.
        #[arg(long, default_value_t = 20_000_000)]
        octets: usize,
    },
    /// Send UDP datagrams as fast as one socket can for some seconds, then print how many.
    Flood {
        /// Peer.
        to: IpAddr,
        /// UDP port.
        #[arg(long, default_value_t = 9)]
        port: u16,
        /// How long.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Octets of each datagram.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Count UDP datagrams until none has come for half a second, then print how many and in how many seconds.
    Sink {
        /// UDP port.
        #[arg(long, default_value_t = 9)]
        port: u16,
    },
    /// Send UDP datagrams at a rate to the echo service until SIGINT, then print sent, received and lost.
    Stream {
        /// Peer.
        to: IpAddr,
        /// UDP port.
        #[arg(long, default_value_t = 23)]
        port: u16,
        /// Datagrams per second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// Datagrams to send; 0 goes on until SIGINT.
        #[arg(long, default_value_t = 0)]
        count: u64,
        /// Octets of each datagram, at least 8.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Send numbered packets to all other hosts and receive theirs, until told to stop.
    Mesh(Mesh),
    /// Compare what the hosts of a mesh sent and received.
    Verify(Verify),
    /// Send datagrams to a multicast group.
    Announce(Announce),
    /// Join a multicast group and wait for datagrams.
    Hear(Hear),
}

impl Traffic {
    /// Do it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Echo { port } => echo(port),
            Self::Session { to, port, lines } => session((to, port).into(), lines),
            Self::Transfer { to, port, octets } => transfer((to, port).into(), octets),
            Self::Mesh(mesh) => mesh.run(),
            Self::Verify(verify) => verify.run(),
            Self::Announce(announce) => announce.run(),
            Self::Hear(hear) => hear.run(),
            Self::Flood { to, port, seconds, size } => flood((to, port).into(), seconds, size),
            Self::Sink { port } => sink(port),
            Self::Stream { to, port, rate, count, size } => stream((to, port).into(), rate, count, size),
        }
    }
}

fn echo(port: u16) -> Result<()> {
    let udp = UdpSocket::bind(("0.0.0.0", port)).context("UDP port")?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            // A path that is closed for a moment is what some scenarios are about.
            let _ = udp.send_to(&buffer[..length], from);
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", port)).context("TCP port")?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut buffer = vec![0; 65_536];
            loop {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..length])?;
            }
        });
    }
    Ok(())
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn session(to: SocketAddr, lines: u32) -> Result<()> {
    let mut stream = connect(to)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for number in 1..=lines {
        let sent = format!("line {number} of the session\n");
        stream.write_all(sent.as_bytes())?;
        let mut received = String::new();
        reader.read_line(&mut received).with_context(|| format!("waiting for the echo of line {number}"))?;
        if received != sent {
            bail!("line {number} came back as {received:?}");
        }
    }
    println!("TCP session: {lines} lines sent, {lines} echoed");
    Ok(())
}

fn transfer(to: SocketAddr, octets: usize) -> Result<()> {
    let stream = connect(to)?;
    let mut writer = stream.try_clone()?;
    let start = Instant::now();
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let mut block = vec![0; 65_536];
        let mut position = 0;
        while position < octets {
            let length = block.len().min(octets - position);
            for (index, octet) in block[..length].iter_mut().enumerate() {
                *octet = pattern(position + index);
            }
            writer.write_all(&block[..length])?;
            position += length;
        }
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut reader = stream;
    let mut buffer = vec![0; 65_536];
    let mut position = 0;
    loop {
        let length = reader.read(&mut buffer).with_context(|| format!("after {position} octets"))?;
        if length == 0 {
            break;
        }
        for (index, octet) in buffer[..length].iter().enumerate() {
            if *octet != pattern(position + index) {
                bail!("octet {} differs", position + index);
            }
        }
        position += length;
    }
    sender.join().expect("the sender does not panic")?;
    if position != octets {
        bail!("{position} of {octets} octets came back");
    }
    let rate = octets as f64 * 16.0 / start.elapsed().as_secs_f64() / 1e6;
    println!("TCP transfer: {octets} octets each way, all equal, {rate:.0} Mbit/s both ways together");
    Ok(())
}

fn pattern(position: usize) -> u8 {
    (position ^ (position >> 8) ^ (position >> 16)) as u8
}

fn stream(to: SocketAddr, rate: u32, count: u64, size: usize) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())?;
    let receiver_socket = socket.try_clone()?;
    receiver_socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let finished = Arc::new(AtomicBool::new(false));
    let receiver_finished = finished.clone();
    let receiver = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        let mut received = 0u64;
        let mut quiet = 0;
        loop {
            match receiver_socket.recv(&mut buffer) {
                Ok(_) => {
                    received += 1;
                    quiet = 0;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    if receiver_finished.load(Ordering::Relaxed) {
                        quiet += 1;
                        if quiet == 3 {
                            return received;
                        }
                    }
                }
                // ICMP errors of a path that is closed for a moment.
                Err(_) => {}
            }
        }
    });
    let start = Instant::now();
    let mut sent = 0u64;
    let mut payload = vec![0; size.max(8)];
    while !stop.load(Ordering::Relaxed) && (count == 0 || sent < count) {
        payload[..8].copy_from_slice(&sent.to_be_bytes());
        let _ = socket.send(&payload);
        sent += 1;
        let due = start + Duration::from_secs_f64(sent as f64 / f64::from(rate.max(1)));
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
    }
    finished.store(true, Ordering::Relaxed);
    let received = receiver.join().expect("the receiver does not panic");
    println!("UDP stream: sent {sent}, echoed {received}, lost {}", sent - received.min(sent));
    Ok(())
}

fn flood(to: SocketAddr, seconds: u64, size: usize) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let payload = vec![0x5a; size];
    let start = Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..64 {
            // A full queue is what a flood is about.
            sent += u64::from(socket.send(&payload).is_ok());
        }
    }
    println!("sent {sent}");
    Ok(())
}

fn sink(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = vec![0; 65_535];
    let mut received = 0u64;
    let mut first = None;
    let mut last = Instant::now();
    while socket.recv(&mut buffer).is_ok() {
        last = Instant::now();
        if first.is_none() {
            first = Some(last);
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        }
        received += 1;
    }
    let seconds = first.map_or(0.0, |first| (last - first).as_secs_f64());
    println!("received {received} in {seconds:.6}");
    Ok(())
}
