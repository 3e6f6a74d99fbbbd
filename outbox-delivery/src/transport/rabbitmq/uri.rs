//! The URL of a broker.

use std::net::Ipv6Addr;

use lapin::uri::AMQPUri;
use outbox_traits::PublishError;

/// Reads a URL that names its host. The client's own reader knows names and addresses of IPv4 alone, and means
/// `localhost` where there is anything else, or nothing.
pub(super) fn uri(url: &str) -> Result<AMQPUri, PublishError> {
    // What the client's reader cuts off, too.
    let url = url.trim_matches(|letter| letter <= ' ');
    read(url).ok_or_else(|| {
        // Not the reader's error, which says the whole URL, with the password.
        PublishError::unavailable(
            "the URL of RabbitMQ cannot be read: write it as amqp://user:password@host:5672/vhost, with an address of \
             IPv6 in brackets",
        )
    })
}

/// The host and the port, as a URL has them.
pub(super) fn address(uri: &AMQPUri) -> String {
    let (host, port) = (&uri.authority.host, uri.authority.port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn read(url: &str) -> Option<AMQPUri> {
    // The client's reader leaves tabs and ends of lines out, and would find another host than is looked at here.
    if url.contains(char::is_control) {
        return None;
    }
    let (_, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut uri: AMQPUri = url.parse().ok()?;
    if let Some(bracketed) = host.strip_prefix('[') {
        let address: Ipv6Addr = bracketed.split_once(']')?.0.parse().ok()?;
        // Without brackets, as those want it who connect to it and look at its certificate.
        uri.authority.host = address.to_string();
    } else if host.is_empty() || host.starts_with(':') {
        return None;
    }
    Some(uri)
}
