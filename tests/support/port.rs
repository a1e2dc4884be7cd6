//! Ports for servers that cannot be asked to choose one and say which.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A port that nothing listens on. It is none of those that the system lends to connections, so that a server may also
/// be ended and started again on it, and each process looks from another one on.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let from = process::id().wrapping_mul(PORTS_EACH);
    let numbers = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(PORTS as usize);
    let mut ports = numbers.map(|number| FIRST_PORT + (from.wrapping_add(number) % PORTS) as u16);
    ports.find(is_free).expect("a free port")
}

static NEXT: AtomicU32 = AtomicU32::new(0);
/// Linux lends those from 32,768 on.
const FIRST_PORT: u16 = 12_000;
const PORTS: u32 = 20_000;
const PORTS_EACH: u32 = 16;
