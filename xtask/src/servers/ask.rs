//! Asking a server whether it is there, without a driver.

use std::io::{Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The first bytes that the server on this port says: by itself, or when asked this.
pub(crate) fn ask<const N: usize>(port: u16, question: &[u8]) -> Result<[u8; N]> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let patience = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(question)?;
    let mut start = [0; N];
    stream.read_exact(&mut start)?;
    Ok(start)
}
